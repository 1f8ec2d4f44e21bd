// The pieces that views are made of: what a status, a time, an id, a list, an empty place looks like.
//
// Must stay true: a status is word, shape and colour together; a control says what it does. Not here:
// what is asked of the server.

import { h } from "./h.js";
import { has, t, word } from "./i18n.js";
import { ago, count, short } from "./format.js";

export const STATUSES = ["queued", "leased", "running", "completed", "failed", "dead", "cancelled"];

const RING = h("circle", { cx: 6, cy: 6, r: 4.75, class: "ring" });
const SHAPES = {
  ring: [RING],
  quarter: [RING, h("path", { d: "M6 6V1.5A4.5 4.5 0 0 1 10.5 6Z", class: "fill" })],
  half: [RING, h("path", { d: "M6 1.5a4.5 4.5 0 0 1 0 9Z", class: "fill" })],
  disc: [h("circle", { cx: 6, cy: 6, r: 5, class: "fill" })],
  triangle: [h("path", { d: "M6 1 11.5 11H.5Z", class: "fill" })],
  cross: [h("path", { d: "m2 2 8 8M10 2l-8 8", class: "line" })],
  dash: [h("path", { d: "M2 6h8", class: "line" })],
};

/** Shape and colour of every status word. */
const MARKS = {
  queued: ["ring", "muted"],
  leased: ["quarter", "info"],
  running: ["half", "info", "moves"],
  completed: ["disc", "ok"],
  success: ["disc", "ok"],
  failed: ["triangle", "bad"],
  error: ["triangle", "bad"],
  dead: ["cross", "bad", "tint"],
  expired: ["cross", "warn"],
  cancelled: ["dash", "muted"],
  released: ["dash", "muted"],
  online: ["disc", "ok"],
  offline: ["ring", "muted"],
  syncing: ["quarter", "info"],
  unknown: ["ring", "muted"],
  draining: ["quarter", "warn"],
  cooling: ["half", "warn"],
  primary: ["disc", "ok"],
  secondary: ["ring", "muted"],
  warn: ["triangle", "warn"],
};

export function mark(status) {
  const [shape, colour, more = ""] = MARKS[status] ?? MARKS.unknown;
  return h("svg", { class: `mark ${colour} ${more}`, viewBox: "0 0 12 12", "aria-hidden": "true" }, SHAPES[shape]);
}

export function status(name, text = word("status", name)) {
  const [, colour, more = ""] = MARKS[name] ?? MARKS.unknown;
  return h("span", { class: `status ${colour} ${more}`, "data-status": name }, mark(name), text);
}

/** A moment; app.js keeps its words fresh, and says the exact time to who points at it. */
export const time = (ms) =>
  ms === null || ms === undefined
    ? "—"
    : h("time", { datetime: new Date(ms).toISOString(), "data-at": ms }, ago(ms));

export const link = (href, ...kids) => h("a", { href }, ...kids);

/** An id as 8 characters, the whole on hover, in `copy` and for screen readers. */
export const id = (value, href) => {
  const text = h("code", { title: value, "aria-label": value }, short(value));
  return href ? h("a", { href, title: value, class: "id" }, text) : text;
};

export function button(text, onclick, options = {}) {
  const { kind = "", ...more } = options;
  return h("button", { type: "button", class: kind, onclick, ...more }, text);
}

/** A button that runs something and cannot be pressed meanwhile; what goes wrong is told in `page`. */
export function act(page, text, run, options = {}) {
  const busy = page.busy === text;
  return button(text, () => page.act(text, run), { ...options, "aria-busy": busy, "aria-disabled": busy });
}

/** The head of a view: title, one line that says how things are, what can be done. */
export const head = (title, line, ...actions) =>
  h("header", { class: "head" },
    h("div", null, h("h1", { tabindex: "-1" }, title), line && h("p", { class: "line" }, line)),
    actions.length > 0 && h("div", { class: "actions" }, actions));

export const section = (title, ...kids) => h("section", null, h("h2", null, title), ...kids);

export const empty = (title, ...kids) => h("div", { class: "empty" }, h("p", null, h("strong", null, title)), ...kids);

export const note = (kind, ...kids) =>
  h("div", { class: `note ${kind}`, role: kind === "bad" ? "alert" : "status" }, mark(kind === "bad" ? "failed" : kind === "ok" ? "completed" : "warn"), h("div", null, ...kids));

/** What the server or another program says in its own words. */
export const english = (...said) => h("span", { lang: "en" }, ...said);

/** What went wrong, why, and what to do. */
export function failure(error, retry) {
  const known = has(`error.${error.code}`);
  const said = known ? t(`error.${error.code}`) : [t("error.other", { code: error.code ?? "" }), " ", english(error.text || error.message)];
  const fields = Object.entries(error.fields ?? {}).map(([name, texts]) => h("li", null, h("code", null, name), " ", english(texts.join("; "))));
  const wait = error.retryAfter ? ` ${t("error.wait", { n: error.retryAfter })}` : "";
  const detail = error.code === "membridge_refused" && error.text ? h("p", { class: "small" }, english(error.text)) : null;
  return note("bad", h("p", null, said, wait), detail, fields.length > 0 && h("ul", null, fields), retry && button(t("retry"), retry));
}

