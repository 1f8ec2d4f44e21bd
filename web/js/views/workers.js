// Workers: who is there, how full, how to add one.

import * as api from "../api.js";
import { h } from "../h.js";
import { t } from "../i18n.js";
import { ago } from "../format.js";
import { condition, how, howToAdd } from "../fleet.js";
import { capacity, head, link, status, table, tags, time } from "../parts.js";

export function view() {
  return {
    title: () => t("nav.workers"),
    load: async () => (await api.workers()).rows,
    render(list) {
      const online = list.filter((worker) => worker.status === "online").length;
      if (!list.length) return [head(t("nav.workers"), t("overview.nobody")), howToAdd()];
      const columns = [[t("worker.name"), "wide"], [t("task.status")], [t("worker.capacity")], [t("worker.labels"), "tagged"], [t("worker.seen")], [t("worker.version")]];
      return [
        head(t("nav.workers"), t("workers.line", { n: online, all: list.length })),
        table(t("nav.workers"), columns, list.map(row)),
        h("details", { class: "add" }, h("summary", null, t("workers.add")), how()),
      ];
    },
  };
}

const row = (worker) => ({
  key: worker.id,
  flash: condition(worker),
  cells: [
    link(`/workers/${encodeURIComponent(worker.id)}`, worker.id),
    [status(condition(worker)), worker.cooling && h("span", { class: "small" }, ` ${t("worker.until", { when: ago(worker.cooling.until) })}`)],
    capacity(worker.active_leases, worker.capabilities.max_concurrency),
    tags(worker.capabilities.labels),
    time(worker.last_heartbeat),
    worker.agent_version ?? "—",
  ],
});
