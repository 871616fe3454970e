// The part of a photo around a rough hole, small enough to look for the object in it, and the way back to all pixels.

import { t } from "../i18n/index.js";
import { distanceTo } from "./distance.js";
import { Mask } from "./mask.js";
import { parts } from "./parts.js";

/** @typedef {import("./mask.js").Rect} Rect */
/** @typedef {import("./mask.js").Point} Point */
/** @typedef {import("./snap.js").Scene} Scene */

const SIDE_PIXELS = 320; // of a square of the scene's size
const MARGIN_CELLS = 1.5; // by which the found object grows, so that nothing of its edge is left

/** @param {Mask} mask @returns {Rect | null} */
export function boundsOf({ width, height, data }) {
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (let row = 0; row < height; row++) {
    const line = data.subarray(row * width, (row + 1) * width);
    const first = line.indexOf(255);
    if (first < 0) continue;
    left = Math.min(left, first);
    right = Math.max(right, line.lastIndexOf(255) + 1);
    top = Math.min(top, row);
    bottom = row + 1;
  }
  return right ? { left, right, top, bottom } : null;
}

/** @param {Rect} rect @param {number} margin By the root of its size. @param {Mask} mask @returns {Rect} */
export function widened({ left, right, top, bottom }, margin, { width, height }) {
  const far = Math.ceil(margin * Math.sqrt((right - left) * (bottom - top))) + 8;
  return {
    left: Math.max(0, left - far),
    right: Math.min(width, right + far),
    top: Math.max(0, top - far),
    bottom: Math.min(height, bottom + far),
  };
}

/**
 * @param {CanvasImageSource} picture Of the mask's size. @param {Mask} rough @param {Rect} area
 * @param {Point} touched Only the connected part of the rough hole that is nearest to this counts.
 * @returns {Scene}
 */
export function sceneOf(picture, rough, area, touched) {
  const [across, down] = [area.right - area.left, area.bottom - area.top];
  const scale = Math.min(1, SIDE_PIXELS / Math.sqrt(across * down));
  const size = { width: Math.max(1, Math.round(across * scale)), height: Math.max(1, Math.round(down * scale)) };
  const context = new OffscreenCanvas(size.width, size.height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(t().noCanvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, area.left, area.top, across, down, 0, 0, size.width, size.height);
  const pixels = context.getImageData(0, 0, size.width, size.height).data;
  const cells = new Uint8Array(size.width * size.height);
  for (let y = 0; y < size.height; y++) {
    const row = Math.min(rough.height - 1, area.top + Math.floor(((y + 0.5) * down) / size.height));
    for (let x = 0; x < size.width; x++) {
      const column = Math.min(rough.width - 1, area.left + Math.floor(((x + 0.5) * across) / size.width));
      cells[y * size.width + x] = rough.data[row * rough.width + column] ?? 0;
    }
  }
  const at = { x: ((touched.x - area.left) / across) * size.width, y: ((touched.y - area.top) / down) * size.height };
  return { pixels, rough: nearestPart(cells, size, at), size };
}

/** @param {Uint8Array} cells @param {{width: number, height: number}} size @param {Point} at */
function nearestPart(cells, { width, height }, at) {
  /** @type {number[]} */
  let nearest = [];
  let least = Infinity;
  for (const part of parts(cells, 255, width, height)) {
    const away = Math.min(...part.map((i) => Math.hypot((i % width) - at.x, Math.floor(i / width) - at.y)));
    if (away < least) [least, nearest] = [away, part];
  }
  const out = new Uint8Array(cells.length);
  for (const i of nearest) out[i] = 255;
  return out;
}

/** Add what was found to a mask. @param {Mask} mask @param {Uint8Array} found @param {Scene["size"]} size @param {Rect} area */
export function addTo(mask, found, { width, height }, area) {
  const inside = distanceTo(found, width, height, 0);
  const outside = distanceTo(found, width, height, 255);
  const depth = inside.map((value, i) => value - (outside[i] ?? 0) + MARGIN_CELLS);
  const [across, down] = [width / (area.right - area.left), height / (area.bottom - area.top)];
  for (let row = area.top; row < area.bottom; row++) {
    const y = Math.min(height - 1, Math.max(0, (row - area.top + 0.5) * down - 0.5));
    const above = Math.floor(y) * width;
    const below = Math.min(height - 1, Math.floor(y) + 1) * width;
    const low = y % 1;
    for (let column = area.left; column < area.right; column++) {
      const x = Math.min(width - 1, Math.max(0, (column - area.left + 0.5) * across - 0.5));
      const left = Math.floor(x);
      const right = Math.min(width - 1, left + 1);
      const far = x % 1;
      const top = (depth[above + left] ?? 0) * (1 - far) + (depth[above + right] ?? 0) * far;
      const bottom = (depth[below + left] ?? 0) * (1 - far) + (depth[below + right] ?? 0) * far;
      if (top * (1 - low) + bottom * low > 0) mask.data[row * mask.width + column] = 255;
    }
  }
}
