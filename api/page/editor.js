// Hands on the board: mouse, pen, touch, wheel and keys become strokes on the mask and moves of the view.

import { byId, say } from "./dom.js";
import { Mask } from "./mask.js";
import { View } from "./view.js";

/** @typedef {import("./mask.js").Point} Point */
/** @typedef {"brush" | "eraser" | "rectangle" | "lasso" | "move"} Tool */

const LEAST = 2; // pixels of the photo, of the brush's diameter
const MOST = 1200;
/** @type {Record<string, Tool>} */
const TOOL_KEYS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", m: "move" };

export class Editor {
  /** @param {HTMLElement} board @param {View} view */
  constructor(board, view) {
    this.board = board;
    this.view = view;
    /** @type {Mask | null} */
    this.mask = null;
    /** @type {Tool} */
    this.tool = "brush";
    this.size = 60; // of the brush, pixels of the photo
    this.painting = false; // whether the mask may be changed at all
    /** @type {Point} Where the keyboard is, on the photo. */
    this.cursor = { x: 0, y: 0 };
    /** @type {Point[]} Of a rectangle or lasso being drawn. */
    this.outline = [];
    /** @type {Map<number, Point>} Fingers and the like on the board, on the screen. */
    this.down = new Map();
    /** @type {"" | "stroke" | "outline" | "pan" | "split"} */
    this.gesture = "";
    this.erasing = false;
    /** Called when the hole has changed. @type {() => void} */
    this.onChange = () => {};
    /** Called when the divider of a comparison is dragged. @type {(split: number) => void} */
    this.onSplit = () => {};
    this.ring = byId("ring", HTMLElement);
    this.shape = byId("shape", SVGPolygonElement);
    board.addEventListener("pointerdown", (event) => this.#press(event));
    board.addEventListener("pointermove", (event) => this.#drag(event));
    board.addEventListener("pointerup", (event) => this.#release(event));
    board.addEventListener("pointercancel", (event) => this.#release(event));
    board.addEventListener("pointerleave", () => this.#hideRing());
    board.addEventListener("contextmenu", (event) => event.preventDefault());
    board.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    board.addEventListener("keydown", (event) => this.#key(event));
    board.addEventListener("focus", () => board.matches(":focus-visible") && this.#showRing(this.cursor));
    board.addEventListener("blur", () => this.#hideRing());
    view.onMove = () => this.#drawOutline();
    const slider = byId("size", HTMLInputElement);
    slider.addEventListener("input", () => this.resize(Number(slider.value) ** 2));
    for (const button of document.querySelectorAll("button[data-tool]")) {
      button.addEventListener("click", () => {
        const tool = /** @type {HTMLElement} */ (button).dataset["tool"];
        this.choose(/** @type {Tool} */ (tool));
      });
    }
  }

  /** @param {Mask} mask */
  open(mask) {
    this.mask = mask;
    this.cursor = { x: mask.width / 2, y: mask.height / 2 };
    this.outline = [];
    this.resize(Math.max(12, Math.round(Math.max(mask.width, mask.height) / 40)));
    this.choose("brush");
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.#dropOutline();
    this.tool = tool;
    for (const button of document.querySelectorAll("button[data-tool]")) {
      const own = /** @type {HTMLElement} */ (button).dataset["tool"];
      button.setAttribute("aria-pressed", String(own === tool));
    }
    this.board.dataset["tool"] = tool;
    this.#hideRing();
  }

  /** @param {number} size Of the brush, pixels of the photo. */
  resize(size) {
    this.size = Math.round(Math.min(MOST, Math.max(LEAST, size)));
    byId("size", HTMLInputElement).value = String(Math.sqrt(this.size));
    byId("size", HTMLInputElement).setAttribute("aria-valuetext", `${this.size} pixels`);
    say("size-told", `${this.size} px`);
    this.#scaleRing();
  }

  undo() {
    if (this.painting && this.mask?.undo()) this.#changedAll();
  }

  redo() {
    if (this.painting && this.mask?.redo()) this.#changedAll();
  }

  clear() {
    if (!this.painting || !this.mask || this.mask.empty) return;
    this.mask.clear();
    this.#changedAll();
  }

  invert() {
    if (!this.painting || !this.mask) return;
    this.mask.invert();
    this.#changedAll();
  }

  #changedAll() {
    this.view.redraw();
    this.onChange();
  }

  // ---- pointers

  /** @param {PointerEvent} event */
  #press(event) {
    if (!this.view.width) return;
    this.board.focus({ preventScroll: true });
    this.board.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.down.size === 2) {
      // The second finger: it was meant as a pinch, so the first one painted nothing.
      if (this.gesture === "stroke") {
        this.mask?.abandon();
        this.view.redraw();
      }
      this.#dropOutline();
      this.gesture = "pan";
      return;
    }
    if (this.down.size > 2) return;
    const point = this.view.toPhoto(event);
    if (this.view.comparing && Math.abs(point.x - this.view.split * this.view.width) * this.view.scale < 24 * this.view.ratio) {
      this.gesture = "split";
    } else if (event.button === 1 || this.tool === "move" || !this.painting || !this.mask) {
      this.gesture = "pan";
    } else if (event.button === 0 || event.button === 5) {
      this.erasing = this.tool === "eraser" || event.button === 5; // 5: a pen's other end
      this.cursor = point;
      if (this.tool === "rectangle" || this.tool === "lasso") {
        this.gesture = "outline";
        this.outline = [point];
      } else {
        this.gesture = "stroke";
        this.mask.begin();
        this.view.touch(this.mask.line(point, point, this.size / 2, !this.erasing));
      }
    }
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (!this.view.width) return;
    const point = this.view.toPhoto(event);
    const before = this.down.get(event.pointerId);
    if (event.pointerType !== "touch") this.#showRing(point);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.gesture === "split") this.onSplit(Math.min(1, Math.max(0, point.x / this.view.width)));
    if (this.gesture === "pan" && this.down.size === 2) this.#pinch(event.pointerId, before, now);
    else if (this.gesture === "pan") this.view.pan(now.x - before.x, now.y - before.y);
    this.down.set(event.pointerId, now);
    if (this.gesture === "stroke" && this.mask) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) {
        const to = this.view.toPhoto(part);
        this.view.touch(this.mask.line(this.cursor, to, this.size / 2, !this.erasing));
        this.cursor = to;
      }
    }
    if (this.gesture === "outline") {
      if (this.tool === "rectangle") this.outline = this.#box(this.outline[0] ?? point, point);
      else this.outline.push(point);
      this.#drawOutline();
    }
  }

  /** @param {PointerEvent} event */
  #release(event) {
    if (!this.down.delete(event.pointerId) || this.down.size) return;
    if (this.gesture === "stroke") {
      this.mask?.commit();
      this.onChange();
    } else if (this.gesture === "outline") {
      this.#fillOutline();
    }
    this.gesture = "";
  }

  /** @param {number} id @param {Point} before @param {Point} now */
  #pinch(id, before, now) {
    const other = [...this.down].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const was = Math.hypot(before.x - other.x, before.y - other.y) || 1;
    const is = Math.hypot(now.x - other.x, now.y - other.y) || 1;
    const box = this.board.getBoundingClientRect();
    this.view.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.view.zoom(is / was, { x: (now.x + other.x) / 2 - box.left, y: (now.y + other.y) / 2 - box.top });
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.view.width) return;
    event.preventDefault();
    const turns = event.deltaY / (event.deltaMode ? 3 : 100);
    const brush = this.painting && (this.tool === "brush" || this.tool === "eraser");
    if (event.ctrlKey || event.metaKey || !brush) {
      const box = this.board.getBoundingClientRect();
      this.view.zoom(2 ** (-turns / 3), { x: event.clientX - box.left, y: event.clientY - box.top });
    } else {
      this.resize(this.size * 1.15 ** -turns + (turns < 0 ? 1 : -1));
    }
  }

