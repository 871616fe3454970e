// Which language the page speaks: the one that was chosen, or the first of the browser's that there is.

import { all } from "../dom.js";
import { prefer, preferences } from "../state/preferences.js";
import { en } from "./en.js";
import { zh } from "./zh.js";

/** @typedef {import("./en.js").Texts} Texts */

/** @type {Record<string, Texts>} By the beginning of the language's tag. */
export const LANGUAGES = { en, zh };
const TAGS = { en: "en", zh: "zh-Hans" };

/** @returns {keyof typeof TAGS} */
export function language() {
  const wanted = [preferences().language, ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase());
  return /** @type {keyof typeof TAGS} */ (wanted.find((tag) => tag in LANGUAGES) ?? "en");
}

/** @returns {Texts} */
export function t() {
  return LANGUAGES[language()] ?? en;
}

/** @param {string} chosen */
export function speak(chosen) {
  prefer({ language: chosen });
  writeTexts();
}

/** Write the texts that do not change while the page is used. index.html names them in data attributes. */
export function writeTexts() {
  document.documentElement.lang = TAGS[language()];
  const texts = /** @type {Record<string, unknown>} */ (t());
  /** @param {string} attribute @param {(element: HTMLElement, text: string) => void} write */
  const each = (attribute, write) => {
    for (const element of all(`[data-${attribute}]`)) {
      const text = texts[element.dataset[attribute] ?? ""];
      if (typeof text !== "string") throw new Error(`no text is called ${element.dataset[attribute]}`);
      write(element, text);
    }
  };
  each("text", (element, text) => (element.textContent = text));
  each("title", (element, text) => (element.title = text));
  each("label", (element, text) => element.setAttribute("aria-label", text));
  each("placeholder", (element, text) => element.setAttribute("placeholder", text));
}
