// A new task, every field with its limits beside it; `?from=` begins with what another task has.
//
// Must stay true: pressing twice, or again after a lost answer, creates one task (Idempotency-Key).

import * as api from "../api.js";
import { h } from "../h.js";
import { t } from "../i18n.js";
import { act, choice, field, head, link } from "../parts.js";

const START = {
  context_id: "", agent_slug: "", prompt: "", context_hints: [], labels: [], desired_format: "text",
  max_attempts: 3, priority: 0, policy: { timeout_sec: 120, budget: 0 },
};

function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const lines = (value) => value.split("\n").map((line) => line.trim()).filter(Boolean);

function read(form) {
  const value = (name) => form.elements[name].value;
  const number = (name) => Number(value(name));
  const moment = value("not_before");
  return {
    context_id: value("context_id").trim(),
    agent_slug: value("agent_slug").trim(),
    prompt: value("prompt"),
    context_hints: lines(value("context_hints")),
    labels: value("labels").split(",").map((label) => label.trim()).filter(Boolean),
    desired_format: value("desired_format"),
    max_attempts: number("max_attempts"),
    priority: number("priority"),
    not_before: moment ? new Date(moment).getTime() : null,
    policy: {
      timeout_sec: number("timeout_sec"),
      budget: number("budget"),
      retry: { on_error: form.elements.on_error.checked, backoff_seconds: number("backoff_seconds"), max_backoff_seconds: number("max_backoff_seconds") },
    },
  };
}

export function view(page) {
  const from = page.query.get("from");
  let sent = { body: "", key: "" };
  let wrong = {};

  const create = async () => {
    const form = document.getElementById("new-task");
    if (!form.reportValidity()) return null;
    const fields = read(form);
    const body = JSON.stringify(fields);
    if (body !== sent.body) sent = { body, key: freshKey() };
    wrong = {};
    try {
      const made = await api.createTask(fields, sent.key);
      page.go(`/tasks/${made.id}`);
    } catch (error) {
      wrong = error.fields ?? {};
      throw error;
    }
    return null;
  };

  return {
    title: () => t("task.new"),
    still: true,
    load: async () => (from ? { ...START, ...(await api.task(from)) } : START),
    render: (start) => [
      h("p", { class: "crumb" }, link("/tasks", t("nav.tasks"))),
      head(t("task.new"), from ? t("new.from") : t("new.line")),
      form(page, start, wrong, create),
    ],
  };
}

function form(page, start, wrong, create) {
  const bad = (name) => name in wrong;
  const number = (name, value, min, max, more = {}) => h("input", { name, type: "number", inputmode: "decimal", value, min, max, step: 1, required: true, ...more });
  const { policy } = start;
  const retry = policy.retry ?? { on_error: false, backoff_seconds: 15, max_backoff_seconds: 300 };
  return h("form", { id: "new-task", class: "form", onsubmit: (event) => {
    event.preventDefault();
    page.act(t("new.create"), create);
  } },
    field(t("task.prompt"), h("textarea", { name: "prompt", rows: 8, required: true, value: start.prompt, spellcheck: "true" }), t("limit.prompt"), bad("prompt")),
    h("div", { class: "pair" },
      field(t("task.agent"), h("input", { name: "agent_slug", required: true, maxlength: 4096, value: start.agent_slug, autocapitalize: "off" }), t("limit.agent"), bad("agent_slug")),
      field(t("task.context"), h("input", { name: "context_id", required: true, maxlength: 4096, value: start.context_id, autocapitalize: "off" }), t("limit.context"), bad("context_id"))),
    field(t("task.hints"), h("textarea", { name: "context_hints", rows: 2, value: start.context_hints.join("\n") }), t("limit.hints"), bad("context_hints")),
    h("div", { class: "pair" },
      field(t("task.format"), choice("desired_format", start.desired_format, [["text", t("format.text")], ["json", t("format.json")]]), t("limit.format"), bad("desired_format")),
      field(t("task.labels"), h("input", { name: "labels", value: start.labels.join(", "), autocapitalize: "off" }), t("limit.labels"), bad("labels"))),
    h("div", { class: "pair" },
      field(t("task.priority"), number("priority", start.priority, 0, 9), t("limit.priority"), bad("priority")),
      field(t("task.max_attempts"), number("max_attempts", start.max_attempts, 1, 10), t("limit.attempts"), bad("max_attempts"))),
    h("div", { class: "pair" },
      field(t("new.timeout"), number("timeout_sec", policy.timeout_sec, 1, 3600), t("limit.timeout"), bad("policy")),
      field(t("new.budget"), number("budget", policy.budget, 0, null, { step: "any" }), t("limit.budget"), bad("policy"))),
    field(t("task.not_before"), h("input", { name: "not_before", type: "datetime-local" }), t("limit.not_before"), bad("not_before")),
    h("fieldset", null,
      h("legend", null, t("task.retry")),
      h("label", { class: "tick" }, h("input", { type: "checkbox", name: "on_error", checked: retry.on_error }), t("new.retry")),
      h("div", { class: "pair" },
        field(t("new.backoff"), number("backoff_seconds", retry.backoff_seconds, 0, 3600), t("limit.backoff"), bad("policy")),
        field(t("new.max_backoff"), number("max_backoff_seconds", retry.max_backoff_seconds, 0, 86400), t("limit.max_backoff"), bad("policy")))),
    h("div", { class: "actions" },
      h("button", { type: "submit", class: "primary", "aria-disabled": page.busy ? "true" : null }, t("new.create")),
      link("/tasks", t("back"))));
}