  // ---- keys

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.view.width || event.altKey) return;
    if (event.ctrlKey || event.metaKey) return; // undo and redo: wherever the focus is, so not here
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const tool = TOOL_KEYS[key];
    if (key.startsWith("Arrow")) this.#walk(key, event.shiftKey);
    else if (key === "+" || key === "=") this.view.zoom(1.25, this.#eye());
    else if (key === "-") this.view.zoom(0.8, this.#eye());
    else if (key === "0") this.view.fit();
    else if (!this.painting) return;
    else if (key === " ") this.#stamp();
    else if (key === "Enter" && this.outline.length > 2) this.#fillOutline();
    else if (key === "Escape" && this.outline.length) this.#dropOutline();
    else if (key === "[") this.resize(this.size / 1.2 - 1);
    else if (key === "]") this.resize(this.size * 1.2 + 1);
    else if (key === "i") this.invert();
    else if (key === "Delete") this.clear();
    else if (tool) this.choose(tool);
    else return;
    event.preventDefault();
  }

  /** @returns {Point | undefined} Where zooming by keys is about. */
  #eye() {
    return this.painting ? this.view.toScreen(this.cursor) : undefined;
  }

  /** Move the cursor; with shift, painting. @param {string} key @param {boolean} shift */
  #walk(key, shift) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
    if (!this.painting || this.tool === "move" || !this.mask) {
      this.view.pan(-40 * (dx ?? 0), -40 * (dy ?? 0));
      return;
    }
    const far = Math.max((10 * this.view.ratio) / this.view.scale, this.size / 4);
    const to = {
      x: Math.min(this.mask.width, Math.max(0, this.cursor.x + far * (dx ?? 0))),
      y: Math.min(this.mask.height, Math.max(0, this.cursor.y + far * (dy ?? 0))),
    };
    const from = this.cursor;
    this.cursor = to;
    this.view.reveal(to);
    this.#showRing(to);
    if (shift && (this.tool === "brush" || this.tool === "eraser")) this.#paint(from, to);
    else if (this.tool === "rectangle" && this.outline[0]) this.outline = this.#box(this.outline[0], to);
    this.#drawOutline();
  }

  /** The space key: a dab of the brush, or a corner of the outline. */
  #stamp() {
    this.erasing = false;
    if (this.tool === "brush" || this.tool === "eraser") this.#paint(this.cursor, this.cursor);
    else if (this.tool === "rectangle" && this.outline.length) this.#fillOutline();
    else if (this.tool !== "move") this.outline.push(this.cursor);
    this.#drawOutline();
  }

  /** One step. @param {Point} from @param {Point} to */
  #paint(from, to) {
    if (!this.mask) return;
    this.mask.begin();
    this.view.touch(this.mask.line(from, to, this.size / 2, this.tool === "brush"));
    this.mask.commit();
    this.onChange();
  }

  // ---- rectangle and lasso

  /** @param {Point} a @param {Point} b @returns {Point[]} */
  #box(a, b) {
    return [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];
  }

  #fillOutline() {
    const corners = this.outline;
    this.#dropOutline();
    if (corners.length < 3 || !this.mask) return;
    this.mask.begin();
    this.view.touch(this.mask.polygon(corners, !this.erasing));
    this.mask.commit();
    this.onChange();
  }

  #dropOutline() {
    this.outline = [];
    this.#drawOutline();
  }

  #drawOutline() {
    const points = this.outline.map((point) => this.view.toScreen(point));
    this.shape.setAttribute("points", points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  }

  // ---- the ring that shows the brush

  /** @param {Point} at Of the photo. */
  #showRing(at) {
    const shown = this.painting && this.tool !== "move";
    this.ring.hidden = !shown;
    if (!shown) return;
    const { x, y } = this.view.toScreen(at);
    this.ring.style.left = `${x}px`;
    this.ring.style.top = `${y}px`;
    this.#scaleRing();
  }

  #scaleRing() {
    const brush = this.tool === "brush" || this.tool === "eraser";
    const size = brush ? Math.max(4, (this.size * this.view.scale) / this.view.ratio) : 12;
    this.ring.style.width = this.ring.style.height = `${size}px`;
  }

  #hideRing() {
    this.ring.hidden = true;
  }
}
