// How the page looks and speaks: language, colours, and whether the side panel is shown.

import { byId, make, onClick } from "../dom.js";
import { language, LANGUAGES, speak, t } from "../i18n/index.js";
import { prefer, preferences } from "../state/preferences.js";
import { Workspace } from "../state/workspace.js";

const NARROW = matchMedia("(max-width: 56rem), (max-height: 32rem)"); // there the panel lies over the photo
const NEXT = /** @type {const} */ ({ auto: "dark", dark: "light", light: "auto" });
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** @param {Workspace} workspace */
export function showSettings(workspace) {
  const languages = byId("language", HTMLSelectElement);
  for (const [tag, texts] of Object.entries(LANGUAGES)) languages.append(make("option", { value: tag }, texts.languageName));
  languages.value = language();
  languages.addEventListener("change", () => {
    speak(languages.value);
    workspace.changed();
  });

  const colour = () => {
    const { theme } = preferences();
    document.documentElement.dataset["theme"] = theme === "auto" ? (DARK.matches ? "dark" : "light") : theme;
    const toggle = byId("theme", HTMLButtonElement);
    toggle.title = t().themes[theme];
    toggle.setAttribute("aria-label", toggle.title);
    toggle.querySelector("use")?.setAttribute("href", `#icon-${theme}`);
  };
  DARK.addEventListener("change", colour);
  onClick("theme", () => {
    prefer({ theme: NEXT[preferences().theme] });
    colour();
  });
  workspace.onChange(colour); // in another language, perhaps
  colour();

  let open = !NARROW.matches && preferences().panel;
  /** @param {boolean} on */
  const showPanel = (on) => {
    open = on;
    document.body.classList.toggle("with-panel", on);
    byId("panel-toggle", HTMLElement).setAttribute("aria-expanded", String(on));
    if (on && NARROW.matches) byId("panel-close", HTMLElement).focus();
  };
  onClick("panel-toggle", () => {
    showPanel(!open);
    if (!NARROW.matches) prefer({ panel: open });
  });
  onClick("panel-close", () => {
    showPanel(false);
    if (!NARROW.matches) prefer({ panel: false });
    byId("panel-toggle", HTMLElement).focus();
  });
  NARROW.addEventListener("change", () => showPanel(!NARROW.matches && preferences().panel));
  showPanel(open);
}
