// Connected parts of a mask, and gaps in it.

import { distanceTo } from "./distance.js";

/** The connected parts of one value. @param {Uint8Array} cells @param {number} value @param {number} width @param {number} height
 * @returns {number[][]} */
export function parts(cells, value, width, height) {
  const seen = new Uint8Array(cells.length);
  const found = [];
  for (let start = 0; start < cells.length; start++) {
    if (seen[start] || cells[start] !== value) continue;
    const part = [start];
    seen[start] = 1;
    for (let n = 0; n < part.length; n++) {
      const i = part[n] ?? 0;
      const x = i % width;
      const near = [x > 0 ? i - 1 : -1, x < width - 1 ? i + 1 : -1, i - width, i + width < width * height ? i + width : -1];
      for (const j of near) {
        if (j < 0 || seen[j] || cells[j] !== value) continue;
        seen[j] = 1;
        part.push(j);
      }
    }
    found.push(part);
  }
  return found;
}

/** Close gaps that are narrower than two radii. @param {Uint8Array} cells @param {number} radius @param {number} width @param {number} height */
export function close(cells, radius, width, height) {
  const grown = distanceTo(cells, width, height, 255);
  const outer = Uint8Array.from(grown, (value) => (value > radius ? 0 : 255));
  const shrunk = distanceTo(outer, width, height, 0);
  for (let i = 0; i < cells.length; i++) if ((shrunk[i] ?? 0) > radius) cells[i] = 255;
}
