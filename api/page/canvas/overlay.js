// The hole as it is drawn over the photo, with lines where it ends once it has grown, and where its soft edge ends.

import { distanceTo } from "../mask/distance.js";
import { Mask } from "../mask/mask.js";

/** @typedef {import("../mask/mask.js").Rect} Rect */
/** @typedef {{x: number, y: number, scale: number, ratio: number}} Place x, y: device pixels, of the photo's corner.
 *   scale: device pixels per pixel of the photo. ratio: device pixels per pixel of the screen. */

const [RED, GREEN, BLUE] = [226, 26, 106]; // white stripes show the hole where the photo is of that colour too
const FILL = (0x80 << 24) | (BLUE << 16) | (GREEN << 8) | RED; // little-endian, as all browsers' machines are
const LINE = (0x90 << 24) | 0xffffff;
const STRIPE_PIXELS = 8; // of the screen, from one white stripe to the next
const CELL_PIXELS = 2; // of the screen: the outlines are computed on a grid of this step
const BEYOND = 1; // a cell outside of the photo: neither hole (255) nor rest (0), as the service has it

export class Overlay {
  /** @param {CanvasRenderingContext2D} context */
  constructor(context) {
    this.context = context;
    this.grow = 0; // pixels of the photo; a negative number shrinks
    this.feather = 0; // pixels of the photo, from the grown hole's border inwards
    this.grid = new OffscreenCanvas(1, 1);
  }

  clear() {
    this.context.clearRect(0, 0, this.context.canvas.width, this.context.canvas.height);
  }

  /** @param {Mask} mask @param {Place} place @param {Rect | null} changed Of the mask; null: draw all of it. */
  draw(mask, place, changed) {
    const { width, height } = this.context.canvas;
    const outlined = this.grow !== 0 || this.feather !== 0;
    if (!changed || outlined) {
      this.clear();
      this.#drawHole(mask, place, 0, 0, width, height);
      if (outlined) this.#drawOutlines(mask, place);
      return;
    }
    this.#drawHole(
      mask,
      place,
      Math.max(0, Math.floor(changed.left * place.scale + place.x) - 1),
      Math.max(0, Math.floor(changed.top * place.scale + place.y) - 1),
      Math.min(width, Math.ceil(changed.right * place.scale + place.x) + 1),
      Math.min(height, Math.ceil(changed.bottom * place.scale + place.y) + 1),
    );
  }

  /** @param {Mask} mask @param {Place} place @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 */
  #drawHole(mask, place, x0, y0, x1, y1) {
    if (x0 >= x1 || y0 >= y1) return;
    const image = this.context.createImageData(x1 - x0, y1 - y0);
    const out = new Uint32Array(image.data.buffer);
    const stripe = STRIPE_PIXELS * Math.max(1, Math.round(place.ratio));
    const columns = new Int32Array(x1 - x0);
    for (let x = x0; x < x1; x++) columns[x - x0] = Math.floor((x + 0.5 - place.x) / place.scale);
    for (let y = y0; y < y1; y++) {
      const row = Math.floor((y + 0.5 - place.y) / place.scale);
      if (row < 0 || row >= mask.height) continue;
      const at = row * mask.width;
      for (let x = x0; x < x1; x++) {
        const column = columns[x - x0] ?? -1;
        if (column < 0 || column >= mask.width || !mask.data[at + column]) continue;
        out[(y - y0) * (x1 - x0) + x - x0] = (x + y) % stripe ? FILL : LINE;
      }
    }
    this.context.putImageData(image, x0, y0);
  }

  /** Where the grown hole ends, and inside of it, fainter, its soft edge. @param {Mask} mask @param {Place} place */
  #drawOutlines(mask, place) {
    const { canvas } = this.context;
    const cell = CELL_PIXELS * place.ratio;
    const cells = (/** @type {number} */ pixels) => (pixels * place.scale) / cell;
    const edge = cells(this.grow);
    const lines = [{ at: edge, strength: 1 }, ...(this.feather ? [{ at: edge - cells(this.feather), strength: 0.6 }] : [])];
    const margin = Math.ceil(Math.max(...lines.map(({ at }) => Math.abs(at)))) + 2; // a hole beside the view grows into it
    const { distances, across, down } = this.#distances(mask, place, cell, margin, edge > 0, lines.some(({ at }) => at <= 0));
    const image = new ImageData(across, down);
    const out = new Uint32Array(image.data.buffer);
    for (let i = 0; i < out.length; i++) {
      for (const { at, strength } of lines) {
        const away = Math.abs((distances[i] ?? 0) - at);
        const white = Math.max(0, 1 - away / 0.9); // a white line on a dark one is seen on every photo
        const shown = strength * Math.max(white, 0.6 * Math.max(0, 1 - away / 2));
        if (!shown) continue;
        const level = Math.round((255 * white) / Math.max(white, shown, 0.01));
        out[i] = ((Math.round(255 * shown) << 24) | (level << 16) | (level << 8) | level) >>> 0;
        break;
      }
    }
    [this.grid.width, this.grid.height] = [across, down];
    this.grid.getContext("2d")?.putImageData(image, 0, 0);
    this.context.drawImage(this.grid, 0, 0, across * cell, down * cell);
  }

  /**
   * How far each cell in view is from the hole's border: positive outside of the hole, negative inside.
   * @param {Mask} mask @param {Place} place @param {number} cell Device pixels. @param {number} margin Cells around the view.
   * @param {boolean} outside @param {boolean} inside Which of the two are asked for.
   */
  #distances(mask, place, cell, margin, outside, inside) {
    const { canvas } = this.context;
    const across = Math.ceil(canvas.width / cell);
    const down = Math.ceil(canvas.height / cell);
    const [width, height] = [across + 2 * margin, down + 2 * margin];
    const cells = new Uint8Array(width * height).fill(BEYOND);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(((y - margin + 0.5) * cell - place.y) / place.scale);
      if (row < 0 || row >= mask.height) continue;
      for (let x = 0; x < width; x++) {
        const column = Math.floor(((x - margin + 0.5) * cell - place.x) / place.scale);
        if (column >= 0 && column < mask.width) cells[y * width + x] = mask.data[row * mask.width + column] ?? 0;
      }
    }
    const toHole = outside && distanceTo(cells, width, height, 255);
    const toRest = inside && distanceTo(cells, width, height, 0);
    const distances = new Float32Array(across * down);
    for (let i = 0; i < distances.length; i++) {
      const at = (Math.floor(i / across) + margin) * width + (i % across) + margin;
      distances[i] = (toHole && toHole[at]) || (toRest ? -(toRest[at] ?? 0) : 0);
    }
    return { distances, across, down };
  }
}
