// One task: what it is, every attempt, what it says while it runs, what came of it.
//
// Must stay true: whatever a model wrote is shown as text; a large result is asked for once.

import * as api from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { clock, count, firstLine, money, short, size, span } from "../format.js";
import { follow } from "../live.js";
import { act, facts, failure, head, id, link, note, section, status, table, tags, text, time } from "../parts.js";
import { entry } from "../trail.js";

/** Characters that are shown at once; the rest is in the download. */
const SHOWN_CHARS = 200_000;
const LOG_LINES = 500;
const OPEN = ["queued", "leased", "running"];

const missing = (error) => {
  if (error.status !== 404) throw error;
  return null;
};

/** A result whose output lies in S3, which is away: the rest of the task is shown all the same. */
const missingOrAway = (error) => (error.code === "artifact_unavailable" ? { away: error } : missing(error));

export function view(page) {
  const name = page.param;
  const log = { lines: [], lost: false, asked: false, stop: null, node: null };
  let known = null;

  /** The result and artifacts change only with the task. */
  const outcome = async (now, attempts) => {
    if (attempts.length === 0) return { result: null, artifacts: [] };
    if (known?.at !== now.updated_at) {
      const ended = attempts.some((one) => one.artifact_id);
      const [result, artifacts] = await Promise.all([ended ? api.result(name).catch(missingOrAway) : null, api.artifacts(name)]);
      if (result?.away) return { result: null, away: result.away, artifacts: artifacts.rows };
      known = { at: now.updated_at, result, artifacts: artifacts.rows };
    }
    return known;
  };

  const listen = (now) => {
    // A finished task has nothing more to say; what it said is asked for once.
    if (log.stop || (log.asked && !OPEN.includes(now.status))) return;
    log.asked = true;
    log.stop = follow(api.logAddress(name), {
      line(line) {
        log.lines = [...log.lines, line].slice(-LOG_LINES);
        drawLog();
      },
      lost() {
        log.lost = true;
      },
      end() {
        log.stop = null;
        page.refresh();
      },
    });
  };

  let drawing = 0;
  const drawLog = () => {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      const { node } = log;
      const atEnd = !node?.isConnected || node.scrollHeight - node.scrollTop - node.clientHeight < 40;
      page.draw();
      if (atEnd && log.node) log.node.scrollTop = log.node.scrollHeight;
    });
  };

  const requeue = () => api.requeue(name).then(() => t("task.requeued"));
  const cancel = async (now) => {
    const losing = now.status !== "queued";
    if (losing && !(await ask(t("task.cancel_ask"), t("task.cancel_means"), t("task.cancel_do"), "bad"))) return null;
    await api.cancel(name);
    return t("task.cancelled");
  };

  return {
    title: (data) => (data ? firstLine(data.task.prompt, 40) : t("task.task")),
    concerns: (event) => event.id === name || event.kind.startsWith("worker") || event.kind === "lease_expired",
    leave: () => log.stop?.(),
    async load() {
      const now = await api.task(name);
      const [attempts, waiting, audit] = await Promise.all([
        api.attempts(name), now.status === "queued" ? api.waiting(name) : null, api.audit({ entity_id: name, limit: 20 })]);
      const ended = await outcome(now, attempts);
      if (!page.ended) listen(now);
      return { task: now, attempts, waiting, audit: audit.rows.filter((row) => row.entity_id === name), ...ended };
    },
    render({ task: now, attempts, waiting, audit, result, away, artifacts }) {
      const done = !OPEN.includes(now.status);
      return [
        h("p", { class: "crumb" }, link("/tasks", t("nav.tasks"))),
        head(h("span", null, t("task.task"), " ", h("code", { title: name }, short(name))),
          [status(now.status), now.last_code && ` · ${word("code", now.last_code)}`, " · ", time(now.updated_at)],
          ["failed", "dead", "cancelled"].includes(now.status) && act(page, t("requeue"), requeue, { kind: "primary" }),
          h("a", { class: "button", href: `/tasks/new?from=${name}` }, t("task.again")),
          !done && act(page, t("cancel"), () => cancel(now), { kind: "bad" })),
        h("div", { class: "aside" },
          h("div", null,
            waiting?.waiting && why(waiting),
            result && outcomeOf(result, now),
            away && section(t("task.result"), failure(away, () => page.refresh())),
            !done && attempts.length > 0 && spoken(log, done),
            section(t("task.prompt"), clipped(now.prompt, t("task.prompt"))),
            section(t("task.attempts"), attempts.length ? timeline(attempts, result) : h("p", { class: "muted" }, t("attempt.none"))),
            done && spoken(log, done)),
          h("div", null,
            described(now),
            artifacts.length > 0 && section(t("task.artifacts"), files(artifacts)),
            section(t("task.trail"), audit.length ? h("ul", { class: "trail" }, audit.map(entry)) : h("p", { class: "muted" }, t("activity.none"))))),
      ];
    },
  };
}

/** Why it waits, by the rules by which tasks are handed out. */
function why({ reasons, workers }) {
  const until = (one) => (one.until ? [" ", time(one.until)] : null);
  return section(t("wait.title"),
    reasons.length
      ? h("ul", { class: "needs" }, reasons.map((one) => h("li", null, h("div", null, word("wait", one.code), until(one)))))
      : h("p", null, t("wait.soon")),
    workers.length > 0 && table(t("wait.workers"), [[t("worker.name"), "wide"], [t("wait.keeps")]], workers.slice(0, 50).map((one) => ({
      key: one.worker_id,
      cells: [link(`/workers/${encodeURIComponent(one.worker_id)}`, one.worker_id),
        [status(one.may_take ? "online" : "offline", word("wait", one.code)), until(one), one.code === "worker_label_missing" && ` (${one.text.split(": ").slice(1).join(": ")})`]],
    }))));
}

