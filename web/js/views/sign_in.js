// Signing in: the key of the server for a session of twelve hours.
//
// Must stay true: the key leaves the field only towards the server, and is never kept.

import * as api from "../api.js";
import { h } from "../h.js";
import { t } from "../i18n.js";
import { field } from "../parts.js";

export function view(page) {
  const enter = async () => {
    const input = document.getElementById("key");
    try {
      page.entered(await api.signIn(input.value));
    } catch (error) {
      input.select();
      throw error;
    }
  };
  return {
    title: () => t("sign_in"),
    still: true,
    load: async () => ({}),
    render: () =>
      h("form", { class: "form door", onsubmit: (event) => {
        event.preventDefault();
        page.act("sign_in", enter);
      } },
        h("h1", { tabindex: "-1" }, t("sign_in")),
        h("p", null, t("sign_in.line")),
        field(t("sign_in.key"), h("input", { name: "key", type: "password", required: true, autofocus: true, autocomplete: "current-password" }), t("sign_in.hint")),
        h("button", { type: "submit", class: "primary", "aria-disabled": page.busy ? "true" : null }, t("sign_in"))),
  };
}
