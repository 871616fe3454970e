// The hole, one byte per pixel of the photo: 255 where it is to be filled. Knows nothing of the screen.

/** @typedef {{left: number, top: number, right: number, bottom: number}} Rect Pixels; right and bottom are outside. */
/** @typedef {{x: number, y: number}} Point */
/** @typedef {{tiles: Map<number, Uint8Array>, invert: boolean}} Change What a step looked like before, by tile. */

const TILE = 256;
const HISTORY_BYTES = 192 * 1024 * 1024;

export class Mask {
  /** @param {number} width @param {number} height Pixels, of the photo. */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.across = Math.ceil(width / TILE);
    /** @type {Change[]} */
    this.undone = [];
    /** @type {Change[]} */
    this.done = [];
    /** @type {Change | null} */
    this.open = null;
  }

  get empty() {
    return this.data.indexOf(255) < 0;
  }

  /** Begin a step that can be undone as one. */
  begin() {
    this.commit();
    this.open = { tiles: new Map(), invert: false };
  }

  /** End the step, if one is open. */
  commit() {
    if (this.open && (this.open.tiles.size || this.open.invert)) {
      this.done.push(this.open);
      this.undone = [];
      let bytes = this.done.reduce((sum, change) => sum + change.tiles.size * TILE * TILE, 0);
      while (bytes > HISTORY_BYTES && this.done.length > 1) {
        bytes -= (this.done.shift()?.tiles.size ?? 0) * TILE * TILE;
      }
    }
    this.open = null;
  }

  /** Take back what the open step has done. */
  abandon() {
    if (this.open) this.#swap(this.open);
    this.open = null;
  }

  undo() {
    this.commit();
    return this.#move(this.done, this.undone);
  }

  redo() {
    this.commit();
    return this.#move(this.undone, this.done);
  }

  /**
   * Fill all that is within `radius` of the line from `from` to `to`.
   * @param {Point} from @param {Point} to @param {number} radius @param {boolean} hole
   * @returns {Rect} What may have changed.
   */
  line(from, to, radius, hole) {
    const rect = this.#clip({
      left: Math.floor(Math.min(from.x, to.x) - radius),
      top: Math.floor(Math.min(from.y, to.y) - radius),
      right: Math.ceil(Math.max(from.x, to.x) + radius) + 1,
      bottom: Math.ceil(Math.max(from.y, to.y) + radius) + 1,
    });
    this.#save(rect);
    const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    const nx = (-(to.y - from.y) / length) * radius;
    const ny = ((to.x - from.x) / length) * radius;
    const body = [
      { x: from.x + nx, y: from.y + ny },
      { x: to.x + nx, y: to.y + ny },
      { x: to.x - nx, y: to.y - ny },
      { x: from.x - nx, y: from.y - ny },
    ];
    for (let row = rect.top; row < rect.bottom; row++) {
      const y = row + 0.5; // the shape is convex: one span per row
      let low = Infinity;
      let high = -Infinity;
      for (const end of [from, to]) {
        const half = Math.sqrt(radius * radius - (y - end.y) ** 2);
        if (half >= 0) {
          low = Math.min(low, end.x - half);
          high = Math.max(high, end.x + half);
        }
      }
      for (const x of crossings(body, y)) {
        low = Math.min(low, x);
        high = Math.max(high, x);
      }
      this.#span(row, low, high, hole);
    }
    return rect;
  }

  /** @param {Point[]} corners @param {boolean} hole @returns {Rect} What may have changed. */
  polygon(corners, hole) {
    const rect = this.#clip({
      left: Math.floor(Math.min(...corners.map((p) => p.x))),
      top: Math.floor(Math.min(...corners.map((p) => p.y))),
      right: Math.ceil(Math.max(...corners.map((p) => p.x))),
      bottom: Math.ceil(Math.max(...corners.map((p) => p.y))),
    });
    this.#save(rect);
    for (let row = rect.top; row < rect.bottom; row++) {
      const found = crossings(corners, row + 0.5).sort((a, b) => a - b);
      for (let i = 0; i + 1 < found.length; i += 2) this.#span(row, found[i] ?? 0, found[i + 1] ?? 0, hole);
    }
    return rect;
  }

  clear() {
    this.begin();
    this.#save({ left: 0, top: 0, right: this.width, bottom: this.height });
    this.data.fill(0);
    this.commit();
  }

  invert() {
    this.begin();
    if (this.open) this.open.invert = true;
    this.#flip();
    this.commit();
  }

  /**
   * Replace all of it by the light parts of a picture of the photo's size, as the service would read it.
   * @param {ImageBitmap} picture
   */
  take(picture) {
    this.clear();
    const last = this.done.at(-1);
    const rows = Math.max(1, Math.min(this.height, Math.floor((4 * 1024 * 1024) / this.width)));
    const strip = document.createElement("canvas");
    strip.width = this.width;
    strip.height = rows;
    const context = strip.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("no canvas");
    for (let top = 0; top < this.height; top += rows) {
      context.fillStyle = "black";
      context.fillRect(0, 0, this.width, rows);
      context.drawImage(picture, 0, -top);
      const pixels = context.getImageData(0, 0, this.width, rows).data;
      const count = Math.min(rows, this.height - top) * this.width;
      for (let i = 0; i < count; i++) {
        const light =
          0.299 * (pixels[4 * i] ?? 0) + 0.587 * (pixels[4 * i + 1] ?? 0) + 0.114 * (pixels[4 * i + 2] ?? 0);
        if (light >= 127.5) this.data[top * this.width + i] = 255;
      }
    }
    if (!last) this.done = [];
  }

  /** @param {number} row @param {number} low @param {number} high @param {boolean} hole */
  #span(row, low, high, hole) {
    const from = Math.max(0, Math.ceil(low - 0.5));
    const to = Math.min(this.width, Math.floor(high - 0.5) + 1);
    if (from < to) this.data.fill(hole ? 255 : 0, row * this.width + from, row * this.width + to);
  }

  /** @param {Rect} rect @returns {Rect} */
  #clip(rect) {
    return {
      left: Math.min(this.width, Math.max(0, rect.left)),
      top: Math.min(this.height, Math.max(0, rect.top)),
      right: Math.max(0, Math.min(this.width, rect.right)),
      bottom: Math.max(0, Math.min(this.height, rect.bottom)),
    };
  }

  /** Keep the tiles under a rectangle as they were before the open step. @param {Rect} rect */
  #save(rect) {
    const open = this.open;
    if (!open || rect.left >= rect.right || rect.top >= rect.bottom) return;
    for (let down = Math.floor(rect.top / TILE); down * TILE < rect.bottom; down++) {
      for (let across = Math.floor(rect.left / TILE); across * TILE < rect.right; across++) {
        const number = down * this.across + across;
        if (!open.tiles.has(number)) open.tiles.set(number, this.#tile(number));
      }
    }
  }

  /** @param {number} number @returns {Uint8Array} A copy. */
  #tile(number) {
    const copy = new Uint8Array(TILE * TILE);
    this.#rows(number, (at, length, row) => copy.set(this.data.subarray(at, at + length), row * TILE));
    return copy;
  }

  /** @param {number} number @param {(at: number, length: number, row: number) => void} visit */
  #rows(number, visit) {
    const left = (number % this.across) * TILE;
    const top = Math.floor(number / this.across) * TILE;
    const length = Math.min(TILE, this.width - left);
    for (let row = 0; row < TILE && top + row < this.height; row++) {
      visit((top + row) * this.width + left, length, row);
    }
  }

  /** Exchange what is there for what a change has kept. @param {Change} change */
  #swap(change) {
    for (const [number, kept] of change.tiles) {
      change.tiles.set(number, this.#tile(number));
      this.#rows(number, (at, length, row) => this.data.set(kept.subarray(row * TILE, row * TILE + length), at));
    }
    if (change.invert) this.#flip();
  }

  #flip() {
    for (let i = 0; i < this.data.length; i++) this.data[i] = 255 - (this.data[i] ?? 0);
  }

  /** @param {Change[]} from @param {Change[]} to @returns {boolean} Whether there was something to move. */
  #move(from, to) {
    const change = from.pop();
    if (!change) return false;
    this.#swap(change);
    to.push(change);
    return true;
  }
}

/**
 * Where the outline of a polygon crosses a horizontal line.
 * @param {Point[]} corners @param {number} y @returns {number[]}
 */
function crossings(corners, y) {
  const found = [];
  let before = corners[corners.length - 1];
  for (const corner of corners) {
    if (before && before.y <= y !== corner.y <= y) {
      found.push(before.x + ((y - before.y) / (corner.y - before.y)) * (corner.x - before.x));
    }
    before = corner;
  }
  return found;
}
