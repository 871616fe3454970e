// What a person has chosen on this page: language, colours, options. Kept in the browser, where it allows that.

/** @typedef {{language: string, theme: "auto" | "light" | "dark", panel: boolean, before: "original" | "last",
 *   options: Record<string, string>}} Preferences */

const NAME = "lama-refinery.preferences";

/** @type {Preferences} */
const chosen = { language: "", theme: "auto", panel: true, before: "original", options: {}, ...read() };

/** @returns {Partial<Preferences>} */
function read() {
  try {
    return JSON.parse(localStorage.getItem(NAME) ?? "{}");
  } catch {
    return {};
  }
}

/** @returns {Readonly<Preferences>} */
export function preferences() {
  return chosen;
}

/** @param {Partial<Preferences>} change */
export function prefer(change) {
  Object.assign(chosen, change);
  try {
    localStorage.setItem(NAME, JSON.stringify(chosen));
  } catch {
    // Then they hold until the page is closed.
  }
}
