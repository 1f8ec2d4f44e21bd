// One worker: what it is, what it holds, and taking it out of the fleet.

import * as api from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { act, addresses, capacity, english, facts, head, id, link, note, section, status, table, tags, time } from "../parts.js";
import { condition } from "../fleet.js";

export function view(page) {
  const name = page.param;
  const remove = async () => {
    if (!(await ask(t("worker.remove_ask", { name }), t("worker.remove_means"), t("worker.remove_do", { name }), "bad"))) return;
    await api.removeWorker(name);
    page.go("/workers");
  };
  const undrain = () => api.undrain(name).then(() => t("worker.undrained"));
  const drain = () => api.drain(name).then(() => t("worker.drained"));
  return {
    title: () => name,
    load: () => api.worker(name),
    render(data) {
      const { cooling, draining } = data;
      const state = [status(condition(data)), " ", capacity(data.active_leases, data.capabilities.max_concurrency)];
      return [
        h("p", { class: "crumb" }, link("/workers", t("nav.workers"))),
        head(name, state,
          draining || cooling ? act(page, t(draining ? "worker.undrain" : "worker.wake"), undrain, { kind: "primary" }) : act(page, t("worker.drain"), drain),
          act(page, t("worker.remove"), remove, { kind: "bad" })),
        draining && note("warn", h("p", null, t("worker.is_draining"))),
        cooling && note("warn",
          h("p", null, t("worker.is_cooling", { why: word("code", cooling.code) }), " ", time(cooling.until)),
          cooling.message && h("p", { class: "small" }, english(cooling.message))),
        section(t("worker.leases"), held(data.leases)),
        section(t("worker.about"), described(data)),
        h("p", null, link(`/tasks?worker_id=${encodeURIComponent(name)}`, t("worker.tasks")), " · ",
          link(`/activity?entity_id=${encodeURIComponent(name)}`, t("worker.trail"))),
      ];
    },
  };
}

function held(leases) {
  if (!leases.length) return h("p", { class: "muted" }, t("worker.idle"));
  const columns = [[t("task.task")], [t("task.context"), "wide"], [t("lease.since")], [t("lease.until")]];
  return table(t("worker.leases"), columns, leases.map((lease) => ({
    key: lease.id,
    cells: [id(lease.task_id, `/tasks/${lease.task_id}`), lease.context_id, time(lease.started_at), time(lease.expires_at)],
  })));
}

const described = (data) => facts(
  [t("worker.seen"), time(data.last_heartbeat)],
  [t("worker.labels"), tags(data.capabilities.labels)],
  [t("worker.claude"), t(data.capabilities.claude_cli ? "yes" : "no")],
  [t("worker.version"), data.agent_version ?? "—"],
  [t("worker.os"), data.os_info ?? "—"],
  [t("worker.addresses"), addresses(data.ip_addrs)],
  data.url && ["URL", data.url],
  [t("worker.way"), t(data.pushed ? "worker.pushed" : "worker.pulls")],
  data.from_membridge && [t("worker.origin"), t("worker.from_membridge")],
  [t("worker.registered"), time(data.registered_at)]);
