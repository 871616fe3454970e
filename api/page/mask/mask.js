// The hole: one byte per pixel of the photo, 255 where it is to be filled. Knows nothing of the screen or of history.

/** @typedef {{left: number, top: number, right: number, bottom: number}} Rect Pixels; right and bottom are outside. */
/** @typedef {{x: number, y: number}} Point Pixels of the photo. */

export class Mask {
  /** @param {number} width @param {number} height Pixels, of the photo. */
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
  }

  get empty() {
    return this.data.indexOf(255) < 0;
  }

  /** @returns {Rect} */
  get bounds() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
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
    let rect = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    for (const { x, y } of corners) {
      rect = {
        left: Math.min(rect.left, Math.floor(x)),
        top: Math.min(rect.top, Math.floor(y)),
        right: Math.max(rect.right, Math.ceil(x)),
        bottom: Math.max(rect.bottom, Math.ceil(y)),
      };
    }
    rect = this.#clip(rect);
    for (let row = rect.top; row < rect.bottom; row++) {
      const found = crossings(corners, row + 0.5).sort((a, b) => a - b);
      for (let i = 0; i + 1 < found.length; i += 2) this.#span(row, found[i] ?? 0, found[i + 1] ?? 0, hole);
    }
    return rect;
  }

  clear() {
    this.data.fill(0);
  }

  invert() {
    const data = this.data;
    for (let i = 0; i < data.length; i++) data[i] = 255 - (data[i] ?? 0);
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
