// What is seen of a photo and where on the screen it lies: the photo, the hole over it, or before and after.

import { t } from "../i18n/index.js";
import { Mask } from "../mask/mask.js";
import { Overlay } from "./overlay.js";
import { Picture } from "./pictures.js";

/** @typedef {import("../mask/mask.js").Rect} Rect */
/** @typedef {import("../mask/mask.js").Point} Point */

const MOST_ZOOM = 32; // device pixels per pixel of the photo
const FIT_ZOOM = 4; // no more than this when all of a small photo is shown

export class View {
  /** @param {HTMLElement} board @param {HTMLCanvasElement} base @param {HTMLCanvasElement} over */
  constructor(board, base, over) {
    this.board = board;
    this.base = contextOf(base);
    this.overlay = new Overlay(contextOf(over));
    this.width = 0; // of the photo
    this.height = 0;
    this.scale = 1; // device pixels per pixel of the photo
    this.x = 0; // device pixels, of the photo's corner
    this.y = 0;
    this.fitted = true;
    this.split = 0.5; // of the photo's width; left of it is before
    this.comparing = false; // with the divider
    this.peeking = false; // all of it is before, for as long as a key is held
    /** @type {Mask | null} */
    this.mask = null;
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {Picture | null} What the picture is compared with. */
    this.before = null;
    /** @type {Picture | null} Of a running job. */
    this.preview = null;
    /** @type {Rect | null} Of the mask, to be drawn again. */
    this.stale = null;
    this.all = false;
    this.asked = 0;
    /** @type {() => void} Called after everything has been drawn anew. */
    this.onDraw = () => {};
    new ResizeObserver(() => this.#resize()).observe(board);
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  /** @param {number} width @param {number} height Of another photo. */
  open(width, height) {
    [this.width, this.height] = [width, height];
    this.#resize();
    this.fit();
  }

  fit() {
    const { width, height } = this.base.canvas;
    if (!this.width) return;
    this.scale = Math.min(width / this.width, height / this.height, FIT_ZOOM) || 1;
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.redraw();
  }

  /** @param {number} factor @param {Point} [at] On the screen, relative to the board; the middle without it. */
  zoom(factor, at) {
    if (!this.width) return;
    const { width, height } = this.base.canvas;
    const [cx, cy] = at ? [at.x * this.ratio, at.y * this.ratio] : [width / 2, height / 2];
    const least = Math.min(width / this.width, height / this.height, 1) / 2;
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.scale * factor));
    this.x = cx - ((cx - this.x) * scale) / this.scale;
    this.y = cy - ((cy - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#moved();
  }

  /** @param {number} dx @param {number} dy Pixels of the screen. */
  pan(dx, dy) {
    this.x += dx * this.ratio;
    this.y += dy * this.ratio;
    this.#moved();
  }

  /** @param {Point} point Of the photo; moves so that it can be seen. */
  reveal(point) {
    const { width, height } = this.base.canvas;
    const x = this.x + point.x * this.scale;
    const y = this.y + point.y * this.scale;
    const dx = Math.max(0, 40 - x) + Math.min(0, width - 40 - x);
    const dy = Math.max(0, 40 - y) + Math.min(0, height - 40 - y);
    if (dx || dy) this.pan(dx / this.ratio, dy / this.ratio);
  }

  /** @param {{clientX: number, clientY: number}} event @returns {Point} Of the photo. */
  toPhoto(event) {
    const box = this.board.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.ratio - this.x) / this.scale,
      y: ((event.clientY - box.top) * this.ratio - this.y) / this.scale,
    };
  }

  /** @param {Point} point Of the photo. @returns {Point} On the screen, relative to the board. */
  toScreen(point) {
    return { x: (point.x * this.scale + this.x) / this.ratio, y: (point.y * this.scale + this.y) / this.ratio };
  }

  /** @param {Rect} rect Of the mask; what has changed. */
  touch(rect) {
    const old = this.stale;
    this.stale = old
      ? {
          left: Math.min(old.left, rect.left),
          top: Math.min(old.top, rect.top),
          right: Math.max(old.right, rect.right),
          bottom: Math.max(old.bottom, rect.bottom),
        }
      : rect;
    this.#ask();
  }

  redraw() {
    this.all = true;
    this.#ask();
  }

  #moved() {
    // A part of the photo stays where it can be taken hold of.
    const { width, height } = this.base.canvas;
    const margin = Math.min(width, height) / 4;
    this.x = Math.min(width - margin, Math.max(margin - this.width * this.scale, this.x));
    this.y = Math.min(height - margin, Math.max(margin - this.height * this.scale, this.y));
    this.fitted = false;
    this.redraw();
  }

  #resize() {
    const width = Math.max(1, Math.round(this.board.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.board.clientHeight * this.ratio));
    const { canvas } = this.base;
    if (canvas.width === width && canvas.height === height) return;
    const [dx, dy] = [(width - canvas.width) / 2, (height - canvas.height) / 2];
    for (const { canvas: one } of [this.base, this.overlay.context]) [one.width, one.height] = [width, height];
    if (this.fitted) return this.fit();
    [this.x, this.y] = [this.x + dx, this.y + dy]; // what was in the middle stays there
    this.#moved();
  }

  #ask() {
    this.asked ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.asked = 0;
    const holeShown = this.mask && !this.comparing && !this.peeking && !this.preview;
    if (this.all) this.#drawPictures();
    if (!holeShown) this.overlay.clear();
    else if (this.mask) this.overlay.draw(this.mask, this, this.all ? null : this.stale);
    if (this.all) this.onDraw();
    this.all = false;
    this.stale = null;
  }

  #drawPictures() {
    const { canvas } = this.base;
    this.base.setTransform(1, 0, 0, 1, 0, 0);
    this.base.clearRect(0, 0, canvas.width, canvas.height);
    const after = this.preview ?? this.picture;
    const edge = !this.before ? 0 : this.peeking ? this.width : this.comparing ? this.split * this.width : 0;
    if (this.before && edge > 0) this.#drawPart(this.before, 0, edge);
    if (after && edge < this.width) this.#drawPart(after, edge, this.width);
  }

  /** Draw a picture between two columns of the photo. @param {Picture} picture @param {number} from @param {number} to */
  #drawPart(picture, from, to) {
    const { canvas } = this.base;
    // Only what is in sight.
    const left = Math.max(from, -this.x / this.scale);
    const right = Math.min(to, (canvas.width - this.x) / this.scale);
    const top = Math.max(0, -this.y / this.scale);
    const bottom = Math.min(this.height, (canvas.height - this.y) / this.scale);
    if (left >= right || top >= bottom) return;
    const source = picture.at(this.width * this.scale);
    const across = source.width / this.width; // a preview, or a result that was shrunk, has fewer pixels
    const down = source.height / this.height;
    this.base.imageSmoothingEnabled = this.scale / across < 3;
    this.base.imageSmoothingQuality = "medium";
    this.base.drawImage(
      source,
      left * across,
      top * down,
      (right - left) * across,
      (bottom - top) * down,
      left * this.scale + this.x,
      top * this.scale + this.y,
      (right - left) * this.scale,
      (bottom - top) * this.scale,
    );
  }
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
function contextOf(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error(t().noCanvas);
  return found;
}
