/** The uploads that are not finished, also those of an earlier visit, each with its progress, steps and actions. */

import { Row } from "./row.js";

const queue = document.querySelector("#queue");

/**
 * List the uploads: `take` adds files and starts to upload them, and `isListed` tells whether a media is among them.
 *
 * A finished upload leaves the list: `onReady` gets its media and its steps, and shows both.
 */
export function uploads({ helper, getToken, prefix, checksum, onReady, onChange }) {
  const rows = [];
  let finished = 0;
  const count = document.querySelector("#queue-count");
  const clear = document.querySelector("#clear");
  const showCount = () => {
    document.querySelector("#queue-head").hidden = rows.length + finished === 0;
    count.textContent = `${finished} of ${rows.length + finished} uploaded`;
    clear.hidden = rows.filter((row) => row.isOver).length < 2;
  };
  const callbacks = {
    onReady: async (row, media) => {
      rows.splice(rows.indexOf(row), 1);
      finished += 1;
      showCount();
      await onReady(media, row.steps);
      row.leave();
    },
    onDismiss: (row) => {
      rows.splice(rows.indexOf(row), 1);
      showCount();
    },
    onChange: (row) => {
      showCount();
      onChange(row);
    },
  };
  const list = (subjects) => {
    const outside = { helper, options: { getToken, prefix }, ...callbacks };
    const fresh = subjects.map((subject) => new Row(subject, outside));
    rows.push(...fresh);
    queue.prepend(...fresh.map((row) => row.element)); // in the order of sending
    showCount();
    return fresh;
  };
  window.addEventListener("beforeunload", (event) => {
    if (rows.some((row) => row.isRunning)) event.preventDefault();
  });
  clear.onclick = () => {
    for (const row of rows.filter(({ isOver }) => isOver)) row.dismiss();
  };
  helper.unfinished({ getToken, prefix }).then((records) => {
    for (const row of list(records)) row.wait();
  }, () => {}); // the list of videos says that the broker does not answer
  const take = (files) => {
    const added = [];
    for (const file of files) {
      const row = rows.find((known) => known.isOf(file));
      if (row) row.start(file, checksum());
      else added.push(file);
      for (const other of rows.filter((known) => known !== row && known.isWaitingFor(file))) other.refuse(file);
    }
    const fresh = list(added);
    const options = { getToken, prefix, checksum: checksum() };
    const started = helper.uploadAll(added, options, (_, index) => fresh[index].begin());
    for (const [index, row] of fresh.entries()) row.follow(added[index], options.checksum, started[index]);
  };
  return { take, isListed: (mediaId) => rows.some((row) => row.mediaId === mediaId) };
}
