// What an entry of the audit trail looks like, here and there.

import { h } from "./h.js";
import { word } from "./i18n.js";
import { english, id, link, time } from "./parts.js";

/** What an entry is about, with a way there. */
export function about({ entity_type, entity_id }) {
  if (entity_type === "llm_task") return id(entity_id, `/tasks/${entity_id}`);
  if (entity_type === "worker") return link(`/workers/${encodeURIComponent(entity_id)}`, entity_id);
  if (entity_type === "membridge_project") return link(`/membridge?project=${encodeURIComponent(entity_id)}`, entity_id);
  return entity_type === "lease" ? id(entity_id) : null;
}

/** The server's words, with the ids in them shortened, and a way to the tasks. */
export function detail(text) {
  const parts = text.split(/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/);
  const way = (n) => (/\btask $/i.test(parts[n - 1]) ? `/tasks/${parts[n]}` : undefined);
  return english(parts.map((part, n) => (n % 2 ? id(part, way(n)) : part)));
}

/** An entry as one line of a short list. */
export const entry = (row) =>
  h("li", { key: row.id }, time(row.timestamp),
    h("span", null, h("strong", null, word("action", row.action)), " ", about(row), " ", h("span", { class: "muted" }, detail(row.detail))));
