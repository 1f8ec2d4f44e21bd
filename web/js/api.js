// Every call to the server. The only place that fetches.
//
// Must stay true: a failure is a Failure with a stable code; the session's cookie is the browser's
// business, no key is ever kept here. Not here: words for failures (i18n), what to do about them.

const API = "/api/runtime";
const TASKS = `${API}/llm-tasks`;

let skew = 0;

/** Milliseconds that the server's clock is ahead of this one, where that is worth noticing. */
export const ahead = () => skew;

/** What went wrong: `code` of the API, or `offline` without an answer, or `cut_off`. */
export class Failure extends Error {
  constructor(status, code, body, retryAfter) {
    const text = typeof body?.error === "string" ? body.error : "";
    super(text || code);
    Object.assign(this, { status, code, text, retryAfter, fields: body?.error?.fieldErrors ?? {} });
  }
}

async function call(method, path, body, headers = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } };
  let answer;
  try {
    answer = await fetch(path, { method, ...sent, cache: "no-store", redirect: "error" });
  } catch {
    throw new Failure(0, "offline");
  }
  const off = Date.parse(answer.headers.get("date")) - Date.now();
  skew = Math.abs(off) > 2000 ? off : 0;
  let said = null;
  try {
    said = answer.status === 204 ? null : await answer.json();
  } catch {
    if (answer.ok) throw new Failure(0, "offline");
  }
  // A proxy before a server that is away answers for it, and not in our words.
  if (!answer.ok) throw new Failure(answer.status, said?.code ?? "offline", said, Number(answer.headers.get("retry-after")) || 0);
  return { said, next: cursor(answer.headers.get("link")) };
}

/** The cursor of the next page, as the `Link` header has it. */
function cursor(link) {
  const address = /<([^>]*)>;\s*rel="next"/.exec(link ?? "")?.[1];
  return address ? new URL(address, location.origin).searchParams.get("cursor") : null;
}

const get = async (path) => (await call("GET", path)).said;
const post = async (path, body = {}, headers) => (await call("POST", path, body, headers)).said;
const part = encodeURIComponent;

function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** One page of a list: its rows and where the next one begins. */
async function list(path, fields) {
  const { said, next } = await call("GET", path + query(fields));
  return { rows: said, next };
}

/** A file of the page itself, such as a language. */
export const asset = (name) => get(`/ui/-/${name}`);

export const session = () => get("/api/session");
export const signIn = (key) => post("/api/session", { key });
export const signOut = async () => (await call("DELETE", "/api/session")).said;

export const health = () => get(`${API}/health`);
export const stats = () => get(`${API}/stats`);
export const audit = (fields) => list(`${API}/audit`, fields);

export const tasks = (fields) => list(TASKS, fields);
export const task = (id) => get(`${TASKS}/${part(id)}`);
export const attempts = (id) => get(`${TASKS}/${part(id)}/attempts`);
export const waiting = (id) => get(`${TASKS}/${part(id)}/waiting`);
export const result = (id) => get(`${TASKS}/${part(id)}/result`);
export const artifacts = (id) => list(`${API}/artifacts`, { task_id: id, limit: 50 });
export const createTask = (fields, key) => post(TASKS, fields, { "idempotency-key": key });
export const requeue = (id) => post(`${TASKS}/${part(id)}/requeue`);
export const cancel = (id) => post(`${TASKS}/${part(id)}/cancel`);
/** `what` is `requeue` or `cancel`; `which` holds ids or filters. */
export const many = (what, which) => post(`${TASKS}/${what}`, which);

export const workers = () => list(`${API}/workers`, {});
export const worker = (name) => get(`${API}/workers/${part(name)}`);
export const drain = (name) => post(`${API}/workers/${part(name)}/drain`);
export const undrain = (name) => post(`${API}/workers/${part(name)}/undrain`);
export const removeWorker = async (name) => (await call("DELETE", `${API}/workers/${part(name)}`)).said;

export const config = () => get(`${API}/config`);
export const saveConfig = (fields) => post(`${API}/config`, fields);
export const forgetConfig = async () => (await call("DELETE", `${API}/config`)).said;
export const testConnection = () => post(`${API}/test-connection`);

const project = (id) => `/api/membridge/projects/${part(id)}`;
export const projects = () => get("/api/membridge/projects");
export const leadership = (id) => get(`${project(id)}/leadership`);
export const nodes = (id) => get(`${project(id)}/nodes`);
export const promote = (id, fields) => post(`${project(id)}/leadership/select`, fields);

// Addresses for links and streams.
export const eventsAddress = `${API}/events`;
export const logAddress = (id) => `${TASKS}/${part(id)}/log?follow=1`;
export const contentAddress = (id) => `${API}/artifacts/${part(id)}/content`;
