// Everything by keyboard: places, search, a new task, rows.
//
// Must stay true: a letter typed into a field is that letter; a key with Ctrl, Alt or Meta is the
// browser's. Letters go by the key's place, so that they work under a Ukrainian layout.

import { keysHelp } from "./dialog.js";

const PLACES = { KeyO: "/", KeyT: "/tasks", KeyW: "/workers", KeyM: "/membridge", KeyA: "/activity", KeyS: "/settings" };
const CHORD_MS = 1500;

function row(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement?.closest("[data-row]"));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
  (next.querySelector("a") ?? next.querySelector("button"))?.focus();
  next.scrollIntoView({ block: "nearest" });
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
    const place = Date.now() - chord < CHORD_MS && PLACES[event.code];
    chord = 0;
    if (place) go(place);
    else if (event.code === "KeyG") chord = Date.now();
    else if (event.key === "?" || (event.shiftKey && event.code === "Slash")) keysHelp();
    else if (event.key === "/" || event.code === "Slash") {
      const search = document.querySelector("[name=q]");
      if (search) search.focus();
      else go("/tasks", () => document.querySelector("[name=q]")?.focus());
    } else if (event.code === "KeyN") go("/tasks/new");
    else if (event.code === "KeyJ") row(1);
    else if (event.code === "KeyK") row(-1);
    else if (event.code === "KeyX") document.activeElement?.closest("[data-row]")?.querySelector("[type=checkbox]")?.click();
    else return;
    event.preventDefault();
  });
}
