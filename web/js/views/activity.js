// Activity: the audit trail, newest first.

import * as api from "../api.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { empty, head, id, link, pager, search, table, time } from "../parts.js";

const ROWS = 100;
const ACTIONS = [
  "task_created", "task_leased", "task_completed", "task_requeued", "task_cancelled", "task_released", "lease_expired",
  "tasks_removed", "worker_registered", "worker_updated", "worker_removed", "worker_offline", "worker_online",
  "worker_cooling", "worker_ready", "worker_drained", "worker_undrained", "config_updated", "connection_test",
  "connection_changed", "leadership_promote", "signed_in", "signed_out",
];

/** What an entry is about, with a way there. */
function about({ entity_type, entity_id }) {
  if (entity_type === "llm_task") return id(entity_id, `/tasks/${entity_id}`);
  if (entity_type === "worker") return link(`/workers/${encodeURIComponent(entity_id)}`, entity_id);
  if (entity_type === "membridge_project") return link(`/membridge?project=${encodeURIComponent(entity_id)}`, entity_id);
  return entity_type === "lease" ? id(entity_id) : null;
}

/** The server's words, with the ids in them shortened. */
const detail = (text) => text.split(/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/).map((part, n) => (n % 2 ? id(part) : part));

/** An entry as one line of a short list. */
export const entry = (row) =>
  h("li", { key: row.id }, time(row.timestamp),
    h("span", null, h("strong", null, word("action", row.action)), " ", about(row), " ", h("span", { class: "muted" }, detail(row.detail))));

export function activity(page) {
  const actions = [["", t("filter.any")], ...ACTIONS.map((name) => [name, word("action", name)])];
  return {
    title: () => t("nav.activity"),
    load() {
      const given = ["action", "actor", "entity_id", "q", "cursor"].map((name) => [name, page.query.get(name)]);
      return api.audit({ ...Object.fromEntries(given), limit: ROWS });
    },
    render: ({ rows, next }) => [
      head(t("nav.activity"), t("activity.line")),
      search(page, ["actor", "entity_id"], { action: actions }),
      rows.length ? trail(rows) : nothing(page, next),
      pager(page, next),
    ],
  };
}

function trail(rows) {
  const columns = [[t("activity.when")], [t("activity.what")], [t("activity.about"), "name"], [t("activity.who"), "name"], [t("activity.detail"), "wide"]];
  return table(t("nav.activity"), columns, rows.map((row) => ({
    key: row.id,
    cells: [time(row.timestamp), word("action", row.action), about(row) ?? "—", row.actor, detail(row.detail)],
  })));
}

function nothing(page, next) {
  if (next) return empty(t("list.further"), h("p", null, link(page.address({ cursor: next }), t("list.look_further"))));
  if (page.query.size) return empty(t("activity.no_match"), h("p", null, link("/activity", t("filter.clear"))));
  return empty(t("activity.none"), h("p", null, t("activity.none_how")));
}
