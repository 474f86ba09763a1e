"""Uploads in parts over a network that is slow and breaks, in the browsers of this machine."""

import json
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Page

from tests.support.npm import packages, program
from tests.support.slow_link import SlowLink
from tests.support.stack import running_stack, token

MB = 1_000_000
MIB = 1024**2
SIZE = int(os.environ.get("BROKER_TEST_RESUME_MB", "60")) * MB
"""The size of the file; 300 MB by hand, which takes a minute for each browser."""
PART = 5 * MIB if SIZE < 100 * MB else 16 * MIB
FORM_BYTES = 4096
"""More than the fields and headers of one form."""
MOST_GROWTH = 65 * MB
"""Chromium grew by 6 to 55 MB, most of it on a loaded machine, and Firefox by 2 MB at most, whatever the size of the
file. With a page that kept the 60 MB which it sent, Chromium grew by 74 to 102 MB."""
BROWSERS = {"chrome": ("chromium", "chromium-browser"), "firefox": ("firefox-esr", "firefox")}
UPLOAD = """async ({ module, token, more }) => {
    const { upload } = await import(module);
    return upload(document.querySelector("input").files[0], { getToken: () => token, ...more });
}"""
SCRIPT = Path(__file__).with_name("resume.mjs")


@pytest.mark.parametrize("browser", BROWSERS)
def test_an_upload_that_breaks_three_times_and_reloads_once_repeats_one_part_each_time(
    browser: str, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(os.urandom(MB) * (SIZE // MB))
    breaks = [SIZE * percent // 100 for percent in (30, 50, 70)]
    with (
        SlowLink(bytes_per_second=10 * MB, breaks_at=breaks) as link,
        running_stack(tmp_path, link=link, max_file_size=SIZE, part_size=PART) as stack,
    ):
        wish = {
            "browser": browser,
            "program": program(*BROWSERS[browser]),
            "packages": str(packages("puppeteer-core@24.43.1")),
            "app": stack.app,
            "module": stack.module,
            "token": token(),
            "file": str(path),
            "reloadAt": SIZE * 85 // 100,
        }
        command = [program("node"), str(SCRIPT), json.dumps(wish)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout
            assert running.stdout.readline() == "started\n"
            server, browsing = psutil.Process(), psutil.Process(running.pid).children(recursive=True)
            with _growth(server) as servers_growth, _growth(*browsing) as browser_growth:
                outcome = json.loads(running.stdout.readline())
        assert outcome["media"].get("error") is None
        assert outcome["media"]["size"] == SIZE
        assert link.breaks_at == []
        count = -(-SIZE // PART)
        repeated = link.sent_bytes - SIZE - count * FORM_BYTES
        assert repeated <= (len(breaks) + 1) * PART
        resumed = next(report["from"] for report in outcome["after"] if report["from"] > 0)
        assert resumed >= SIZE * 85 // 100 - 2 * PART
        with httpx.stream("GET", outcome["media"]["signed_url"]) as stored, path.open("rb") as file:
            assert all(chunk == file.read(len(chunk)) for chunk in stored.iter_bytes(MIB))
        grown = {"the browser": max(browser_growth), "the servers": max(servers_growth)}
        print(browser, f"sent {repeated / MB:.1f} of {SIZE / MB:.0f} MB twice;", grown)  # noqa: T201 - for the guide
        assert all(growth < MOST_GROWTH for growth in grown.values()), grown


def test_four_parts_go_at_a_time_where_each_connection_has_a_limit(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(60 * MB))
    with (
        SlowLink(per_connection=2 * MB) as link,
        running_stack(tmp_path, link=link, part_size=5 * MIB) as stack,
    ):
        page.goto(stack.app)
        page.set_input_files("input", path)
        media = page.evaluate(UPLOAD, {"module": stack.module, "token": token(), "more": {"checksum": True}})
        assert (media["status"], media["size"]) == ("ready", 60 * MB)
        assert link.most_at_once == 4


@contextmanager
def _growth(*processes: psutil.Process) -> Iterator[list[int]]:
    """Collect by how many bytes the memory of some processes is above its first size."""
    first, growth, done = _memory(processes), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            growth.append(_memory(processes) - first)

    thread = threading.Thread(target=watch)
    thread.start()
    yield growth
    done.set()
    thread.join()


def _memory(processes: Iterable[psutil.Process]) -> int:
    """Return the memory of some processes, in bytes. What they share counts once."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total
