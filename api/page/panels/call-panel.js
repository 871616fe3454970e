// The calls that do the same from a program.

import { all, byId, onClick, say } from "../dom.js";
import { t } from "../i18n/index.js";
import * as calls from "./calls.js";

/** @type {Record<string, (done: calls.Done) => string>} */
const WRITERS = { curl: calls.curl, python: calls.python, javascript: calls.javascript };
/** @type {calls.Done | null} */
let shown = null;
let language = "curl";

/** @param {calls.Done} done */
export function showCalls(done) {
  shown = done;
  draw();
}

function draw() {
  const write = WRITERS[language];
  say("call", shown && write ? write(shown) : "");
  for (const one of all("button[data-language]")) {
    one.setAttribute("aria-pressed", String(one.dataset["language"] === language));
  }
}

for (const one of all("button[data-language]")) {
  one.addEventListener("click", () => {
    language = one.dataset["language"] ?? "curl";
    say("copied", "");
    draw();
  });
}
onClick("copy-call", async () => {
  const text = byId("call", HTMLElement);
  try {
    await navigator.clipboard.writeText(text.textContent ?? "");
    say("copied", t().copied);
  } catch {
    // Only pages under https and of this machine may write to the clipboard.
    getSelection()?.selectAllChildren(text);
    say("copied", t().selected);
  }
});
