// Finding and making elements.

/**
 * The element of this id, which the page is sure to have.
 * @template {Element} T
 * @param {string} id @param {new () => T} kind @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/** @param {string} selector @returns {HTMLElement[]} */
export function all(selector) {
  return /** @type {HTMLElement[]} */ ([...document.querySelectorAll(selector)]);
}

/** @param {string} id @param {(event: MouseEvent) => void} act */
export function onClick(id, act) {
  byId(id, HTMLButtonElement).addEventListener("click", act);
}

/** @param {string} id @param {boolean} shown */
export function show(id, shown) {
  byId(id, HTMLElement).hidden = !shown;
}

/** @param {string} id @param {boolean} enabled */
export function enable(id, enabled) {
  byId(id, HTMLButtonElement).disabled = !enabled;
}

/** Sets a text only when it differs, so that screen readers hear each change once. @param {string} id @param {string} text */
export function say(id, text) {
  const element = byId(id, HTMLElement);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {string} text @param {() => void} act @param {Record<string, string>} [attributes] */
export function button(text, act, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", act);
  return made;
}

/** A button that shows an icon of the page's sprite. @param {string} name @param {string} label @param {() => void} act */
export function iconButton(name, label, act) {
  const made = button("", act, { "aria-label": label, title: label, class: "icon" });
  const icon = /** @type {SVGElement} */ (byId("icon-template", HTMLTemplateElement).content.cloneNode(true));
  icon.querySelector("use")?.setAttribute("href", `#icon-${name}`);
  made.append(icon);
  return made;
}
