// Starts the page, finds the view of an address, and keeps what it shows fresh.
//
// Must stay true: no state outside the address, the session and the view's own data; what was loaded
// stays visible when the server does not answer, with its age. Not here: what a view shows.

import * as api from "./js/api.js";
import { ago, exact } from "./js/format.js";
import { h, show } from "./js/h.js";
import { choose, preferred, speak, t } from "./js/i18n.js";
import { listen } from "./js/keys.js";
import { watch } from "./js/live.js";
import { failure, note } from "./js/parts.js";
import { followTheme, frame, setTheme, theme } from "./js/frame.js";
import { view as activity } from "./js/views/activity.js";
import { view as membridge } from "./js/views/membridge.js";
import { view as newTask } from "./js/views/new_task.js";
import { view as overview } from "./js/views/overview.js";
import { view as settings } from "./js/views/settings.js";
import { view as signIn } from "./js/views/sign_in.js";
import { view as task } from "./js/views/task.js";
import { view as tasks } from "./js/views/tasks.js";
import { view as worker } from "./js/views/worker.js";
import { view as workers } from "./js/views/workers.js";

/** Addresses and their views. `:` is a name or an id. */
const ROUTES = [
  ["/", overview],
  ["/tasks", tasks],
  ["/tasks/new", newTask],
  ["/tasks/:", task],
  ["/workers", workers],
  ["/workers/:", worker],
  ["/membridge", membridge],
  ["/activity", activity],
  ["/settings", settings],
];
const SKELETON_AFTER_MS = 200;
/** What changes without an event, such as ages and silence, is asked for this often. */
const REFRESH_MS = 30_000;
const WORDS_OF_TIMES_MS = 5000;

/** `session` is null until the server has said; nothing is drawn before. */
const app = { session: null, live: "connecting", stopWatching: null };
let page = null;

function find(path) {
  const parts = path.replace(/(.)\/$/, "$1").split("/");
  for (const [route, view] of ROUTES) {
    const wanted = route.split("/");
    if (wanted.length === parts.length && wanted.every((part, n) => part === parts[n] || (part === ":" && parts[n]))) {
      return { view, param: wanted.at(-1) === ":" ? decode(parts.at(-1)) : null };
    }
  }
  return null;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** What a view gets to work with. */
class Page {
  constructor(view, param) {
    Object.assign(this, { param, path: location.pathname, session: app.session, data: undefined, error: null, told: null, busy: null });
    this.query = new URLSearchParams(location.search);
    this.slow = false;
    this.loading = null;
    this.again = false;
    this.ended = false;
    this.view = view(this);
  }

  /** This view's address with some of its query changed; null takes a part away. */
  address(changes) {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") query.delete(name);
      else query.set(name, value);
    }
    return location.pathname + (query.size ? `?${query}` : "");
  }

  go = go;
  entered = entered;

  /** Filters while they are typed: a step back leaves them all. */
  set(changes) {
    if (this.ended) return;
    history.replaceState(null, "", this.address(changes));
    stay();
  }

  /** Loads anew; calls while it loads make it load once more. */
  refresh() {
    this.again = true;
    this.loading ??= this.load().finally(() => { this.loading = null; });
    return this.loading;
  }

  async load() {
    while (this.again && !this.ended) {
      this.again = false;
      try {
        this.data = await this.view.load();
        this.error = null;
        this.loadedAt = Date.now();
      } catch (error) {
        if (error.code === "unauthorized") await lostSession();
        this.error = error;
        if (!(error instanceof api.Failure)) console.error(error);
      }
      this.draw();
    }
  }

  /** Runs what a person asked for, tells what came of it, and loads anew. */
  async act(name, run) {
    if (this.busy) return;
    Object.assign(this, { busy: name, told: null });
    this.draw();
    try {
      const said = await run();
      this.told = said ? note("ok", h("p", null, said)) : null;
    } catch (error) {
      if (error.code === "unauthorized") await lostSession();
      this.told = failure(error);
      if (!(error instanceof api.Failure)) console.error(error);
    }
    this.busy = null;
    await this.refresh();
  }

  draw() {
    if (!this.ended && this === page) draw();
  }
}

function content() {
  const { view, data, error } = page;
  if (data === undefined && error) {
    const gone = error.status === 404;
    return [h("h1", { tabindex: "-1" }, view.title()), failure(error, gone ? null : () => page.refresh()),
      gone && h("p", null, h("a", { href: location.pathname.replace(/\/[^/]*$/, "") || "/" }, t("back")))];
  }
  if (data === undefined) {
    return h("div", { class: page.slow ? "skeleton" : "", "aria-busy": "true" },
      page.slow && [h("p", { class: "sr" }, t("loading")), ...Array.from({ length: 6 }, () => h("div"))]);
  }
  const stale = error && h("div", { key: "stale" }, failure(error, () => page.refresh()),
    h("p", { class: "muted" }, t("stale", { age: ago(page.loadedAt) })));
  return [stale, page.told && h("div", { key: "told", "aria-live": "polite" }, page.told),
    h("div", { key: "view", class: error ? "stale" : "" }, view.render(data))];
}

