// Settings: the way to Membridge, the session, language and theme.
//
// Must stay true: Membridge's key is never shown, nor kept by the page; an empty key field keeps the
// saved key, which the server allows only for the same origin.

import * as api from "../api.js";
import { ask } from "../dialog.js";
import { h } from "../h.js";
import { LANGUAGES, choose, lang, t, word } from "../i18n.js";
import { span } from "../format.js";
import { act, choice, english, facts, field, head, section, status, time } from "../parts.js";
import { setTheme, theme } from "../frame.js";

export function view(page) {
  let tested = null;
  let wrong = {};

  const save = async () => {
    const form = document.getElementById("membridge");
    if (!form.reportValidity()) return null;
    const [url, key] = [form.elements.membridge_server_url.value.trim(), form.elements.admin_key.value];
    wrong = {};
    try {
      await api.saveConfig({ membridge_server_url: url, ...(key ? { admin_key: key } : {}) });
    } catch (error) {
      wrong = error.fields;
      throw error;
    }
    form.elements.admin_key.value = "";
    tested = null;
    return t("settings.saved");
  };
  const test = async () => {
    tested = null;
    tested = await api.testConnection();
    return null;
  };
  const forget = async () => {
    if (!(await ask(t("settings.forget_ask"), t("settings.forget_means"), t("settings.forget"), "bad"))) return null;
    await api.forgetConfig();
    tested = null;
    return t("settings.forgotten");
  };
  const signOut = async () => {
    page.entered(await api.signOut());
    return null;
  };

  return {
    title: () => t("nav.settings"),
    async load() {
      const [config, health, session] = await Promise.all([api.config(), api.health(), api.session().catch(() => page.session)]);
      return { config, health, session };
    },
    render: ({ config, health, session }) => [
      head(t("nav.settings"), health.membridge?.connected ? t("settings.connected") : t("settings.not_connected")),
      section("Membridge",
        form(page, config, wrong, save, [act(page, t("settings.test"), test), act(page, t("settings.forget"), forget, { kind: "plain" })]),
        tested && told(tested, config),
        facts([t("settings.last_test"), time(config.last_test)],
          [t("settings.failures"), health.membridge?.consecutiveFailures ?? 0],
          health.membridge?.lastError && [t("settings.last_error"), english(health.membridge.lastError)])),
      section(t("settings.look"), h("div", { class: "pair" },
        field(t("settings.language"), choice("language", lang(), Object.entries(LANGUAGES), async (event) => {
          await choose(event.target.value);
          page.draw();
        })),
        field(t("settings.theme"), choice("theme", theme(), [["light", t("theme.is_light")], ["dark", t("theme.is_dark")]], (event) => {
          setTheme(event.target.value);
          page.draw();
        })))),
      section(t("settings.session"), session?.required
        ? [h("p", null, t("settings.until"), " ", time(session.expires_at)), h("div", { class: "actions" }, act(page, t("sign_out"), signOut))]
        : h("p", null, t("settings.open"))),
      section(t("settings.server"), facts(
        [t("settings.uptime"), span(health.uptime * 1000)],
        [t("settings.storage"), status(health.storage_state === "ok" || !health.storage_state ? "completed" : "failed", word("storage", health.storage_state ?? "ok"))],
        health.artifacts && ["S3", [status(health.artifacts.last_error ? "warn" : "completed", health.artifacts.waiting || health.artifacts.last_error ? t("need.s3", { n: health.artifacts.waiting }) : t("settings.s3_well")),
          health.artifacts.last_error && [" ", english(health.artifacts.last_error)], health.artifacts.last_success && [" · ", time(health.artifacts.last_success)]]])),
    ],
  };
}

const form = (page, config, wrong, save, more) =>
  h("form", { id: "membridge", class: "form", onsubmit: (event) => {
    event.preventDefault();
    page.act(t("settings.save"), save);
  } },
    field(t("settings.url"), h("input", { name: "membridge_server_url", type: "url", required: true, maxlength: 2048, value: config.membridge_server_url, autocomplete: "off" }), t("limit.url"), "membridge_server_url" in wrong),
    field(t("settings.key"), h("input", { name: "admin_key", type: "password", maxlength: 1024, autocomplete: "off", placeholder: config.admin_key_masked }),
      config.admin_key_masked ? t("limit.key_kept", { masked: config.admin_key_masked }) : t("limit.key"), "admin_key" in wrong),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", "aria-disabled": page.busy ? "true" : null }, t("settings.save")), more));

/** The result of a test, line by line: reached, who answers, key. */
function told(result, config) {
  const line = (good, words) => h("li", null, status(good ? "completed" : "failed", words));
  if (result.connected) {
    const { service, version, projects, agents } = result.health ?? {};
    return h("ul", { class: "lines", role: "status" },
      line(true, t("test.reached", { url: config.membridge_server_url })),
      service && line(true, t("test.service", { service: `${service} ${version ?? ""}` })),
      line(true, t("test.key")),
      projects !== undefined && line(true, t("test.counts", { projects, agents: agents ?? 0 })));
  }
  return h("ul", { class: "lines", role: "status" },
    result.failed === "key"
      ? [line(true, t("test.reached", { url: config.membridge_server_url })), line(false, t("test.no_key"))]
      : line(false, t("test.not_reached", { url: config.membridge_server_url })),
    h("li", { class: "small" }, english(result.detail ?? result.error)));
}