function described(now) {
  const { policy } = now;
  const retry = policy.retry?.on_error
    ? t("task.retry_yes", { from: span(policy.retry.backoff_seconds * 1000), to: span(policy.retry.max_backoff_seconds * 1000) })
    : t("task.retry_no");
  return section(t("task.details"), facts(
    [t("task.agent"), link(`/tasks?agent_slug=${encodeURIComponent(now.agent_slug)}`, now.agent_slug)],
    [t("task.context"), link(`/tasks?context_id=${encodeURIComponent(now.context_id)}`, now.context_id)],
    [t("task.worker"), now.worker_id ? link(`/workers/${encodeURIComponent(now.worker_id)}`, now.worker_id) : "—"],
    [t("task.attempts"), t("task.of", { n: now.attempts, most: now.max_attempts })],
    [t("task.priority"), count(now.priority)],
    [t("task.format"), t(`format.${now.desired_format}`)],
    [t("task.timeout"), span(policy.timeout_sec * 1000)],
    [t("task.budget"), policy.budget ? money(policy.budget) : t("task.no_budget")],
    [t("task.retry"), retry],
    [t("task.labels"), tags(now.labels)],
    now.not_before && [t("task.not_before"), time(now.not_before)],
    [t("task.created"), time(now.created_at)],
    ["id", h("code", { class: "whole" }, now.id)],
    now.context_hints.length > 0 && [t("task.hints"), h("ul", { class: "plainlist" }, now.context_hints.map((hint) => h("li", null, h("code", null, hint))))]));
}

/** The newest first: that is what a person asks about. */
const timeline = (attempts, result) => h("ol", { class: "timeline" }, [...attempts].reverse().map((one) => {
  const { metrics = {} } = one;
  const tokens = metrics.tokens_used ?? (metrics.input_tokens ?? 0) + (metrics.output_tokens ?? 0);
  const outcome = one.outcome ?? "running";
  const took = one.ended_at ? span(one.ended_at - one.started_at) : t("attempt.since");
  const figures = [
    tokens > 0 && t("attempt.tokens", { n: tokens }),
    metrics.cost_usd !== undefined && metrics.cost_usd !== null && money(metrics.cost_usd),
    metrics.turns && t("attempt.turns", { n: metrics.turns }),
    metrics.model,
  ].filter(Boolean);
  return h("li", { key: one.lease_id, flash: outcome },
    h("div", { class: "top" }, h("strong", null, `#${one.attempt}`), status(outcome, word("outcome", outcome)),
      link(`/workers/${encodeURIComponent(one.worker_id)}`, one.worker_id), h("span", null, took, !one.ended_at && [" ", time(one.started_at)])),
    h("p", { class: "small" }, one.ended_at && [time(one.started_at), " · "], t("attempt.lease"), " ", id(one.lease_id), figures.length > 0 && ` · ${figures.join(" · ")}`),
    one.code && h("p", null, word("code", one.code)),
    one.error_message && one.error_message !== result?.error_message && h("pre", { class: "error", tabindex: "0" }, one.error_message));
}));

function spoken(log, done) {
  if (!log.lines.length && done) return null;
  const lines = log.lines.map((line, n) => {
    const next = n > 0 && log.lines[n - 1].attempt !== line.attempt;
    return [next && h("span", { class: "muted" }, `— #${line.attempt} —\n`), h("span", { class: "at" }, `${clock(line.at)} `), `${line.text}\n`];
  });
  return section(t("log.title"),
    log.lost && h("p", { class: "small" }, t("log.lost")),
    log.lines.length
      ? h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": t("log.title"), ref: (node) => { log.node = node; } }, lines)
      : h("p", { class: "muted" }, t("log.none")));
}

function clipped(value, label, href) {
  if (value.length <= SHOWN_CHARS) return text(value, label);
  return [text(value.slice(0, SHOWN_CHARS), label), h("p", { class: "small" }, t("text.clipped", { n: SHOWN_CHARS, all: value.length })), href && download(href)];
}

const download = (href) => h("a", { class: "button", href, download: "" }, t("download"));

function pretty(value) {
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value;
  }
}

function outcomeOf(result, now) {
  const href = result.output === null ? null : api.contentAddress(result.artifact_id);
  const old = OPEN.includes(now.status);
  return section(t(old ? "task.result_before" : "task.result"),
    h("p", { class: "small" }, link(`/workers/${encodeURIComponent(result.worker_id)}`, result.worker_id), " · ", span(result.metrics.duration_ms),
      result.metrics.tokens_used > 0 && ` · ${t("attempt.tokens", { n: result.metrics.tokens_used })}`, " · ", time(result.completed_at)),
    result.error_message !== null && h("pre", { class: "error", tabindex: "0", role: "region", "aria-label": t("task.error") }, result.error_message),
    result.output !== null && clipped(now.desired_format === "json" ? pretty(result.output) : result.output, t("task.result"), href),
    href && h("p", null, download(href)),
    result.output === null && result.error_message === null && note("warn", h("p", null, t("task.no_output"))));
}

/** What workers returned goes by its name, an output by its kind. */
const files = (artifacts) => h("ul", { class: "plainlist" }, artifacts.map((file) =>
  h("li", { key: file.id }, file.name ? h("strong", null, file.name) : h("code", null, file.type), " ", id(file.id), " · ", time(file.created_at), " · ",
    file.bytes === null ? h("span", { class: "muted" }, t("artifact.empty")) : [size(file.bytes), file.url && ` · ${t("artifact.in_s3")}`, " ", download(api.contentAddress(file.id))],
    file.tags.length > 0 && [" ", tags(file.tags)])));
