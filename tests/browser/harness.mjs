// Starts the real program, a real worker with the stand-in claude, a Membridge stand-in and Chromium.
//
// Must stay true: everything runs in a folder of its own and ends with the test; ports are the system's
// choice. Not here: what is tried.

import { spawn } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startMembridge, KEY } from "./membridge.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
// The tools are not beside this file: they are installed where nothing is committed.
const tools = createRequire(join(process.env.BROWSER_TOOLS ?? join(root, ".tools", "browser"), "package.json"));
const { chromium } = tools("playwright-core");
export const axeSource = tools("axe-core").source;

const program = process.env.BLOOM_PROGRAM ?? join(root, "target", "debug", "bloom-runtime");
const PATIENCE_MS = 30_000;

function freePort() {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A process that has said `ready` on stderr. */
function run(args, env, ready) {
  const child = spawn(program, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  const begun = new Promise((done, fail) => {
    child.stderr.on("data", (piece) => {
      said += piece;
      if (said.includes(ready)) done();
    });
    child.on("exit", (code) => fail(new Error(`${args[0]} ended with ${code}:\n${said}`)));
  });
  const ended = new Promise((done) => child.on("exit", done));
  return { begun, said: () => said, stop: (signal = "SIGTERM") => { child.kill(signal); return ended; } };
}

export async function startFleet({ key } = {}) {
  const dir = mkdtempSync(join(tmpdir(), "bloom-browser-"));
  const home = join(dir, "home");
  mkdirSync(home);
  const claude = join(home, "claude");
  copyFileSync(join(root, "tests", "standin", "claude"), claude);
  chmodSync(claude, 0o755);
  const membridge = await startMembridge();
  const port = await freePort();
  const env = {
    PATH: process.env.PATH, HOME: home, RATE_LIMIT_PER_MINUTE: "0",
    MEMBRIDGE_SERVER_URL: membridge.url, MEMBRIDGE_ADMIN_KEY: KEY, ...(key ? { RUNTIME_API_KEY: key } : {}),
  };
  const none = join(dir, "none.env");
  writeFileSync(none, "");
  const ui = process.env.BLOOM_UI_DIR ? ["--ui-dir", process.env.BLOOM_UI_DIR] : [];
  const serve = () => run(["serve", "--host", "127.0.0.1", "--port", String(port), "--data-dir", join(dir, "data"), "--env-file", none, ...ui], env, "listening on");
  let server = serve();
  await server.begun;
  const url = `http://127.0.0.1:${port}`;
  const workers = [];
  const fleet = {
    url, membridge, key, home,
    server: () => server,
    async addWorker(name, ...args) {
      const worker = run(["worker", "--server", url, "--name", name, "--claude", claude, "--env-file", none, ...args], env, "");
      workers.push(worker);
      await eventually(`worker ${name}`, async () => (await fleet.api("GET", `/workers/${name}`)).status === "online");
      return worker;
    },
    async restart() {
      await server.stop();
      server = serve();
      await server.begun;
    },
    async api(method, path, body) {
      const answer = await fetch(`${url}/api/runtime${path}`, {
        method, body: body && JSON.stringify(body),
        headers: { "content-type": "application/json", ...(key ? { "x-runtime-api-key": key } : {}) },
      });
      return answer.json();
    },
    /** Returns a file, as the holder of the lease does. */
    async give(task, lease, name, content) {
      const answer = await fetch(`${url}/api/runtime/llm-tasks/${task}/artifacts?lease_id=${lease}&name=${encodeURIComponent(name)}`, {
        method: "POST", body: content, headers: { "content-type": "text/markdown", ...(key ? { "x-runtime-api-key": key } : {}) },
      });
      return answer.json();
    },
    task: (fields) => fleet.api("POST", "/llm-tasks", { context_id: "garden", agent_slug: "writer", ...fields }),
    until: (id, status) => eventually(`${id} ${status}`, async () => (await fleet.api("GET", `/llm-tasks/${id}`)).status === status),
    async stop() {
      await Promise.all(workers.map((worker) => worker.stop("SIGKILL")));
      await server.stop("SIGKILL");
      membridge.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  return fleet;
}

/** Asks until it is so. */
export async function eventually(what, so) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    if (await so()) return;
    if (Date.now() > deadline) throw new Error(`never came: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export function startBrowser() {
  const known = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? known, args: ["--no-sandbox"] });
}
