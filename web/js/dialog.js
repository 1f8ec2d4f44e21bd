// A question before something that cannot be undone, and the list of keys. The browser's own dialog
// holds the focus and gives it back.

import { h, show } from "./h.js";
import { t } from "./i18n.js";
import { button } from "./parts.js";

function open(...kids) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "asked");
  document.body.append(dialog);
  show(dialog, ...kids);
  dialog.onclose = () => dialog.remove();
  dialog.showModal();
  return dialog;
}

/** Asks; true when the person agrees. `verb` names what will be done, with its count. */
export function ask(title, explained, verb, kind = "primary") {
  return new Promise((resolve) => {
    let agreed = false;
    const end = (answer) => {
      agreed = answer;
      dialog.close();
    };
    const dialog = open(
      h("h2", { id: "asked" }, title),
      explained && h("p", null, explained),
      h("div", { class: "actions" }, button(t("back"), () => end(false)), button(verb, () => end(true), { kind })),
    );
    dialog.addEventListener("close", () => resolve(agreed));
  });
}

export function keysHelp() {
  if (document.querySelector("dialog")) return;
  const key = (...names) => names.map((name) => h("kbd", null, name));
  const rows = [
    ...["overview", "tasks", "workers", "membridge", "activity", "settings"].map((place) => [key("g", t(`key.${place}`)), t(`nav.${place}`)]),
    [key("/"), t("keys.search")],
    [key("n"), t("keys.new")],
    [key("j", "k"), t("keys.rows")],
    [key("x"), t("keys.choose")],
    [key("?"), t("keys.help")],
  ];
  const dialog = open(
    h("h2", { id: "asked" }, t("keys.title")),
    h("dl", { class: "keys" }, rows.map(([keys, words]) => h("div", null, h("dt", null, keys), h("dd", null, words)))),
    h("div", { class: "actions" }, button(t("close"), () => dialog.close())),
  );
}
