// Pictures of every view in both languages and themes, wide and narrow: node screenshots.mjs DIR [WORD]
// where WORD narrows the names.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { furnish } from "./fixtures.mjs";
import { startBrowser, startFleet } from "./harness.mjs";

const [dir, word = ""] = process.argv.slice(2);
if (!dir) {
  console.error("usage: sh tests/browser/screenshots.sh DIR");
  process.exit(64);
}
mkdirSync(dir, { recursive: true });
const [fleet, empty, locked] = await Promise.all([startFleet(), startFleet(), startFleet({ key: "correct horse battery staple" })]);
const ids = await furnish(fleet);
const views = [
  ["overview", fleet, "/"], ["tasks", fleet, "/tasks"], ["tasks-filtered", fleet, "/tasks?status=failed&agent_slug=summariser"],
  ["task-done", fleet, `/tasks/${ids.done}`], ["task-json", fleet, `/tasks/${ids.json}`], ["task-failed", fleet, `/tasks/${ids.failed}`],
  ["task-running", fleet, `/tasks/${ids.running}`], ["task-waiting", fleet, `/tasks/${ids.waiting}`], ["task-script", fleet, `/tasks/${ids.script}`],
  ["task-new", fleet, "/tasks/new"], ["task-missing", fleet, "/tasks/nope"],
  ["workers", fleet, "/workers"], ["worker", fleet, "/workers/rpi4b"], ["worker-cooling", fleet, "/workers/orangepi"],
  ["membridge", fleet, "/membridge"], ["membridge-ghost", fleet, "/membridge?project=aaaaaaaaaaaaaaaa"],
  ["activity", fleet, "/activity"], ["settings", fleet, "/settings"],
  ["empty-overview", empty, "/"], ["empty-tasks", empty, "/tasks"], ["empty-workers", empty, "/workers"], ["sign-in", locked, "/"],
];
const browser = await startBrowser();
const everyone = [fleet, empty, locked];
try {
  for (const lang of ["en", "uk"]) {
    for (const theme of ["light", "dark"]) {
      for (const [size, width, height] of [["wide", 1280, 800], ["narrow", 360, 740]]) {
        await photograph(lang, theme, size, { width, height });
      }
    }
  }
} finally {
  await browser.close();
  await Promise.all(everyone.map((one) => one.stop()));
}

async function photograph(lang, theme, size, viewport) {
  const context = await browser.newContext({ locale: lang, colorScheme: theme, viewport, reducedMotion: "reduce" });
  const page = await context.newPage();
  for (const [name, server, path] of views) {
    const file = `${name}-${lang}-${theme}-${size}.png`;
    if (!file.includes(word)) continue;
    await page.goto(server.url + path);
    await page.waitForSelector("main h1, main .note");
    await page.waitForFunction(() => !document.querySelector("[aria-busy=true]"));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) console.error(`${file}: ${overflow} px too wide`);
    await page.screenshot({ path: join(dir, file), fullPage: true });
  }
  await context.close();
}
