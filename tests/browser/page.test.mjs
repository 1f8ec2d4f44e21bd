// The page in a real browser, against the real program with a real worker process.
//
// Must stay true: a test waits for what a person would see, never for time to pass; every test ends
// with an empty console. Not here: how the server serves files and sessions (tests/integration/page).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { furnish, SCRIPT } from "./fixtures.mjs";
import { axeSource, eventually, startBrowser, startFleet } from "./harness.mjs";

const KEY = "correct horse battery staple";
const NARROW = { width: 360, height: 740 };
let browser, fleet, ids;

before(async () => {
  [browser, fleet] = await Promise.all([startBrowser(), startFleet()]);
  ids = await furnish(fleet);
});
after(async () => {
  await browser?.close();
  await fleet?.stop();
});

/** Runs `story` with a fresh profile; what the page complains of fails the test. */
async function visit(options, story, { expected = [] } = {}) {
  const context = await browser.newContext({ locale: "en", viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.stack));
  page.on("console", (said) => said.type() === "error" && complaints.push(said.text()));
  page.on("request", (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol !== "data:" && hostname !== "127.0.0.1") complaints.push(`asked outside: ${request.url()}`);
  });
  try {
    await story(page, context);
    const unexpected = complaints.filter((text) => !expected.some((known) => known.test(text)));
    assert.deepEqual(unexpected, []);
  } finally {
    await context.close();
  }
}

async function open(page, path, server = fleet) {
  await page.goto(server.url + path);
  await page.waitForSelector("main h1, main .note");
  await page.waitForFunction(() => !document.querySelector("[aria-busy=true]"));
}

const button = (page, name) => page.getByRole("button", { name, exact: true });
const views = () => ["/", "/tasks", "/tasks?status=failed", `/tasks/${ids.done}`, `/tasks/${ids.failed}`, `/tasks/${ids.running}`, `/tasks/${ids.waiting}`,
  "/tasks/new", "/workers", "/workers/orangepi", "/membridge", "/membridge?project=aaaaaaaaaaaaaaaa", "/activity", "/settings"];

test("a task made in the form is run by a worker and its result appears without a reload", () => visit({}, async (page) => {
  await open(page, "/tasks");
  await page.evaluate(() => { window.same = true; });
  await page.getByRole("link", { name: "New task" }).first().click();
  await page.getByLabel("Prompt").fill("SLEEP 1 SAY Plant garlic in October.");
  await page.getByLabel("Agent").fill("gardener");
  await page.getByLabel("Context", { exact: true }).fill("garlic");
  await page.getByLabel("Context hints").fill("one.md\ntwo.md");
  await page.getByLabel("Priority").fill("7");
  await button(page, "Create task").click();
  await page.locator(".head [data-status=running]").waitFor();
  await page.locator(".head [data-status=completed]").waitFor();
  await page.getByRole("region", { name: "Result" }).getByText("Plant garlic in October.").waitFor();
  assert.ok(await page.evaluate(() => window.same), "the page was loaded again");
  const made = await fleet.api("GET", `/llm-tasks/${page.url().split("/").at(-1)}`);
  assert.deepEqual([made.agent_slug, made.priority, made.context_hints], ["gardener", 7, ["one.md", "two.md"]]);
}));

test("pressing Create twice, or after a lost answer, makes one task", () => visit({}, async (page) => {
  await open(page, "/tasks/new");
  let lost = 0;
  await page.route("**/llm-tasks", async (route) => {
    if (route.request().method() !== "POST" || lost++) return route.continue();
    await route.fetch();
    return route.abort();
  });
  await page.getByLabel("Prompt").fill("SAY once");
  await page.getByLabel("Agent").fill("once");
  await page.getByLabel("Context", { exact: true }).fill("once");
  await button(page, "Create task").click();
  await page.getByText("The server does not answer").waitFor();
  await button(page, "Create task").dblclick();
  await page.waitForURL(/\/tasks\/0/);
  assert.equal((await fleet.api("GET", "/llm-tasks?agent_slug=once")).length, 1);
}, { expected: [/ERR_FAILED/] }));

