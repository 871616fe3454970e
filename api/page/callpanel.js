// The panel with the calls that do the same from a program.

import * as calls from "./calls.js";
import { byId, onClick, say } from "./dom.js";

/** @type {Record<string, (done: calls.Done) => string>} */
const LANGUAGES = { curl: calls.curl, python: calls.python, javascript: calls.javascript };
/** @type {calls.Done | null} */
let shown = null;
let language = "curl";

/** @param {calls.Done} done */
export function showCalls(done) {
  shown = done;
  draw();
}

function draw() {
  const write = LANGUAGES[language];
  say("call", shown && write ? write(shown) : "");
  say("copied", "");
  for (const button of buttons()) button.setAttribute("aria-pressed", String(button.dataset["language"] === language));
}

function buttons() {
  return /** @type {HTMLElement[]} */ ([...document.querySelectorAll("button[data-language]")]);
}

for (const button of buttons()) {
  button.addEventListener("click", () => {
    language = button.dataset["language"] ?? "curl";
    draw();
  });
}
onClick("copy", async () => {
  const text = byId("call", HTMLElement);
  try {
    await navigator.clipboard.writeText(text.textContent ?? "");
    say("copied", "Copied.");
  } catch {
    // Only pages under https and of this machine may write to the clipboard.
    getSelection()?.selectAllChildren(text);
    say("copied", "Selected; copy it with Ctrl+C.");
  }
});
