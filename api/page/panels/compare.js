// Buttons to compare: hold for what was there before, or a divider; with the original or with the last step.

import { Board } from "../canvas/board.js";
import { byId, onClick, say, show } from "../dom.js";
import { t } from "../i18n/index.js";
import { prefer, preferences } from "../state/preferences.js";

/** @param {Board} board */
export function showCompare(board) {
  const peek = byId("peek", HTMLButtonElement);
  const before = byId("before", HTMLSelectElement);
  for (const [type, on] of /** @type {const} */ ([["pointerdown", true], ["pointerup", false], ["pointercancel", false]])) {
    peek.addEventListener(type, (event) => {
      if (on) peek.setPointerCapture(event.pointerId);
      board.peek(on);
    });
  }
  peek.addEventListener("keydown", ({ key }) => (key === " " || key === "Enter") && board.peek(true));
  for (const type of ["keyup", "blur"]) peek.addEventListener(type, () => board.peek(false));
  peek.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a phone
  onClick("divide", () => board.compare(!board.view.comparing));
  before.value = preferences().before;
  before.addEventListener("change", () => {
    prefer({ before: before.value === "last" ? "last" : "original" });
    board.workspace.changed();
  });
  board.workspace.onChange(() => {
    const photo = board.workspace.selected;
    const fills = photo?.results.filter(({ viewable }) => viewable).length ?? 0;
    show("compare", fills > 0);
    show("before", fills > 1);
    byId("divide", HTMLElement).setAttribute("aria-pressed", String(board.view.comparing));
    peek.classList.toggle("held", board.view.peeking);
    show("peeking", board.view.peeking);
    say("peeking", t().peeking[preferences().before]);
  });
}
