// Tasks: the list with its filters, and what can be done to many at once.
//
// Must stay true: filters and page stand in the address; nothing changes many tasks before a person has
// seen how many. Not here: one task (task.js).

import * as api from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../h.js";
import { lang, t, word } from "../i18n.js";
import { count, firstLine } from "../format.js";
import { STATUSES, act, button, empty, head, length, link, mark, pager, search, status, table, time } from "../parts.js";

const FILTERS = ["agent_slug", "context_id", "worker_id", "q"];
/** Which statuses a change of many can be about. */
const CHANGES = {
  requeue: ["failed", "dead", "cancelled"],
  cancel: ["queued", "leased", "running"],
};

export function view(page) {
  const chosen = new Set();
  let everything = false;
  const given = (names) => Object.fromEntries(names.map((name) => [name, page.query.get(name)]).filter(([, value]) => value));

  const clear = () => {
    chosen.clear();
    everything = false;
  };
  const choose = (ids, on) => {
    everything = false;
    for (const id of ids) on ? chosen.add(id) : chosen.delete(id);
    page.draw();
  };

  /** What a bulk call is about: the chosen ids, or all that fit the filters. */
  const which = (what) => {
    if (!everything) return { ids: [...chosen] };
    const { status: one, ...others } = given(["status", "agent_slug", "context_id", "worker_id"]);
    return { ...others, status: one ? [one] : CHANGES[what] };
  };
  const change = async (what) => {
    const about = which(what);
    const { matched } = await api.many(what, { ...about, dry_run: true });
    if (!matched) return t(`tasks.${what}_none`);
    const left = everything ? 0 : chosen.size - matched;
    const means = left > 0 ? t("tasks.left_out", { n: left }) : t(`tasks.${what}_means`);
    const kind = what === "cancel" ? "bad" : "primary";
    if (!(await ask(t(`tasks.${what}_ask`, { n: matched }), means, t(`tasks.${what}_do`, { n: matched }), kind))) return null;
    const { changed, more } = await api.many(what, about);
    clear();
    return t(`tasks.${what}_done`, { n: changed }) + (more ? ` ${t("tasks.more")}` : "");
  };

  const box = (label, checked, onchange, indeterminate = false) =>
    h("input", { type: "checkbox", "aria-label": label, checked, indeterminate, onchange });

  const columns = (rows) => {
    const here = rows.filter((task) => chosen.has(task.id)).length;
    const all = box(t("tasks.choose_all"), here === rows.length,
      (event) => choose(rows.map((task) => task.id), event.target.checked), here > 0 && here < rows.length);
    return [[all, "check"], [t("task.status")], [t("task.prompt"), "wide"], [t("task.agent"), "name"], [t("task.context"), "name"],
      [t("task.attempts"), "number"], [t("task.priority"), "number"], [t("task.worker"), "name"], [t("task.age"), "number"]];
  };

  /** What was shown of a task, until it changes. */
  let shown = new Map();
  const rowOf = (task) => {
    const state = `${task.updated_at} ${task.status} ${chosen.has(task.id)} ${lang()}`;
    const before = shown.get(task.id);
    return before?.state === state ? before : { state, ...row(task) };
  };
  const rowsOf = (tasks) => {
    const rows = tasks.map(rowOf);
    shown = new Map(rows.map((one) => [one.key, one]));
    return rows;
  };

  const row = (task) => ({
    key: task.id,
    flash: task.status,
    cells: [
      box(t("tasks.choose", { what: firstLine(task.prompt, 40) }), chosen.has(task.id), (event) => choose([task.id], event.target.checked)),
      status(task.status),
      link(`/tasks/${task.id}`, firstLine(task.prompt) || task.id),
      task.agent_slug,
      task.context_id,
      t("task.of", { n: task.attempts, most: task.max_attempts }),
      count(task.priority),
      task.worker_id ? link(`/workers/${encodeURIComponent(task.worker_id)}`, task.worker_id) : "—",
      time(task.created_at),
    ],
  });

  const bar = (rows, next) => {
    const whole = next && !everything && rows.every((task) => chosen.has(task.id)) && !page.query.get("q");
    return h("div", { class: "chosen", role: "group", "aria-label": t("tasks.chosen_label"), key: "chosen" },
      h("strong", null, everything ? t("tasks.everything") : t("tasks.chosen", { n: chosen.size })),
      whole && button(t("tasks.choose_filter"), () => {
        everything = true;
        page.draw();
      }, { kind: "plain" }),
      act(page, t("requeue"), () => change("requeue")),
      act(page, t("cancel"), () => change("cancel"), { kind: "bad" }),
      button(t("tasks.unchoose"), () => {
        clear();
        page.draw();
        document.querySelector("thead [type=checkbox]")?.focus();
      }, { kind: "plain" }));
  };

  return {
    title: () => t("nav.tasks"),
    moved: clear,
    concerns: (event) => !event.kind.startsWith("worker") && !event.kind.startsWith("con"),
    async load() {
      const wanted = { ...given(["status", "cursor", ...FILTERS]), limit: length(page) };
      const [list, stats] = await Promise.all([api.tasks(wanted), api.stats()]);
      return { ...list, stats };
    },
    render({ rows, next, stats }) {
      const filtered = Object.keys(given(["status", ...FILTERS])).length > 0;
      return [
        head(t("nav.tasks"), t("tasks.line", { n: stats.tasks.total }), h("a", { class: "button primary", href: "/tasks/new" }, t("task.new"))),
        statuses(page, stats),
        search(page, ["agent_slug", "context_id", "worker_id"]),
        rows.length > 0 && chosen.size > 0 && bar(rows, next),
        rows.length ? table(t("nav.tasks"), columns(rows), rowsOf(rows), "list") : nothing(page, filtered, next),
        pager(page, next),
      ];
    },
  };
}

function statuses(page, stats) {
  const now = page.query.get("status");
  const one = (name, n, ...kids) =>
    h("a", { key: name ?? "all", href: page.address({ status: name, cursor: null }), "aria-current": now === name ? "true" : null },
      ...kids, h("span", { class: "n" }, count(n)));
  return h("nav", { class: "chips", "aria-label": t("task.status") },
    one(null, stats.tasks.total, t("tasks.all")),
    STATUSES.map((name) => one(name, stats.tasks.by_status[name] ?? 0, mark(name), word("status", name))));
}

function nothing(page, filtered, next) {
  // Filters without an index look at a part of the tasks at a time.
  if (next) return empty(t("list.further"), h("p", null, link(page.address({ cursor: next }), t("list.look_further"))));
  if (filtered) return empty(t("tasks.no_match"), h("p", null, link("/tasks", t("filter.clear"))));
  return empty(t("tasks.none"), h("p", null, t("tasks.none_how")), h("p", null, link("/tasks/new", t("task.new"))));
}
