// Mouse, pen, touch and wheel on the board: they paint, draw outlines, and move the view.

import { Board } from "./board.js";
import { corners, Tools } from "./tools.js";

/** @typedef {import("../mask/mask.js").Point} Point */

export class Pointer {
  /** @param {Board} board @param {Tools} tools */
  constructor(board, tools) {
    this.board = board;
    this.tools = tools;
    this.grabbing = false; // Space is held: whatever the tool, the pointer moves the view
    this.grabbed = false; // and it has
    /** @type {Map<number, Point>} Pointers that are down, on the screen. */
    this.down = new Map();
    /** @type {"" | "stroke" | "outline" | "pan"} */
    this.gesture = "";
    this.erasing = false;
    /** @type {number[]} Of the stroke: x, y, x, y, … */
    this.points = [];
    const { element } = board;
    element.addEventListener("pointerdown", (event) => this.#press(event));
    element.addEventListener("pointermove", (event) => this.#drag(event));
    element.addEventListener("pointerup", (event) => this.#release(event));
    element.addEventListener("pointercancel", (event) => this.#release(event));
    element.addEventListener("pointerleave", () => tools.hideRing());
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** @param {boolean} on */
  grab(on) {
    if (on && !this.grabbing) this.grabbed = false;
    this.grabbing = on;
    this.board.element.classList.toggle("grabbing", on);
    if (on) this.tools.hideRing();
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (!this.board.photo) return;
    this.board.element.focus({ preventScroll: true });
    this.board.element.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.down.size === 2) this.#beginPinch();
    if (this.down.size > 1) return;
    const { tool } = this.tools;
    const point = this.board.view.toPhoto(event);
    const paints = event.button === 0 || event.button === 5; // 5: a pen's other end
    if (this.grabbing || event.button === 1 || tool === "move" || !this.board.editable) {
      this.gesture = "pan";
      this.grabbed = true;
    } else if (paints && this.tools.painting) {
      this.gesture = "stroke";
      this.erasing = tool === "eraser" || event.button === 5;
      this.points = [point.x, point.y];
      this.#paint(point, point);
    } else if (paints) {
      this.gesture = "outline";
      this.erasing = event.button === 5;
      this.tools.setOutline([point]);
    }
  }

  /** The second finger: it was meant as a pinch, so the first one has painted nothing. */
  #beginPinch() {
    if (this.gesture === "stroke") this.board.restore();
    this.tools.setOutline([]);
    this.gesture = "pan";
  }

  /** @param {Point} from @param {Point} to */
  #paint(from, to) {
    const { mask, view } = this.board;
    view.touch(mask.line(from, to, this.tools.size / 2, !this.erasing));
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (!this.board.photo) return;
    const { view } = this.board;
    const point = view.toPhoto(event);
    if (event.pointerType !== "touch" && !this.grabbing) this.tools.showRing(point);
    const before = this.down.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    this.down.set(event.pointerId, now);
    if (this.gesture === "pan" && this.down.size === 2) this.#pinch(event.pointerId, before, now);
    else if (this.gesture === "pan") view.pan(now.x - before.x, now.y - before.y);
    else if (this.gesture === "stroke") this.#lengthen(event);
    else if (this.gesture === "outline") {
      const { outline, tool } = this.tools;
      this.tools.setOutline(tool === "rectangle" ? corners(outline[0] ?? point, point) : [...outline, point]);
    }
  }

  /** @param {PointerEvent} event */
  #lengthen(event) {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const part of events.length ? events : [event]) {
      const to = this.board.view.toPhoto(part);
      const [x = to.x, y = to.y] = this.points.slice(-2);
      this.#paint({ x, y }, to);
      this.points.push(to.x, to.y);
    }
  }

  /** @param {PointerEvent} event */
  #release(event) {
    if (!this.down.delete(event.pointerId) || this.down.size) return;
    const kind = this.erasing ? "eraser" : "brush";
    if (this.gesture === "stroke") {
      this.board.commit({ kind, radius: this.tools.size / 2, points: this.points }, true);
    } else if (this.gesture === "outline") this.tools.closeOutline(this.erasing);
    this.gesture = "";
  }

  /** @param {number} id @param {Point} before @param {Point} now */
  #pinch(id, before, now) {
    const other = [...this.down].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const was = Math.hypot(before.x - other.x, before.y - other.y) || 1;
    const is = Math.hypot(now.x - other.x, now.y - other.y) || 1;
    this.board.view.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.board.view.zoom(is / was, this.#onBoard((now.x + other.x) / 2, (now.y + other.y) / 2));
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.board.photo) return;
    event.preventDefault();
    const turns = event.deltaY / (event.deltaMode ? 3 : 100);
    if (event.ctrlKey || event.metaKey || !this.board.editable || !this.tools.painting) {
      this.board.view.zoom(2 ** (-turns / 3), this.#onBoard(event.clientX, event.clientY));
    } else {
      this.tools.resize(this.tools.size * 1.15 ** -turns + (turns < 0 ? 1 : -1));
    }
  }

  /** @param {number} x @param {number} y On the screen. @returns {Point} */
  #onBoard(x, y) {
    const box = this.board.element.getBoundingClientRect();
    return { x: x - box.left, y: y - box.top };
  }
}
