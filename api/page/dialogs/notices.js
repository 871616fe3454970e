// Short messages over the photo: what went wrong, what was done, and what can be done about it.

import { button, byId, iconButton, make } from "../dom.js";
import { t } from "../i18n/index.js";

/** @typedef {{wrong?: boolean, seconds?: number, closable?: boolean, actions?: [string, () => void][]}} Kind
 * wrong: it is an error. seconds: until it goes by itself. */

/** @type {Map<string, {element: HTMLElement, timer: number}>} */
const shown = new Map();

/** Show a message, in the place of the one with the same id. @param {string} id @param {string} text @param {Kind} [kind] */
export function notify(id, text, { wrong = false, seconds = 0, closable = true, actions = [] } = {}) {
  dismiss(id);
  const element = make("div", { class: wrong ? "notice wrong" : "notice", "data-notice": id }, make("p", {}, text));
  for (const [label, act] of actions) element.append(button(label, act));
  if (closable) element.append(iconButton("close", t().close, () => dismiss(id)));
  element.setAttribute("role", wrong ? "alert" : "status");
  byId("notices", HTMLElement).append(element);
  shown.set(id, { element, timer: seconds ? setTimeout(() => dismiss(id), seconds * 1000) : 0 });
}

/** @param {string} id */
export function dismiss(id) {
  const found = shown.get(id);
  if (!found) return;
  clearTimeout(found.timer);
  found.element.remove();
  shown.delete(id);
}

/** Show a message for as long as there is one. @param {string} id @param {string} text @param {Kind} [kind] */
export function keepNotice(id, text, kind) {
  if (!text) return dismiss(id);
  if (shown.get(id)?.element.firstChild?.textContent !== text) notify(id, text, kind);
}