function draw() {
  if (!app.session) return;
  const name = page.view.title(page.data);
  document.title = `${name} · BLOOM`;
  show(document.getElementById("page"), frame(state(), content()));
}

function state() {
  const offline = page.error?.code === "offline";
  return {
    path: location.pathname,
    signedIn: !locked(),
    live: offline ? "offline" : app.live,
    age: page.error && page.loadedAt ? ago(page.loadedAt) : null,
    language: async (tag) => {
      await choose(tag);
      draw();
    },
    theme: () => {
      setTheme(theme() === "dark" ? "light" : "dark");
      draw();
    },
  };
}

/** Whether somebody has to sign in first. */
const locked = () => app.session?.required && !app.session.signed_in;

/** The view of the present address begins to load. */
function open() {
  const found = find(location.pathname) ?? { view: overview, param: null };
  page = new Page(locked() ? signIn : found.view, found.param);
  const mine = page;
  setTimeout(() => {
    mine.slow = true;
    if (mine.data === undefined) mine.draw();
  }, SKELETON_AFTER_MS);
  return mine.refresh();
}

/** Shows the view of the present address. */
function arrive(then) {
  page.view.leave?.();
  page.ended = true;
  const opened = open();
  const mine = page;
  draw();
  // A link may hold its old place: what comes begins at its title.
  opened.then(() => {
    if (mine !== page) return;
    scrollTo(0, history.state?.scroll ?? 0);
    if (then) then();
    else if (document.activeElement === document.body || !document.activeElement?.isConnected) focusTitle();
  });
}

function focusTitle() {
  (document.querySelector("main [autofocus]") ?? document.querySelector("main h1"))?.focus({ preventScroll: true });
}

function go(address, then) {
  const before = location.pathname;
  history.replaceState({ scroll: scrollY }, "");
  history.pushState(null, "", address);
  if (location.pathname === before && !then) return stay();
  document.activeElement?.blur();
  arrive(then);
}

/** The same view under another query: it stays and loads anew, so that the focus stays too. */
function stay() {
  page.query = new URLSearchParams(location.search);
  page.told = null;
  page.view.moved?.();
  scrollTo(0, history.state?.scroll ?? 0);
  page.refresh();
}

async function lostSession() {
  // Before the server has said, `start` waits for it.
  if (!app.session) return;
  app.session = await api.session().catch(() => app.session);
  if (locked()) entered();
}

/** After signing in or out: the same address, seen by another. */
function entered(session = app.session) {
  app.session = session;
  listenToServer();
  arrive();
}

function listenToServer() {
  app.stopWatching?.();
  app.stopWatching = null;
  if (locked()) return;
  app.stopWatching = watch(hinted, (live) => {
    app.live = live;
    draw();
  });
}

/** `events` is what has happened, or null when nobody knows. */
function hinted(events) {
  const concerns = page.view.concerns ?? (() => true);
  if (!page.view.still && (!events || events.some(concerns))) page.refresh();
}

function followLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.hasAttribute("download") || link.target || !find(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  addEventListener("popstate", () => (location.pathname === page.path ? stay() : arrive()));
  history.scrollRestoration = "manual";
}

function keepFresh() {
  const seen = () => !document.hidden && !page.view.still && page.refresh();
  setInterval(seen, REFRESH_MS);
  addEventListener("online", seen);
  document.addEventListener("visibilitychange", seen);
  document.addEventListener("pointerover", ({ target }) => {
    const at = target.dataset?.at;
    if (at) target.title = exact(Number(at));
  });
  setInterval(() => {
    for (const node of document.querySelectorAll("time[data-at]")) {
      const text = ago(Number(node.dataset.at));
      // The text node stays the one that h.js knows.
      if (node.firstChild.data !== text) node.firstChild.data = text;
    }
  }, WORDS_OF_TIMES_MS);
}

/** All that the first view needs is asked for at once, the data before it is known whether they may be
 *  seen. */
async function start() {
  const root = document.createElement("div");
  root.id = "page";
  document.body.append(root);
  followTheme(draw);
  const words = speak(preferred());
  // A server that knows no sessions asks for no key, or will say so.
  const session = api.session().catch(() => ({ required: false, signed_in: true, expires_at: null }));
  const opened = open();
  await words;
  app.session = await session;
  if (locked()) entered();
  else {
    listenToServer();
    draw();
    const at = history.state?.scroll;
    if (at) opened.then(() => scrollTo(0, at));
  }
  followLinks();
  keepFresh();
  listen(go);
}

start();
