// Numbers, times and ids as people read them, by Intl in the page's language.
//
// Must stay true: times are the server's clock, shown in the reader's zone. Distances in time are words of
// ours: the browser's first format costs more than a whole first view.

import { ahead } from "./api.js";
import { lang, number, t } from "./i18n.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const now = () => Date.now() + ahead();

const formats = new Map();
function format(kind, options) {
  const name = `${lang()} ${kind.name} ${JSON.stringify(options)}`;
  if (!formats.has(name)) formats.set(name, new kind(lang(), options));
  return formats.get(name);
}

export const count = (n, options) => (options ? format(Intl.NumberFormat, options).format(n) : number(n));
export const money = (n) => count(n, { style: "currency", currency: "USD", maximumFractionDigits: n < 1 ? 4 : 2 });

/** The exact time, with its zone. */
export const exact = (ms) => format(Intl.DateTimeFormat, { dateStyle: "medium", timeStyle: "long" }).format(ms);
export const clock = (ms, timeStyle = "medium") => format(Intl.DateTimeFormat, { timeStyle }).format(ms);

function parts(ms) {
  const far = Math.abs(ms);
  if (far < MINUTE) return [Math.round(ms / SECOND), "second"];
  if (far < HOUR) return [Math.trunc(ms / MINUTE), "minute"];
  if (far < DAY) return [Math.trunc(ms / HOUR), "hour"];
  return [Math.trunc(ms / DAY), "day"];
}

/** How far a moment is from now: "3 min ago". */
export function ago(ms) {
  const [n, unit] = parts(ms - now());
  if (unit === "second" && Math.abs(n) < 3) return t("time.now");
  return t(`time.${n < 0 ? "ago" : "in"}.${unit}`, { n: Math.abs(n) });
}

const unit = (n, name) => count(n, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: 1 });

/** How large something is. */
export const size = (bytes) => (bytes < 1000 ? unit(bytes, "byte") : bytes < 1e6 ? unit(bytes / 1000, "kilobyte") : unit(bytes / 1e6, "megabyte"));

/** How long something took, in its two largest units. */
export function span(ms) {
  if (ms < SECOND) return unit(Math.round(ms), "millisecond");
  if (ms < 10 * SECOND) return unit(ms / SECOND, "second");
  const two = (large, small, size, rest) => {
    const low = Math.trunc((ms % size) / rest);
    return unit(Math.trunc(ms / size), large) + (low ? ` ${unit(low, small)}` : "");
  };
  if (ms < MINUTE) return unit(Math.round(ms / SECOND), "second");
  if (ms < HOUR) return two("minute", "second", MINUTE, SECOND);
  if (ms < DAY) return two("hour", "minute", HOUR, MINUTE);
  return two("day", "hour", DAY, HOUR);
}

/** The part of an id that tells it apart: ours count up, so that their beginnings are alike. */
export const short = (id) => String(id).slice(-8);

export const firstLine = (text, most = 160) => {
  const line = text.trimStart().split("\n", 1)[0];
  return line.length > most ? `${line.slice(0, most)}…` : line;
};
