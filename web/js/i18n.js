// The words of the page in the reader's language.
//
// Must stay true: no text for people stands in another file; every key is in both languages. Not here:
// numbers and times (format.js).

import { asset } from "./api.js";
import { kept, keep } from "./kept.js";

export const LANGUAGES = { en: "English", uk: "Українська" };

let spoken = "en";
let words = {};
let plural = null;
let long = null;

/** The language of the page. */
export const lang = () => spoken;

/** The language that was chosen here, else the first of the browser's that we have. */
export function preferred() {
  const wanted = [kept("lang"), ...navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase())];
  return wanted.find((tag) => Object.hasOwn(LANGUAGES, tag ?? "")) ?? "en";
}

export async function speak(tag) {
  words = await asset(`i18n/${tag}.json`);
  spoken = tag;
  plural = new Intl.PluralRules(tag);
  long = null;
  document.documentElement.lang = tag;
}

export async function choose(tag) {
  keep("lang", tag);
  try {
    await speak(tag);
  } catch (error) {
    // After an update of the server its files have other addresses.
    if (error.status === 404) location.reload();
  }
}

export const has = (key) => Object.hasOwn(words, key);

/** A whole number or a fraction. Browsers take long to make their first format, and most numbers need none. */
export function number(n) {
  if (Number.isInteger(n) && Math.abs(n) < 1000) return String(n);
  long ??= new Intl.NumberFormat(spoken);
  return long.format(n);
}

/** The text of a key. `{name}` in it is filled in; a text with plural forms goes by `values.n`. */
export function t(key, values = {}) {
  const found = Object.hasOwn(words, key) ? words[key] : key;
  const text = typeof found === "string" ? found : (found[plural.select(values.n)] ?? found.other);
  const filled = (value) => (typeof value === "number" ? number(value) : value);
  return text.replace(/\{(\w+)\}/g, (_, name) => filled(values[name] ?? ""));
}

/** The text for a word of the API, else the word itself. */
export const word = (kind, code) => (has(`${kind}.${code}`) ? t(`${kind}.${code}`) : String(code));
