// What several views say of workers.

import { h } from "./h.js";
import { t } from "./i18n.js";
import { command, empty } from "./parts.js";

/** The one word that matters most about a worker. */
export function condition(worker) {
  if (worker.status !== "online") return worker.status;
  if (worker.draining) return "draining";
  return worker.cooling ? "cooling" : "online";
}

/** The command that adds a worker. */
export const how = () => [
  h("p", null, t("workers.how")),
  command(`bloom-runtime worker --server ${location.origin} --name $(hostname)`),
  h("p", { class: "small" }, t("workers.key")),
];

export const howToAdd = () => empty(t("workers.none"), how());
