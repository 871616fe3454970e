// The last strokes, or the last lasso, snapped to the object; and a word when a hole seems to cut through an object.

import { byId, enable, onClick } from "../dom.js";
import { dismiss, notify } from "../dialogs/notices.js";
import { t } from "../i18n/index.js";
import { Mask } from "../mask/mask.js";
import { addTo, boundsOf, sceneOf, widened } from "../mask/rough.js";
import { packed } from "../mask/runs.js";
import { apply, replay } from "../state/steps.js";
import { Board } from "./board.js";

/** @typedef {import("../state/steps.js").Step} Step */
/** @typedef {import("../state/photo.js").Photo} Photo */
/** @typedef {"around" | "on" | "beyond"} How */

const QUIET_MILLISECONDS = 1500; // without a change, before a hole is looked at
const MARGINS = { around: 0.5, on: 1, beyond: 0.8 }; // by the size of the rough hole

export class Snapping {
  /** @param {Board} board */
  constructor(board) {
    this.board = board;
    this.worker = new Worker(new URL("../mask/snap-worker.js", import.meta.url), { type: "module" });
    /** @type {Map<number, (found: Uint8Array | null) => void>} */
    this.waiting = new Map();
    this.asked = 0;
    this.busy = false;
    this.timer = 0;
    /** @type {Step | undefined} The one that was looked at. */
    this.seen = undefined;
    this.worker.onmessage = ({ data: { number, found } }) => {
      this.waiting.get(number)?.(found);
      this.waiting.delete(number);
    };
    onClick("snap", () => void this.snap());
    board.workspace.onChange(() => this.#follow());
  }

  /** Replace what was painted last by the object there. */
  async snap() {
    const strokes = this.#lastStrokes();
    const photo = this.board.photo;
    if (!strokes || !photo || this.busy) return;
    const last = photo.done.at(-1);
    this.busy = true;
    this.board.workspace.changed();
    dismiss("snap");
    const found = await this.#find(photo, strokes, last?.kind === "brush" ? "on" : "around");
    this.busy = false;
    this.board.workspace.changed();
    if (this.board.photo !== photo || photo.done.at(-1) !== last || !this.board.editable) return;
    if (!found) return notify("snap", t().nothingStandsOut, { seconds: 6 });
    const mask = new Mask(photo.width, photo.height);
    replay(mask, photo.done.slice(0, -strokes.length));
    addTo(mask, found.object, found.size, found.area);
    this.board.commit({ kind: "snap", runs: packed(mask) });
  }

  #follow() {
    const photo = this.board.photo;
    const last = photo?.done.at(-1);
    enable("snap", this.board.editable && !this.busy && this.#lastStrokes() !== null);
    byId("snap", HTMLElement).setAttribute("aria-busy", String(this.busy));
    if (last === this.seen) return;
    this.seen = last;
    dismiss("beyond");
    clearTimeout(this.timer);
    if (photo && this.#lastStrokes()) this.timer = setTimeout(() => void this.#look(photo), QUIET_MILLISECONDS);
  }

  /** Say when an object in the hole seems to go on outside of it. @param {Photo} photo */
  async #look(photo) {
    const strokes = this.#lastStrokes();
    const last = photo.done.at(-1);
    if (!strokes || this.board.photo !== photo || !this.board.editable) return;
    const found = await this.#find(photo, strokes, "beyond");
    if (!found || this.board.photo !== photo || photo.done.at(-1) !== last || !this.board.editable) return;
    const grow = () => {
      dismiss("beyond");
      const mask = new Mask(photo.width, photo.height);
      replay(mask, photo.done);
      addTo(mask, found.object, found.size, found.area);
      this.board.commit({ kind: "grow", runs: packed(mask) });
    };
    notify("beyond", t().objectGoesOn, { actions: [[t().growToIt, grow]] });
  }

  /** @returns {Step[] | null} What was painted last: a rectangle, a lasso, or strokes one after the other. */
  #lastStrokes() {
    const steps = this.board.photo?.done ?? [];
    const last = steps.at(-1);
    if ((last?.kind === "lasso" || last?.kind === "rectangle") && !last.erase) return [last];
    if (last?.kind !== "brush") return null;
    return steps.slice(steps.findLastIndex(({ kind }) => kind !== "brush") + 1);
  }

  /** @param {Photo} photo @param {Step[]} strokes @param {How} how */
  async #find(photo, strokes, how) {
    const rough = new Mask(photo.width, photo.height);
    for (const step of strokes) apply(rough, step);
    const bounds = boundsOf(rough);
    const last = strokes.at(-1);
    const { picture } = this.board.view;
    if (!bounds || !last || !("points" in last) || !picture) return null;
    const area = widened(bounds, MARGINS[how], rough);
    const [x = 0, y = 0] = last.points.slice(-2);
    const scene = sceneOf(picture.full, rough, area, { x, y });
    const number = ++this.asked;
    const object = await new Promise((/** @type {(found: Uint8Array | null) => void} */ resolve) => {
      this.waiting.set(number, resolve);
      this.worker.postMessage({ number, scene, how });
    });
    return object && { object, size: scene.size, area };
  }
}