test("the log of a running task is there, and what is said later comes by itself", () => visit({}, async (page) => {
  const { id } = await fleet.task({ prompt: "CHATTER 3 SLEEP 3 SAY the last word" });
  await fleet.until(id, "running");
  await open(page, `/tasks/${id}`);
  await page.getByRole("log").getByText("piece 3").waitFor();
  assert.equal(await page.getByRole("log").getByText("the last word").count(), 0);
  await page.getByRole("log").getByText("the last word").waitFor();
}));

test("a failed task is requeued from its page and its attempts are told", () => visit({}, async (page) => {
  const { id } = await fleet.task({ prompt: "EXIT 4" });
  await fleet.until(id, "failed");
  await open(page, `/tasks/${id}`);
  await page.getByText("Claude exited with code 4").first().waitFor();
  await button(page, "Requeue").click();
  await page.locator(".timeline li").nth(1).waitFor();
  await page.locator(".head [data-status=failed]").waitFor();
}));

test("a file that a worker returned is there while the task runs, under its name, and is saved as it came", () => visit({}, async (page) => {
  await fleet.api("POST", "/workers", { name: "draws", capabilities: { labels: ["draws"] } });
  const { id } = await fleet.task({ prompt: "Draw the beds", labels: ["draws"] });
  const { lease } = await fleet.api("POST", `/llm-tasks/${id}/lease`, { worker_id: "draws" });
  const file = await fleet.give(id, lease.id, `план ${SCRIPT}.md`.replaceAll("/", ""), "# Beds\n".repeat(300));
  assert.equal(file.bytes, 2100);
  await open(page, `/tasks/${id}`);
  const files = page.locator(".plainlist");
  await files.getByText("план <script>").waitFor();
  await files.getByText("2.1 kB").waitFor();
  const saving = page.waitForEvent("download");
  await files.getByRole("link", { name: "Download" }).click();
  const saved = await saving;
  assert.equal(readFileSync(await saved.path(), "utf8"), "# Beds\n".repeat(300));
  await fleet.api("POST", `/llm-tasks/${id}/cancel`);
}));

test("why a task waits is said for each worker", () => visit({}, async (page) => {
  await open(page, `/tasks/${ids.waiting}`);
  await page.getByRole("heading", { name: "Why it waits" }).waitFor();
  await page.getByRole("row", { name: /rpi4b lacks a label \(gpu\)/ }).waitFor();
}));

test("many tasks are cancelled after their number was shown, and requeued the same way", () => visit({}, async (page) => {
  for (let n = 0; n < 3; n += 1) await fleet.task({ prompt: `bulk ${n}`, agent_slug: "bulk", labels: ["nobody"] });
  await open(page, "/tasks?agent_slug=bulk");
  await page.getByLabel("Choose all on this page").check();
  await button(page, "Cancel").click();
  await page.getByRole("dialog").getByText("Cancel 3 tasks?").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Back" }).click();
  assert.equal((await fleet.api("GET", "/llm-tasks?agent_slug=bulk&status=queued")).length, 3);
  await button(page, "Cancel").click();
  await button(page, "Cancel 3 tasks").click();
  await page.getByText("3 tasks are cancelled.").waitFor();
  await page.getByLabel("Choose: bulk 1").check();
  await button(page, "Requeue").click();
  await button(page, "Requeue 1 task").click();
  await page.getByText("1 task is back in the queue.").waitFor();
  assert.equal((await fleet.api("GET", "/llm-tasks?agent_slug=bulk&status=queued")).length, 1);
}));

test("filters stand in the address, keep the focus, and Back leaves them", () => visit({}, async (page) => {
  await open(page, "/");
  await page.locator(".tiles a", { hasText: "failed" }).click();
  await page.waitForURL("**/tasks?status=failed");
  await page.getByLabel("Search").pressSequentially("harvest");
  await page.waitForURL("**q=harvest**");
  await page.getByRole("link", { name: "EXIT 3 Summarise the harvest" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.name), "q");
  await page.goBack();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
}));

