/**
 * The React example in Firefox: three files, one paused and resumed, one rejected: `node react.mjs '{"program": …}'`.
 *
 * It prints a JSON object: the status of each file in the end, and what axe-core found on the way. Puppeteer drives Firefox
 * as Debian builds it, by WebDriver BiDi; Playwright needs a build of its own.
 */

import { createRequire } from "node:module";

const wish = JSON.parse(process.argv[2]);
const puppeteer = createRequire(`${wish.packages}/`)("puppeteer-core");
const [ready, paused, rejected] = wish.names;

const browser = await puppeteer.launch({ browser: "firefox", executablePath: wish.program, protocolTimeout: 0 });
try {
  const page = await browser.newPage();
  const reaches = (name, text) => page.waitForFunction((name, text) => {
    const entry = [...document.querySelectorAll("li")].find((item) => item.textContent.includes(name));
    return entry?.querySelector("[role=status]").textContent.includes(text);
  }, { polling: 100, timeout: 90_000 }, name, text);
  const press = (name, label) => page.evaluate((name, label) => {
    const entry = [...document.querySelectorAll("li")].find((item) => item.textContent.includes(name));
    [...entry.querySelectorAll("button")].find((button) => button.textContent === label).click();
  }, name, label);
  const violations = () => page.evaluate(async () => (await globalThis.axe.run()).violations.map(({ id }) => id));

  await page.goto(wish.app);
  await page.evaluate((prefix, token) => {
    window.app = { prefix, getToken: () => token };
  }, wish.prefix, wish.token);
  await page.addScriptTag({ path: wish.bundle, type: "module" });
  await page.addScriptTag({ path: wish.axe });
  const input = await page.waitForSelector("main input");
  await input.uploadFile(...wish.files);

  await reaches(rejected, "is not allowed");
  await reaches(paused, "sending");
  await press(paused, "Pause");
  await reaches(paused, "paused");
  await reaches(ready, "ready");
  const found = await violations();
  await press(paused, "Resume");
  await reaches(paused, "ready");
  found.push(...await violations());
  const videos = await page.evaluate(() => document.querySelectorAll("video").length);
  console.log(JSON.stringify({ found, videos }));
} finally {
  await browser.close();
}
