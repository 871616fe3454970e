// The strip of steps: the original and each result as a small picture, what was painted between them as dots.

import { Board } from "../canvas/board.js";
import { byId, make, show } from "../dom.js";
import { language, t } from "../i18n/index.js";
import { showSmall } from "./thumbnails.js";

/** @typedef {import("../state/steps.js").Step} Step */

/** @param {Board} board */
export function showSteps(board) {
  const strip = byId("steps", HTMLElement);
  /** @type {unknown[]} What is shown. */
  let drawn = [];

  const draw = () => {
    const photo = board.workspace.selected;
    show("steps", photo !== null);
    if (!photo) return;
    const wanted = [photo, photo.position, photo.job, language(), ...photo.steps];
    if (wanted.length === drawn.length && wanted.every((part, i) => part === drawn[i])) return;
    const focused = strip.contains(document.activeElement);
    drawn = wanted;
    strip.replaceChildren(
      item(board, 0, "original", photo.original),
      ...photo.steps.map((step, i) => item(board, i + 1, step.kind, pictureOf(step))),
    );
    const current = strip.children[photo.position]?.firstElementChild;
    if (current instanceof HTMLElement) {
      strip.scrollLeft = current.offsetLeft - strip.clientWidth / 2;
      if (focused) current.focus({ preventScroll: true });
    }
  };
  board.workspace.onChange(draw);
}

/** @param {Step} step */
function pictureOf(step) {
  return step.kind === "fill" && step.result.viewable ? step.result.blob : null;
}

/** @param {Board} board @param {number} position @param {Step["kind"] | "original"} kind @param {Blob | null} picture */
function item(board, position, kind, picture) {
  const photo = board.workspace.selected;
  const name = t().stepNames[kind];
  const attributes = { type: "button", class: picture ? "picture" : "dot", title: name, "data-kind": kind };
  const made = make("button", { ...attributes, "aria-label": t().goToStep(position, name) });
  if (position === photo?.position) made.setAttribute("aria-current", "step");
  if (position > (photo?.position ?? 0)) made.classList.add("undone");
  made.disabled = photo?.job !== null;
  made.addEventListener("click", () => board.go(position));
  if (picture) {
    const image = make("img", { alt: "", draggable: "false" });
    showSmall(image, picture);
    made.append(image);
  }
  return make("li", {}, made);
}