test("a worker is drained, undrained and removed", () => visit({}, async (page) => {
  await fleet.api("POST", "/workers", { name: "spare" });
  await open(page, "/workers/spare");
  await button(page, "Drain").click();
  await page.locator(".head .status", { hasText: "draining" }).waitFor();
  await button(page, "Undrain").click();
  await page.locator(".head .status", { hasText: "online" }).waitFor();
  await button(page, "Remove").click();
  await button(page, "Remove spare").click();
  await page.getByRole("heading", { name: "Workers" }).waitFor();
  await eventually("spare gone", async () => (await page.getByRole("link", { name: "spare" }).count()) === 0);
}));

test("a node is promoted after a question, and the card tells who leads", () => visit({}, async (page) => {
  await open(page, "/membridge");
  await page.getByText("2 different databases").waitFor();
  await page.getByLabel("Node", { exact: true }).fill("rpi4b");
  await button(page, "Promote to primary…").click();
  await page.getByRole("dialog").getByText("Make rpi4b the primary?").waitFor();
  await button(page, "Promote rpi4b").click();
  await page.getByText(/rpi4b is chosen as primary/).waitFor();
  await page.getByRole("row", { name: /rpi4b primary 42 A/ }).waitFor();
  const { body } = fleet.membridge.seen.find((one) => one.path.endsWith("/select"));
  assert.deepEqual(JSON.parse(body), { primary_node_id: "rpi4b", lease_seconds: 3600 });
  await open(page, "/membridge?project=aaaaaaaaaaaaaaaa");
  await page.getByText(/ghost-node is primary, but no node of that name is known/).waitFor();
}));

test("the connection to Membridge is tested line by line, and the key is never shown", () => visit({}, async (page) => {
  await open(page, "/settings");
  await button(page, "Test connection").click();
  await page.getByText("The key is accepted").waitFor();
  await page.getByText("It is membridge-control-plane 0.3.0").waitFor();
  assert.ok(!(await page.content()).includes("test-admin-key"));
  await page.getByLabel("Admin key").fill("not-the-key");
  await button(page, "Save").click();
  await page.getByText("Saved. Test the connection next.").waitFor();
  await button(page, "Test connection").click();
  await page.getByText("The key is not accepted").waitFor();
  await button(page, "Forget what was saved").click();
  await page.getByRole("dialog").getByRole("button", { name: "Forget what was saved" }).click();
  await page.getByText("Forgotten.").waitFor();
}));

test("language and theme change at once and are kept", () => visit({ colorScheme: "light" }, async (page) => {
  await open(page, "/");
  await button(page, "UK · Українська").click();
  await page.getByRole("heading", { name: "Огляд" }).waitFor();
  await button(page, "Темна тема").click();
  await open(page, "/tasks");
  await page.getByRole("heading", { name: "Завдання" }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "uk");
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
}));

test("a Ukrainian browser gets Ukrainian with its plural forms", () => visit({ locale: "uk-UA" }, async (page) => {
  await open(page, "/membridge");
  await page.getByText("2 проєкти").waitFor();
}));

test("everything can be done from the keyboard", () => visit({}, async (page) => {
  await open(page, "/");
  await page.keyboard.press("g");
  await page.keyboard.press("t");
  await page.waitForURL("**/tasks");
  await page.locator("[data-row]").first().waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.getByText("1 chosen").waitFor();
  assert.ok(await page.locator("[data-row]").nth(1).getByRole("checkbox").isChecked());
  await page.keyboard.press("k");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tasks\/0/);
  await page.getByRole("heading", { name: /^Task/ }).waitFor();
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("search").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("n");
  await page.waitForURL("**/tasks/new");
  await page.getByRole("heading", { name: "New task" }).waitFor();
  await page.keyboard.press("Tab");
  await page.keyboard.type("SAY gnt");
  assert.equal(await page.getByLabel("Prompt").inputValue(), "SAY gnt");
  await page.keyboard.press("Tab");
  await page.keyboard.type("keys");
  await page.keyboard.press("Tab");
  await page.keyboard.type("keys");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tasks\/0/);
  await page.locator(".head [data-status=completed]").waitFor();
  await page.keyboard.press("/");
  await page.waitForURL("**/tasks");
  await eventually("search has the focus", () => page.evaluate(() => document.activeElement.name === "q"));
}));

