// What is seen: the photo, the hole over it, or before and after side by side; and where on the screen it lies.

import { Mask } from "./mask.js";

/** @typedef {import("./mask.js").Rect} Rect */
/** @typedef {import("./mask.js").Point} Point */

const SMALL = 2048; // long side of the copy that is drawn while the whole photo is in sight
const HOLE = [226, 26, 106]; // the overlay's colour; white stripes show it where the photo is of that colour too
const MOST_ZOOM = 32; // device pixels per pixel of the photo

/** A picture and a smaller copy of it, so that moving a large one stays quick. */
class Picture {
  /** @param {ImageBitmap} full @param {ImageBitmap | null} small */
  constructor(full, small) {
    this.full = full;
    this.small = small;
  }

  /** @param {ImageBitmap} full */
  static async of(full) {
    const share = SMALL / Math.max(full.width, full.height);
    if (share >= 1) return new Picture(full, null);
    const size = { resizeWidth: Math.round(full.width * share), resizeHeight: Math.round(full.height * share) };
    return new Picture(full, await createImageBitmap(full, { ...size, resizeQuality: "high" }));
  }

  close() {
    this.full.close();
    this.small?.close();
  }
}

export class View {
  /** @param {HTMLElement} board @param {HTMLCanvasElement} base @param {HTMLCanvasElement} over */
  constructor(board, base, over) {
    this.board = board;
    this.base = context(base);
    this.over = context(over);
    this.width = 0; // of the photo
    this.height = 0;
    this.scale = 1; // device pixels per pixel of the photo
    this.x = 0; // device pixels, of the photo's corner
    this.y = 0;
    this.split = 0.5; // of the photo's width; left of it is before
    this.fitted = true;
    this.comparing = false;
    /** @type {Mask | null} */
    this.mask = null;
    /** @type {Picture | null} */
    this.before = null;
    /** @type {Picture | null} */
    this.after = null;
    /** @type {Rect | null} Of the mask, to be drawn again. */
    this.stale = null;
    this.all = false;
    this.asked = 0;
    /** Called after everything has been drawn anew. @type {() => void} */
    this.onMove = () => {};
    new ResizeObserver(() => this.#resize()).observe(board);
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  /** @param {ImageBitmap} photo @param {Mask} mask */
  async open(photo, mask) {
    const picture = await Picture.of(photo);
    this.before?.close();
    this.after?.close();
    [this.before, this.after, this.mask, this.comparing] = [picture, null, mask, false];
    [this.width, this.height] = [photo.width, photo.height];
    this.#resize();
    this.fit();
  }

  /** Show this in the photo's place, or the photo. @param {ImageBitmap | null} result @param {boolean} comparing */
  async lay(result, comparing) {
    const picture = result && (await Picture.of(result));
    this.after?.close();
    [this.after, this.comparing] = [picture, comparing];
    this.redraw();
  }

  fit() {
    const { width, height } = this.base.canvas;
    if (!this.width) return;
    this.scale = Math.min(width / this.width, height / this.height, 4) || 1;
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.redraw();
  }

  /** @param {number} factor @param {Point} [at] On the screen, relative to the board; the middle without it. */
  zoom(factor, at) {
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
      x: ((event.clientX - box.left - this.board.clientLeft) * this.ratio - this.x) / this.scale,
      y: ((event.clientY - box.top - this.board.clientTop) * this.ratio - this.y) / this.scale,
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
    if (this.base.canvas.width === width && this.base.canvas.height === height) return;
    for (const { canvas } of [this.base, this.over]) [canvas.width, canvas.height] = [width, height];
    if (this.fitted) this.fit();
    else this.redraw();
  }

  #ask() {
    if (!this.asked) this.asked = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.asked = 0;
    const { width, height } = this.base.canvas;
    if (this.all) {
      this.#pictures();
      this.over.clearRect(0, 0, width, height);
      this.#hole(0, 0, width, height);
      this.onMove();
    } else if (this.stale) {
      const { left, top, right, bottom } = this.stale;
      this.#hole(
        Math.max(0, Math.floor(left * this.scale + this.x) - 1),
        Math.max(0, Math.floor(top * this.scale + this.y) - 1),
        Math.min(width, Math.ceil(right * this.scale + this.x) + 1),
        Math.min(height, Math.ceil(bottom * this.scale + this.y) + 1),
      );
    }
    this.all = false;
    this.stale = null;
  }

  #pictures() {
    const { canvas } = this.base;
    this.base.setTransform(1, 0, 0, 1, 0, 0);
    this.base.clearRect(0, 0, canvas.width, canvas.height);
    const edge = this.comparing ? this.split * this.width : this.after ? 0 : this.width;
    if (this.before && edge > 0) this.#part(this.before, 0, edge);
    if (this.after && edge < this.width) this.#part(this.after, edge, this.width);
    if (this.comparing) {
      const x = Math.round(this.x + edge * this.scale);
      this.base.fillStyle = "#000a";
      this.base.fillRect(x - 2 * this.ratio, this.y, 4 * this.ratio, this.height * this.scale);
      this.base.fillStyle = "#fff";
      this.base.fillRect(x - this.ratio, this.y, 2 * this.ratio, this.height * this.scale);
    }
  }

  /** Draw a picture between two columns of the photo. @param {Picture} picture @param {number} from @param {number} to */
  #part(picture, from, to) {
    const { canvas } = this.base;
    // Only what is in sight.
    const left = Math.max(from, -this.x / this.scale);
    const right = Math.min(to, (canvas.width - this.x) / this.scale);
    const top = Math.max(0, -this.y / this.scale);
    const bottom = Math.min(this.height, (canvas.height - this.y) / this.scale);
    if (left >= right || top >= bottom) return;
    const { full, small } = picture;
    const source = small && this.width * this.scale <= Math.max(small.width, 1) ? small : full;
    const across = source.width / this.width; // a preview, or a result that was shrunk, has fewer pixels
    const down = source.height / this.height;
    this.base.imageSmoothingEnabled = this.scale * (1 / across) < 3;
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

  /** Draw the hole in a part of the canvas. @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
  #hole(x0, y0, x1, y1) {
    const mask = this.mask;
    if (!mask || this.after || x0 >= x1 || y0 >= y1) return;
    const image = this.over.createImageData(x1 - x0, y1 - y0);
    const out = new Uint32Array(image.data.buffer);
    const [r, g, b] = /** @type {[number, number, number]} */ (HOLE);
    const colour = (b << 16) | (g << 8) | r; // little-endian, as all browsers' machines are
    const fill = (0x80 << 24) | colour;
    const line = (0x90 << 24) | 0xffffff;
    const step = 1 / this.scale;
    const stripe = 8 * Math.max(1, Math.round(this.ratio));
    const columns = new Int32Array(x1 - x0);
    for (let x = x0; x < x1; x++) columns[x - x0] = Math.floor((x + 0.5 - this.x) * step);
    for (let y = y0; y < y1; y++) {
      const row = Math.floor((y + 0.5 - this.y) * step);
      if (row < 0 || row >= mask.height) continue;
      const at = row * mask.width;
      for (let x = x0; x < x1; x++) {
        const column = columns[x - x0] ?? -1;
        if (column < 0 || column >= mask.width || !mask.data[at + column]) continue;
        out[(y - y0) * (x1 - x0) + x - x0] = (x + y) % stripe ? fill : line;
      }
    }
    this.over.putImageData(image, x0, y0);
  }
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
function context(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("This browser has no canvas to draw on.");
  return found;
}
