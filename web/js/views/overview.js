// Overview: what is wrong, what waits, how much gets done, what happened last.

import * as api from "../api.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { ago, count } from "../format.js";
import { STATUSES, capacity, empty, english, facts, head, link, mark, section, status, time } from "../parts.js";
import { entry } from "../trail.js";
import { condition, howToAdd } from "../fleet.js";

export function view() {
  return {
    title: () => t("nav.overview"),
    async load() {
      const [stats, workers, health, audit] = await Promise.all([
        api.stats(), api.workers(), api.health(), api.audit({ limit: 8 })]);
      return { stats, workers: workers.rows, health, audit: audit.rows };
    },
    render,
  };
}

function render({ stats, workers, health, audit }) {
  const wrong = needs(stats, workers, health);
  const online = workers.filter((worker) => worker.status === "online");
  const slots = online.reduce((sum, worker) => sum + worker.capabilities.max_concurrency, 0);
  const used = online.reduce((sum, worker) => sum + worker.active_leases, 0);
  const line = [
    wrong.length ? t("overview.wrong", { n: wrong.length }) : t("overview.fine"),
    online.length ? t("overview.slots", { n: online.length, free: Math.max(0, slots - used), all: slots }) : t("overview.nobody"),
  ].join(" · ");
  return [
    head(t("nav.overview"), line, h("a", { class: "button primary", href: "/tasks/new" }, t("task.new"))),
    wrong.length > 0 && section(t("overview.needs"), h("ul", { class: "needs" }, wrong)),
    h("ul", { class: "tiles", "aria-label": t("overview.counts") }, STATUSES.map((name) => tile(name, stats.tasks.by_status[name] ?? 0))),
    h("div", { class: "two" },
      section(t("overview.hour"), chart(stats.last_hour)),
      section(t("overview.now"), present(stats, workers, online))),
    section(t("overview.recent"), audit.length
      ? [h("ul", { class: "trail" }, audit.map(entry)), link("/activity", t("overview.all"))]
      : empty(t("overview.none"), h("p", null, link("/tasks/new", t("task.first"))))),
  ];
}

/** What only a person can mend, the worst first. */
function needs(stats, workers, health) {
  const { failed = 0, dead = 0, queued = 0 } = stats.tasks.by_status;
  const found = [];
  const need = (kind, href, text, detail) =>
    found.push(h("li", { key: href + kind }, mark(kind), h("div", null, link(href, text), detail && h("p", { class: "small" }, detail))));
  if (health.storage_state && health.storage_state !== "ok") {
    need("failed", "/settings", t("need.storage"), word("storage", health.storage_state));
  }
  if (dead) need("dead", "/tasks?status=dead", t("need.dead", { n: dead }));
  if (failed) need("failed", "/tasks?status=failed", t("need.failed", { n: failed }));
  for (const worker of workers.filter((one) => one.cooling)) {
    const { code, until, message } = worker.cooling;
    const why = [word("code", code), message && [": ", english(message)]];
    need("cooling", `/workers/${encodeURIComponent(worker.id)}`, t("need.cooling", { name: worker.id, when: ago(until) }), why);
  }
  if (health.membridge?.consecutiveFailures > 0) {
    need("warn", "/settings", t("need.membridge"), health.membridge.lastError && english(health.membridge.lastError));
  }
  if (health.artifacts?.last_error) {
    need("warn", "/settings", t("need.s3", { n: health.artifacts.waiting }), english(health.artifacts.last_error));
  }
  if (queued && !workers.some((worker) => worker.status === "online")) need("warn", "/workers", t("need.worker"));
  return found;
}

const tile = (name, n) =>
  h("li", { key: name, flash: n },
    h("a", { href: `/tasks?status=${name}`, class: n ? null : "none" }, h("strong", null, count(n)), status(name)));

function present(stats, workers, online) {
  const oldest = stats.oldest_queued_at;
  return [
    facts(
      [t("overview.workers"), link("/workers", t("overview.of", { n: online.length, all: workers.length }))],
      [t("overview.leases"), count(stats.leases.active)],
      [t("overview.oldest"), oldest === null ? t("overview.empty") : time(oldest)]),
    workers.length
      ? h("ul", { class: "fleet" }, workers.slice(0, 6).map((worker) =>
          h("li", { key: worker.id },
            link(`/workers/${encodeURIComponent(worker.id)}`, worker.id), status(condition(worker)),
            capacity(worker.active_leases, worker.capabilities.max_concurrency))))
      : howToAdd(),
  ];
}

const UP = 60;
const DOWN = 24;

/** A bar for each minute: completed up, failed down. */
function chart(hour) {
  if (!hour) return empty(t("chart.none"));
  const { completed, failed } = hour;
  const sum = (list) => list.reduce((all, n) => all + n, 0);
  const most = Math.max(4, ...completed);
  const worst = Math.max(2, ...failed);
  const tall = (n, scale, size) => Math.max(2, (n * size) / scale);
  const bar = (kind, at, y, height) => h("rect", { class: kind, x: at * 6 + 1, width: 4, y, height });
  const minutes = completed.map((n, at) => ({ n, bad: failed[at], ago: completed.length - 1 - at })).filter(({ n, bad }) => n || bad);
  const columns = [t("chart.minute"), word("status", "completed"), word("status", "failed")];
  if (!minutes.length) return h("p", { class: "muted" }, t("chart.quiet"));
  return h("figure", { class: "chart" },
    h("figcaption", null, [["completed", completed], ["failed", failed]].map(([name, list]) => status(name, `${word("status", name)} ${count(sum(list))}`))),
    h("svg", { viewBox: `0 0 360 ${UP + DOWN + 2}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      completed.map((n, at) => n > 0 && bar("ok", at, UP - tall(n, most, UP), tall(n, most, UP))),
      h("rect", { class: "axis", x: 0, width: 360, y: UP, height: 1 }),
      failed.map((n, at) => n > 0 && bar("bad", at, UP + 2, tall(n, worst, DOWN)))),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", null, t("time.ago.minute", { n: completed.length })), h("span", null, t("chart.now"))),
    h("div", { class: "sr" }, h("table", null,
      h("caption", null, t("overview.hour")),
      h("thead", null, h("tr", null, columns.map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", null, minutes.map((one) =>
        h("tr", null, h("th", { scope: "row" }, one.ago ? t("time.ago.minute", { n: one.ago }) : t("chart.now")), h("td", null, one.n), h("td", null, one.bad)))))));
}