test("the keys work by their place on a Ukrainian keyboard", () => visit({}, async (page, context) => {
  const keyboard = await context.newCDPSession(page);
  const press = async (key, code) => {
    for (const type of ["keyDown", "keyUp"]) await keyboard.send("Input.dispatchKeyEvent", { type, key, code, ...(type === "keyDown" && { text: key }) });
  };
  await open(page, "/");
  await press("п", "KeyG");
  await press("е", "KeyT");
  await page.waitForURL("**/tasks");
  await page.locator("[data-row]").first().waitFor();
  await press("о", "KeyJ");
  await press("ч", "KeyX");
  await page.getByText("1 chosen").waitFor();
  await press(".", "Slash");
  assert.equal(await page.evaluate(() => document.activeElement.name), "q");
  await page.keyboard.press("Escape");
  await press("т", "KeyN");
  await page.waitForURL("**/tasks/new");
  await page.getByLabel("Prompt").focus();
  await press("т", "KeyN");
  assert.equal(await page.getByLabel("Prompt").inputValue(), "т");
}));

test("payloads of script stay text everywhere", () => visit({}, async (page) => {
  for (const path of [`/tasks/${ids.script}`, "/tasks", "/activity?q=bold", "/", "/membridge?project=aaaaaaaaaaaaaaaa"]) {
    await open(page, path);
    assert.equal(await page.evaluate(() => window.hacked), undefined, path);
    assert.equal(await page.locator("main script, main img, main b").count(), 0, path);
  }
  await open(page, `/tasks/${ids.script}`);
  await page.getByRole("region", { name: "Result" }).getByText(SCRIPT).waitFor();
}));

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing serious on any view, ${colorScheme}`, () => visit({ colorScheme, reducedMotion: "reduce" }, async (page) => {
    const found = [];
    for (const size of [{ width: 1280, height: 800 }, NARROW]) {
      await page.setViewportSize(size);
      for (const path of views()) {
        await open(page, path);
        found.push(...(await serious(page, `${size.width} ${path}`)));
      }
    }
    assert.deepEqual(found, []);
  }));

  test(`axe finds nothing serious where one signs in, ${colorScheme}`, () => visit({ colorScheme }, async (page) => {
    const own = await startFleet({ key: KEY });
    try {
      await open(page, "/", own);
      await page.getByLabel("Key").fill("wrong");
      await page.keyboard.press("Enter");
      await page.getByText("This is not the key of this server.").waitFor();
      assert.deepEqual(await serious(page, "sign in"), []);
    } finally {
      await own.stop();
    }
  }, { expected: [/401/] }));
}

/** What axe finds that would keep somebody out. */
async function serious(page, where) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return found.map(({ id, nodes }) => `${where}: ${id} ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

for (const locale of ["en", "uk"]) {
  test(`no view is wider than a phone of 360 px, ${locale}`, () => visit({ locale, viewport: NARROW }, async (page) => {
    for (const path of views()) {
      await open(page, path);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), NARROW.width, path);
    }
  }));
}

for (const locale of ["en", "uk"]) {
  const skip = process.env.BLOOM_UI_DIR ? "from a folder nothing is packed" : false;
  test(`all views together cost a browser no more than 40 KB, ${locale}`, { skip }, (told) => visit({ locale }, async (page) => {
    const files = [];
    page.on("requestfinished", (request) => {
      const { pathname } = new URL(request.url());
      if (!pathname.startsWith("/api/")) files.push(request.sizes().then((size) => ({ pathname, bytes: size.responseBodySize })));
    });
    await open(page, "/");
    for (const place of ["tasks", "workers", "membridge", "activity", "settings"]) {
      await page.locator(`.places a[href="/${place}"]`).click();
      await page.waitForURL(`**/${place}`);
      await page.locator("main h1").waitFor();
    }
    // What the browser takes from its cache has no size.
    const sizes = (await Promise.all(files)).filter((one) => one.bytes > 0);
    const bytes = sizes.reduce((sum, one) => sum + one.bytes, 0);
    told.diagnostic(`${(bytes / 1024).toFixed(1)} KB: ${sizes.map((one) => `${one.pathname.split("/").at(-1) || "/"} ${one.bytes}`).join(", ")}`);
    assert.ok(sizes.length >= 4 && sizes.length <= 5, `${sizes.length} files`);
    assert.ok(bytes > 20_000 && bytes <= 40 * 1024, `${bytes} bytes`);
  }));
}

