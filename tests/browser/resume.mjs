/**
 * A browser that uploads one file, reloads the page once, and goes on: `node resume.mjs '{"browser": "firefox", …}'`.
 *
 * It prints "started", and in the end a JSON object: the ready media, and the reports of the progress before and after the
 * reload. Puppeteer drives Firefox as Debian builds it, by WebDriver BiDi; Playwright needs a build of its own.
 */

import { createRequire } from "node:module";

const wish = JSON.parse(process.argv[2]);
const puppeteer = createRequire(`${wish.packages}/`)("puppeteer-core");

const START = async ({ module, token }) => {
  const { upload } = await import(module);
  window.reports = [];
  const onProgress = ({ state, loaded }) => {
    const last = window.reports.at(-1);
    if (last?.state === state && loaded >= last.loaded) last.loaded = loaded;
    else window.reports.push({ state, from: loaded, loaded });
  };
  window.running = upload(document.querySelector("input").files[0], { getToken: () => token, onProgress });
  window.running.catch(() => {});
  return null;
};

const browser = await puppeteer.launch({
  browser: wish.browser,
  executablePath: wish.program,
  args: wish.browser === "chrome" ? ["--no-sandbox", "--disable-gpu", "--disable-quic"] : [],
  protocolTimeout: 0,
  networkEnabled: false, // or else Firefox keeps a copy of each request's body for Puppeteer
});
try {
  const page = await browser.newPage();
  const start = async () => {
    await page.goto(wish.app);
    await (await page.$("input")).uploadFile(wish.file);
    await page.evaluate(START, { module: wish.module, token: wish.token });
  };
  await start();
  console.log("started");
  await page.waitForFunction((bytes) => window.reports.at(-1)?.loaded >= bytes, { polling: 100, timeout: 0 }, wish.reloadAt);
  const before = await page.evaluate(() => window.reports);
  await start(); // a navigation to the same page
  const media = await page.evaluate(() => window.running.catch((error) => ({ error: error.message })));
  console.log(JSON.stringify({ media, before, after: await page.evaluate(() => window.reports) }));
} finally {
  await browser.close();
}
