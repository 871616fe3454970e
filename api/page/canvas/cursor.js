// The brush in the hands of the keyboard: arrows move it, Space paints, Shift with an arrow draws a line.

import { Board } from "./board.js";
import { corners, Tools } from "./tools.js";

/** @typedef {import("../mask/mask.js").Point} Point */

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP_PIXELS = 10; // of the screen, at least
const PAN_PIXELS = 40;

export class Cursor {
  /** @param {Board} board @param {Tools} tools */
  constructor(board, tools) {
    this.board = board;
    this.tools = tools;
    /** @type {Point} On the photo. */
    this.at = { x: 0, y: 0 };
    this.active = false; // the keyboard, not the pointer, has moved last
    const { element, workspace } = board;
    let photo = board.photo;
    workspace.onChange(() => {
      if (photo !== board.photo && board.photo) this.at = { x: board.photo.width / 2, y: board.photo.height / 2 };
      photo = board.photo;
    });
    element.addEventListener("focus", () => {
      this.active = element.matches(":focus-visible");
      if (this.active) tools.showRing(this.at);
    });
    element.addEventListener("blur", () => tools.hideRing());
    element.addEventListener("pointermove", (event) => {
      this.active = false;
      this.at = board.view.toPhoto(event);
    });
  }

  /** @param {string} key @param {boolean} shift @returns {boolean} Whether the key was meant for the cursor. */
  press(key, shift) {
    const arrow = ARROWS[key];
    if (!arrow || !this.board.photo) return false;
    this.active = true;
    if (!this.board.editable || this.tools.tool === "move") this.board.view.pan(-PAN_PIXELS * arrow[0], -PAN_PIXELS * arrow[1]);
    else this.#walk(arrow, shift);
    return true;
  }

  /** A dab of the brush, or a corner of the outline. */
  stamp() {
    if (!this.active || !this.board.editable) return;
    const { tool, outline } = this.tools;
    if (this.tools.painting) this.#paint(this.at, this.at);
    else if (tool === "rectangle" && outline.length) this.tools.closeOutline(false);
    else if (tool !== "move") this.tools.setOutline([...outline, this.at]);
  }

  /** @param {[number, number]} arrow @param {boolean} paint */
  #walk([dx, dy], paint) {
    const { view, photo } = this.board;
    const far = Math.max((STEP_PIXELS * view.ratio) / view.scale, this.tools.size / 4);
    const from = this.at;
    this.at = {
      x: Math.min(photo?.width ?? 0, Math.max(0, from.x + far * dx)),
      y: Math.min(photo?.height ?? 0, Math.max(0, from.y + far * dy)),
    };
    view.reveal(this.at);
    this.tools.showRing(this.at);
    const [first] = this.tools.outline;
    if (paint && this.tools.painting) this.#paint(from, this.at);
    else if (this.tools.tool === "rectangle" && first) this.tools.setOutline(corners(first, this.at));
  }

  /** @param {Point} from @param {Point} to */
  #paint(from, to) {
    const kind = this.tools.tool === "eraser" ? "eraser" : "brush";
    this.board.commit({ kind, radius: this.tools.size / 2, points: [from.x, from.y, to.x, to.y] });
  }
}