/** Far rows are laid out by the group when they come near (style.css). */
const GROUP = 25;
const groups = (rows) => Array.from({ length: Math.ceil(rows.length / GROUP) }, (_, n) => rows.slice(n * GROUP, (n + 1) * GROUP));

/** Rows with the same facts in the same order: a table, and cards where it is narrow. `columns` are
 *  [heading, class]; a row is {key, flash, cells}; `kind` is a class of the whole. A row that is given again is not described again. */
export function table(label, columns, rows, kind = null) {
  const cell = (content, n) =>
    h("td", { role: "cell", class: columns[n][1], "data-label": typeof columns[n][0] === "string" ? columns[n][0] : null }, content);
  return h("table", { role: "table", "aria-label": label, class: kind },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(([title, kind]) => h("th", { role: "columnheader", scope: "col", class: kind, "data-label": title.props?.["aria-label"] }, title)))),
    groups(rows).map((group) => h("tbody", { role: "rowgroup" }, group.map((row) => {
      row.drawn ??= h("tr", { role: "row", key: row.key, flash: row.flash, "data-row": "" }, row.cells.map(cell));
      return row.drawn;
    }))));
}

/** Names and their values. */
export const facts = (...pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => h("div", null, h("dt", null, name), h("dd", null, ...value))));

export const tags = (list) => (list.length ? list.map((text) => h("span", { class: "tag" }, text)) : "—");

export const addresses = (list) => (list?.length ? list.map((one) => h("span", { class: "address" }, one, " ")) : "—");

/** Text as it is, to be read in full. */
export const text = (value, label) => h("pre", { tabindex: "0", role: "region", "aria-label": label }, value);

/** A command with a button that copies it. */
export function command(value) {
  return h("div", { class: "command" }, h("code", null, value), button(t("copy"), (event) => copy(value, event.currentTarget)));
}

export async function copy(value, pressed) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    // Without https there is no clipboard; a selection can be copied all the same.
    const field = document.createElement("textarea");
    field.value = value;
    pressed.after(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    pressed.focus();
  }
  pressed.textContent = t("copied");
  setTimeout(() => { pressed.textContent = t("copy"); }, 1500);
}

/** How full something is: a bar, and the numbers beside it. */
export function capacity(used, most) {
  const width = most ? Math.min(100, (100 * used) / most) : 0;
  return h("span", { class: "capacity" },
    h("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("rect", { class: "all", width: 100, height: 8, rx: 2 }), h("rect", { class: "used", width, height: 8, rx: 2 })),
    t("capacity", { used, most }));
}

/** A labelled control; `hint` says its limits. */
export function field(label, control, hint, wrong = false) {
  const name = control.props.name;
  const described = hint ? `${name}-hint` : undefined;
  const inner = h(control.tag, { ...control.props, id: name, "aria-describedby": described, "aria-invalid": wrong ? "true" : undefined }, control.kids);
  return h("div", { class: `field ${wrong ? "wrong" : ""}` }, h("label", { for: name }, label), inner, hint && h("p", { id: described, class: "hint" }, hint));
}

export const choice = (name, value, options, onchange) =>
  h("select", { name, value, onchange }, options.map(([key, label]) => h("option", { value: key, key }, label)));

/** How long a page of a list may be; the first is what is shown unasked. */
const LENGTHS = [50, 200, 1000];
export const length = (page) => LENGTHS.find((n) => String(n) === page.query.get("rows")) ?? LENGTHS[0];

/** Which page of a list this is, how long it is, and the way to the next. */
export function pager(page, next) {
  const inner = page.query.get("cursor") !== null;
  const now = length(page);
  if (!inner && !next && now === LENGTHS[0]) return null;
  return h("nav", { class: "pager", "aria-label": t("pager") },
    inner ? link(page.address({ cursor: null }), t("pager.newest")) : h("span"),
    h("span", { class: "lengths" }, t("pager.rows"), LENGTHS.map((n) =>
      h("a", { key: n, href: page.address({ rows: n === LENGTHS[0] ? null : n, cursor: null }), "aria-current": n === now ? "true" : null }, count(n)))),
    next ? link(page.address({ cursor: next }), t("pager.older")) : h("span", { class: "muted" }, t("pager.end")));
}

const TYPING_MS = 350;

/** The filters of a list, kept in the address: a text, further texts, and choices of
 *  [value, word]. */
export function search(page, names, choices = {}) {
  const set = (name, value, wait) => {
    page.typed = { ...page.typed, [name]: value.trim(), cursor: null };
    clearTimeout(page.typing);
    page.typing = setTimeout(() => {
      page.set(page.typed);
      page.typed = {};
    }, wait);
  };
  const labelled = (name, control) => h("label", { class: name }, h("span", null, t(`filter.${name}`)), control);
  const input = (name, type = "text") => labelled(name,
    h("input", { name, type, value: page.query.get(name) ?? "", autocomplete: "off", spellcheck: "false", oninput: (event) => set(name, event.target.value, TYPING_MS) }));
  const given = [...names, ...Object.keys(choices)].some((name) => page.query.get(name));
  return h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    input("q", "search"),
    h("details", { open: given || null }, h("summary", null, t("filter.more")),
      h("div", null,
        Object.entries(choices).map(([name, options]) => labelled(name, choice(name, page.query.get(name) ?? "", options, (event) => set(name, event.target.value, 0)))),
        names.map((name) => input(name)))));
}
