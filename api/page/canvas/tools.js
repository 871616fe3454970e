// The tool in hand, the size of the brush, and the ring that shows both where the pointer or the keyboard is.

import { all, byId, say } from "../dom.js";
import { t } from "../i18n/index.js";
import { Board } from "./board.js";

/** @typedef {import("../mask/mask.js").Point} Point */
/** @typedef {"brush" | "eraser" | "rectangle" | "lasso" | "move"} Tool */

const LEAST_PIXELS = 2; // of the photo, of the brush's diameter
const MOST_PIXELS = 1200;
const STROKE_SHARE = 1 / 40; // of the photo's long side: the first brush

export class Tools {
  /** @param {Board} board */
  constructor(board) {
    this.board = board;
    /** @type {Tool} */
    this.tool = "brush";
    this.size = 60; // of the brush, pixels of the photo
    /** @type {Point[]} Of a rectangle or lasso being drawn. */
    this.outline = [];
    this.ring = byId("ring", HTMLElement);
    this.shape = byId("shape", SVGPolygonElement);
    const slider = byId("size", HTMLInputElement);
    slider.addEventListener("input", () => this.resize(Number(slider.value) ** 2));
    for (const one of all("button[data-tool]")) {
      one.addEventListener("click", () => this.choose(/** @type {Tool} */ (one.dataset["tool"])));
    }
    board.view.onDraw = () => this.#drawOutline();
    let photo = board.photo;
    board.workspace.onChange(() => {
      if (photo !== board.photo && board.photo) {
        this.setOutline([]);
        this.resize(Math.max(12, Math.max(board.photo.width, board.photo.height) * STROKE_SHARE));
      }
      photo = board.photo;
      if (!board.editable) this.hideRing();
    });
  }

  /** Whether this tool paints lines. */
  get painting() {
    return this.tool === "brush" || this.tool === "eraser";
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.setOutline([]);
    this.tool = tool;
    for (const one of all("button[data-tool]")) one.setAttribute("aria-pressed", String(one.dataset["tool"] === tool));
    this.board.element.dataset["tool"] = tool;
    this.hideRing();
  }

  /** @param {number} size Of the brush, pixels of the photo. */
  resize(size) {
    this.size = Math.round(Math.min(MOST_PIXELS, Math.max(LEAST_PIXELS, size)));
    const slider = byId("size", HTMLInputElement);
    slider.value = String(Math.sqrt(this.size)); // small sizes get more of the slider
    slider.setAttribute("aria-valuetext", t().pixels(this.size));
    say("size-value", t().pixels(this.size));
    this.#scaleRing();
  }

  /** @param {Point[]} outline */
  setOutline(outline) {
    this.outline = outline;
    this.#drawOutline();
  }

  /** Make the outline a part of the hole. @param {boolean} erase */
  closeOutline(erase) {
    const { outline, tool } = this;
    this.setOutline([]);
    if (outline.length < 3 || (tool !== "rectangle" && tool !== "lasso")) return;
    this.board.commit({ kind: tool, erase, points: outline.flatMap(({ x, y }) => [x, y]) });
  }

  /** @param {Point} at Of the photo. */
  showRing(at) {
    const shown = this.board.editable && this.tool !== "move";
    this.ring.hidden = !shown;
    if (!shown) return;
    const { x, y } = this.board.view.toScreen(at);
    this.ring.style.left = `${x}px`;
    this.ring.style.top = `${y}px`;
    this.#scaleRing();
  }

  hideRing() {
    this.ring.hidden = true;
  }

  #scaleRing() {
    const { scale, ratio } = this.board.view;
    const size = this.painting ? Math.max(4, (this.size * scale) / ratio) : 12;
    this.ring.style.width = this.ring.style.height = `${size}px`;
  }

  #drawOutline() {
    const points = this.outline.map((point) => this.board.view.toScreen(point));
    this.shape.setAttribute("points", points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  }
}

/** The corners of a rectangle. @param {Point} a @param {Point} b @returns {Point[]} */
export function corners(a, b) {
  return [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];
}