test("a list of a thousand rows is one page when it is asked for, and is all there", () => visit({ viewport: NARROW }, async (page) => {
  const own = await startFleet();
  try {
    for (let n = 0; n < 1010; n += 101) await Promise.all(Array.from({ length: 101 }, (_, k) => own.task({ prompt: `row ${n + k}` })));
    await open(page, "/tasks", own);
    assert.equal(await page.locator("[data-row]").count(), 50);
    await page.getByRole("link", { name: "1,000", exact: true }).click();
    await page.waitForURL("**/tasks?rows=1000");
    await page.waitForFunction(() => document.querySelectorAll("[data-row]").length === 1000);
    await page.locator("[data-row]").last().scrollIntoViewIfNeeded();
    await own.task({ prompt: "the newest" });
    await page.locator("[data-row]").first().getByRole("link", { name: "the newest" }).waitFor();
    await page.getByLabel("Choose all on this page").check();
    await page.getByText("1,000 chosen").waitFor();
    await page.getByRole("link", { name: "Older" }).click();
    await page.waitForFunction(() => document.querySelectorAll("[data-row]").length === 11);
    // A stream that is cut off is a complaint; here it is no news.
    await page.goto("about:blank");
  } finally {
    await own.stop();
  }
}));

test("a burst of changes is asked about at most twice a second", () => visit({}, async (page) => {
  await open(page, "/tasks");
  await page.getByText("live", { exact: true }).waitFor();
  let asked = 0;
  const began = Date.now();
  page.on("request", (request) => { if (request.url().includes("/llm-tasks?")) asked += 1; });
  for (let n = 0; n < 60; n += 1) await fleet.task({ prompt: `burst ${n}`, agent_slug: "burst", labels: ["nobody"] });
  await page.getByRole("link", { name: "burst 59" }).waitFor();
  const most = Math.ceil((Date.now() - began) / 500) + 1;
  assert.ok(asked >= 1 && asked <= most, `${asked} requests, at most ${most}`);
}));

test("a restart of the server is survived: the data stays, its age is told, and it comes back live", () => visit({}, async (page) => {
  const own = await startFleet();
  try {
    await own.task({ prompt: "before the restart" });
    await open(page, "/tasks", own);
    await page.getByText("live", { exact: true }).waitFor();
    await own.server().stop("SIGKILL");
    await page.getByText("reconnecting").waitFor();
    await page.getByLabel("Search").fill("restart");
    await page.getByText("The server does not answer").waitFor();
    await page.getByText(/What you see was true/).waitFor();
    assert.ok(await page.getByRole("link", { name: "before the restart" }).isVisible());
    await own.restart();
    await page.getByText("live", { exact: true }).waitFor();
    await own.task({ prompt: "after the restart" });
    await page.getByRole("link", { name: "after the restart" }).waitFor();
    assert.equal(await page.getByText("The server does not answer").count(), 0);
  } finally {
    await own.stop();
  }
}, { expected: [/ERR_/] }));

test("with a key the page asks for it, keeps a session over a reload and a restart, and signs out", () => visit({}, async (page, context) => {
  const own = await startFleet({ key: KEY });
  try {
    await own.task({ prompt: "behind the key", labels: ["nobody"] });
    await page.goto(`${own.url}/tasks`);
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.name), "key");
    await page.getByLabel("Key").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("This is not the key of this server.").waitFor();
    await page.getByLabel("Key").fill(KEY);
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "behind the key" }).click();
    const [cookie] = await context.cookies();
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
    await button(page, "Cancel").click();
    await page.getByText("It is cancelled.").waitFor();
    await own.restart();
    await page.reload();
    await page.locator(".head [data-status=cancelled]").waitFor();
    await page.goto(`${own.url}/settings`);
    await button(page, "Sign out").click();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.goto(`${own.url}/tasks`);
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
  } finally {
    await own.stop();
  }
}, { expected: [/ERR_/, /401/] }));
