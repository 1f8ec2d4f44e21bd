// Everything by keyboard: places, search, a new task, rows.
//
// Must stay true: a letter typed into a field is that letter; a key with Ctrl, Alt or Meta is the
// browser's. Where the layout has no Latin letters, as in Ukrainian, the key's place tells the letter.

import { keysHelp } from "./dialog.js";

const PLACES = { o: "/", t: "/tasks", w: "/workers", m: "/membridge", a: "/activity", s: "/settings" };
const CHORD_MS = 1500;

function row(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement?.closest("[data-row]"));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
  (next.querySelector("a") ?? next.querySelector("button"))?.focus();
  next.scrollIntoView({ block: "nearest" });
}

/** The key as a Latin keyboard would have it. The Ukrainian one has "." and "," where that has "/" and "?". */
function latin({ key, code }) {
  if (code === "Slash" && ".,".includes(key)) return key === "." ? "/" : "?";
  return /^[^\x00-\x7f]$/.test(key) && code.startsWith("Key") ? code.at(-1).toLowerCase() : key.toLowerCase();
}

export function listen(go) {
  let chord = 0;
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    if (at.closest("input:not([type=checkbox]):not([type=radio]), textarea, select")) {
      if (event.key === "Escape") at.blur();
      return;
    }
    const key = latin(event);
    const place = Date.now() - chord < CHORD_MS && PLACES[key];
    chord = 0;
    if (place) go(place);
    else if (key === "g") chord = Date.now();
    else if (key === "?") keysHelp();
    else if (key === "/") {
      const search = document.querySelector("[name=q]");
      if (search) search.focus();
      else go("/tasks", () => document.querySelector("[name=q]")?.focus());
    } else if (key === "n") go("/tasks/new");
    else if (key === "j") row(1);
    else if (key === "k") row(-1);
    else if (key === "x") document.activeElement?.closest("[data-row]")?.querySelector("[type=checkbox]")?.click();
    else return;
    event.preventDefault();
  });
}
