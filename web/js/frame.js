// What stands around every view: the name, the places, how fresh the page is, language and theme.

import { h } from "./h.js";
import { LANGUAGES, lang, t } from "./i18n.js";
import { kept, keep } from "./kept.js";
import { mark } from "./parts.js";

const PLACES = [
  ["overview", "/", "M3 13h7V3H3zm0 8h7v-6H3zm11 0h7V11h-7zm0-18v6h7V3z"],
  ["tasks", "/tasks", "M4 6h2m3 0h11M4 12h2m3 0h11M4 18h2m3 0h11"],
  ["workers", "/workers", "M4 4h16v6H4zm0 10h16v6H4zM8 7h.01M8 17h.01"],
  ["membridge", "/membridge", "M12 3v6m0 0L5 15m7-6 7 6M9 3h6v0M3 15h4v5H3zm14 0h4v5h-4zM10 9h4"],
  ["activity", "/activity", "M3 12h4l3-8 4 16 3-8h4"],
  ["settings", "/settings", "M4 7h9m5 0h2M4 17h2m5 0h9M13 4v6M6 14v6m5-6v6m7-16v6"],
];

const dark = matchMedia("(prefers-color-scheme: dark)");

/** `light` or `dark`: what was chosen here, else what the browser wants. */
export const theme = () => kept("theme") ?? (dark.matches ? "dark" : "light");

const showTheme = () => { document.documentElement.dataset.theme = theme(); };

export function setTheme(name) {
  keep("theme", name);
  showTheme();
}

/** Shows the theme from now on, whatever the browser turns to. */
export function followTheme(then) {
  showTheme();
  dark.addEventListener("change", () => {
    showTheme();
    then();
  });
}

function places(path) {
  const here = (href) => (href === "/" ? path === "/" : path === href || path.startsWith(`${href}/`));
  return h("nav", { class: "places", "aria-label": t("nav") },
    PLACES.map(([name, href, drawn]) =>
      h("a", { key: name, href, "aria-current": here(href) ? "page" : null },
        h("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: drawn })),
        t(`nav.${name}`))));
}

const LIVE_MARKS = { live: "online", connecting: "unknown", reconnecting: "warn", offline: "failed" };

export function frame(state, ...kids) {
  const other = Object.keys(LANGUAGES).find((tag) => tag !== lang());
  const isDark = theme() === "dark";
  return [
    h("a", { class: "skip", href: "#main", onclick: skip }, t("skip")),
    h("div", { class: "bar" },
      h("div", { class: "inner" },
        h("a", { class: "brand", href: "/" }, "BLOOM"),
        state.signedIn && places(state.path),
        h("span", { class: "gap" }),
        state.signedIn && h("span", { class: `live ${state.live}`, role: "status" }, mark(LIVE_MARKS[state.live]),
          t(`live.${state.live}`), state.age && h("span", { class: "age" }, ` · ${state.age}`)),
        h("button", { type: "button", class: "plain", lang: other, title: LANGUAGES[other], "aria-label": `${other.toUpperCase()} · ${LANGUAGES[other]}`, onclick: () => state.language(other) }, other.toUpperCase()),
        h("button", { type: "button", class: "plain", title: t(isDark ? "theme.light" : "theme.dark"), "aria-label": t(isDark ? "theme.light" : "theme.dark"), onclick: state.theme },
          h("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" },
            h("path", { d: isDark ? "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2-1.4-1.4M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0Z" : "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5Z" }))))),
    h("main", { id: "main", tabindex: "-1", key: state.path }, kids),
  ];
}

function skip(event) {
  event.preventDefault();
  event.stopPropagation();
  document.getElementById("main").focus();
}
