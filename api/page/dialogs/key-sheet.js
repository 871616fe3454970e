// The sheet with all keys.

import { byId, make, onClick } from "../dom.js";
import { t } from "../i18n/index.js";

export function showHelp() {
  const rows = t().keyList.flatMap(([keys = "", meaning = ""]) => {
    const caps = keys.split("  ").flatMap((key, i) => (i ? [" ", make("kbd", {}, key)] : [make("kbd", {}, key)]));
    return [make("dt", {}, ...caps), make("dd", {}, meaning)];
  });
  byId("key-list", HTMLElement).replaceChildren(...rows);
  byId("help-dialog", HTMLDialogElement).showModal();
}

onClick("help", showHelp);
