// Activity: the audit trail, newest first.

import * as api from "../api.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { empty, head, length, link, pager, search, table, time } from "../parts.js";
import { about, detail } from "../trail.js";

const ACTIONS = [
  "task_created", "task_leased", "task_completed", "task_requeued", "task_cancelled", "task_released", "lease_expired",
  "tasks_removed", "worker_registered", "worker_updated", "worker_removed", "worker_offline", "worker_online",
  "worker_cooling", "worker_ready", "worker_drained", "worker_undrained", "config_updated", "connection_test",
  "connection_changed", "leadership_promote", "signed_in", "signed_out",
];

export function view(page) {
  return {
    title: () => t("nav.activity"),
    load() {
      const given = ["action", "actor", "entity_id", "q", "cursor"].map((name) => [name, page.query.get(name)]);
      return api.audit({ ...Object.fromEntries(given), limit: length(page) });
    },
    render: ({ rows, next }) => [
      head(t("nav.activity"), t("activity.line")),
      search(page, ["actor", "entity_id"], { action: [["", t("filter.any")], ...ACTIONS.map((name) => [name, word("action", name)])] }),
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
