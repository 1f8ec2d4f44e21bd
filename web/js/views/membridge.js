// Membridge: its projects, who leads each, and the nodes that hold its database.
//
// Must stay true: all of it is the control plane's own word, asked for anew every 30 s; its times are
// seconds with a fraction.

import * as api from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../h.js";
import { t, word } from "../i18n.js";
import { count, span } from "../format.js";
import { addresses, empty, english, facts, failure, field, head, link, note, section, status, table, time } from "../parts.js";

const LEASE_SECONDS = 3600;
const LEAST_SECONDS = 60;
const MOST_SECONDS = 86_400;

const ms = (seconds) => (typeof seconds === "number" ? Math.round(seconds > 1e11 ? seconds : seconds * 1000) : null);
const moment = (value) => (typeof value === "string" ? Date.parse(value) || null : ms(value));

export function view(page) {
  const project = () => page.query.get("project");

  const detail = async (cid) => {
    try {
      const leadership = await api.leadership(cid);
      return { leadership, nodes: leadership.nodes ?? (await api.nodes(cid)) };
    } catch (error) {
      if (error.code === "unauthorized" || error.code === "offline") throw error;
      return { error };
    }
  };

  const promote = async (cid, name) => {
    const form = document.getElementById("promote");
    if (!form.reportValidity()) return null;
    const node = form.elements.primary_node_id.value.trim();
    const seconds = Number(form.elements.lease_seconds.value);
    const how = t("promote.means", { time: span(seconds * 1000), project: name });
    if (!(await ask(t("promote.ask", { node }), how, t("promote.do", { node })))) return null;
    const said = await api.promote(cid, { primary_node_id: node, lease_seconds: seconds });
    return [t("promote.done", { node, time: span(seconds * 1000) }), typeof said.detail === "string" && [" ", english(said.detail)]];
  };

  return {
    title: () => t("nav.membridge"),
    concerns: (event) => event.kind === "leadership_promote" || event.kind.startsWith("con"),
    async load() {
      const projects = await api.projects();
      const cid = project() ?? projects[0]?.canonical_id;
      return { projects, cid, ...(cid ? await detail(cid) : {}) };
    },
    render(data) {
      const { projects, cid } = data;
      const name = projects.find((one) => one.canonical_id === cid)?.name ?? cid;
      if (!projects.length && !cid) {
        return [head(t("nav.membridge"), t("membridge.no_projects")), empty(t("membridge.empty"), h("p", null, t("membridge.empty_how")), h("p", null, link("/settings", t("nav.settings"))))];
      }
      return [
        head(t("nav.membridge"), t("membridge.line", { n: projects.length })),
        h("div", { class: "split" },
          h("nav", { class: "projects", "aria-label": t("membridge.projects") }, h("h2", null, t("membridge.projects")), projects.map((one) => item(page, one, cid))),
          h("div", { key: cid }, data.error ? failure(data.error, () => page.refresh()) : [
            section(name, led(data)),
            section(t("membridge.nodes"), nodes(data.nodes)),
            section(t("promote.title"), form(page, data.nodes, () => promote(cid, name)))])),
      ];
    },
  };
}

const item = (page, project, cid) =>
  h("a", { key: project.canonical_id, href: page.address({ project: project.canonical_id }), "aria-current": project.canonical_id === cid ? "true" : null },
    h("strong", null, project.name), h("code", null, project.canonical_id),
    h("span", { class: "small" }, word("source", project.source ?? "unknown"), " · ", t("membridge.node_count", { n: project.nodes_count ?? 0 })));

function led({ leadership, nodes: list }) {
  const primary = leadership.primary_node_id ?? leadership.preferred_primary ?? null;
  const record = leadership.lease;
  const expires = moment(record?.expires_at ?? leadership.expires_at ?? leadership.lease_expires_at);
  const unknown = primary && !list.some((node) => node.node_id === primary);
  return h("div", { class: "card" },
    facts(
      [t("membridge.primary"), primary ? [status(unknown ? "warn" : "primary", primary)] : t("membridge.nobody")],
      [t("membridge.epoch"), record?.epoch ?? leadership.epoch ?? t("membridge.untold")],
      [t("membridge.expires"), expires ? [time(expires), record?.expired && [" ", status("warn", t("membridge.expired"))]] : t("membridge.untold")],
      record && [t("membridge.issued"), [time(record.issued_at), record.issued_by && ` · ${record.issued_by}`]],
      record?.policy && [t("membridge.policy"), h("code", null, record.policy)],
      record && [t("membridge.read_from"), "S3"],
      [t("membridge.cid"), h("code", null, leadership.canonical_id)]),
    unknown && note("warn", h("p", null, t("membridge.unknown_primary", { node: primary }))),
    record && record.primary_node_id !== primary && note("warn", h("p", null, t("membridge.record_differs", { node: record.primary_node_id }))),
    leadership.lease_note && h("p", { class: "small" }, english(leadership.lease_note)),
    !primary && note("warn", h("p", null, t("membridge.no_primary"))));
}

/** Equal databases get the same letter, so that a difference is seen at once. */
function letters(list) {
  const seen = [...new Set(list.map((node) => node.db_sha).filter(Boolean))];
  return new Map(seen.map((sha, n) => [sha, { letter: String.fromCharCode(65 + (n % 26)), n: n % 4 }]));
}

function nodes(list) {
  if (!list.length) return empty(t("membridge.no_nodes"), h("p", null, t("membridge.no_nodes_how")));
  const marks = letters(list);
  const columns = [[t("membridge.node"), "wide"], [t("membridge.role")], [t("membridge.observations"), "number"], [t("membridge.database")], [t("worker.seen")], [t("worker.addresses"), "name"]];
  const database = (sha) => {
    if (!sha) return h("span", { class: "muted" }, t("membridge.untold"));
    const { letter, n } = marks.get(sha);
    return h("span", { class: `sha sha${n}`, title: sha }, h("strong", null, letter), " ", h("code", null, sha.slice(0, 8)));
  };
  const same = marks.size === 1 && list.every((node) => node.db_sha);
  const line = same ? status("completed", t("membridge.same")) : marks.size > 1 ? status("warn", t("membridge.differ", { n: marks.size })) : null;
  return [line && h("p", null, line), table(t("membridge.nodes"), columns, list.map((node) => ({
    key: node.node_id,
    flash: `${node.role} ${node.db_sha}`,
    cells: [node.node_id, status(node.role, word("role", node.role)), node.obs_count === null || node.obs_count === undefined ? "—" : count(node.obs_count), database(node.db_sha), time(ms(node.last_seen)), addresses(node.ip_addrs)],
  })))];
}

function form(page, list, run) {
  return h("form", { id: "promote", class: "form", onsubmit: (event) => {
    event.preventDefault();
    page.act(t("promote.title"), run);
  } },
    h("div", { class: "pair" },
      field(t("promote.node"), h("input", { name: "primary_node_id", list: "nodes", required: true, maxlength: 128, autocapitalize: "off", autocomplete: "off" }), t("limit.node")),
      field(t("promote.seconds"), h("input", { name: "lease_seconds", type: "number", required: true, min: LEAST_SECONDS, max: MOST_SECONDS, value: LEASE_SECONDS }), t("limit.lease"))),
    h("datalist", { id: "nodes" }, list.map((node) => h("option", { value: node.node_id }))),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, t("promote.button"))));
}
