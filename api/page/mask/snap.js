// From a rough hole to the object under it. Two colour histograms say what the object and its surroundings look like; with
// these as priors a random walk finds an outline along the edges of the photo; both are repeated with each other's result,
// as in GrabCut (Rother, Kolmogorov and Blake, 2004).

import { binsOf, oddsOf, opponent } from "./colours.js";
import { distanceTo } from "./distance.js";
import { close, parts } from "./parts.js";
import { linksOf, walk } from "./walk.js";

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{pixels: Uint8ClampedArray, rough: Uint8Array, size: Size}} Scene pixels: RGBA. rough: 255 in the rough hole. */

const ROUNDS = 5;
// Distances are by the radius of the largest disc in the rough hole.
const SLACK = 0.1; // how far an object may lie outside of what is drawn around it
const REACH = 4; // how far an object may go beyond a stroke on it
const CORE = 0.3; // this deep inside a stroke, all is object
const CLOSING = 0.03; // of the root of the object's size: narrower gaps belong to it
const LEAST_SHARE = 0.1; // of the rough hole: a smaller object was not meant
// When an object is thought to go on outside of the hole, found with holes in ten photos:
const BEYOND = 0.7; // how far outside it is looked for
const LEAST_BEYOND = 0.15; // of the object
const LEAST_OPEN = 0.05; // of the hole's outline that is crossed
const [OBJECT_ODDS, REST_ODDS] = [0.78, 0.23]; // otherwise nothing stands out

const [REST, OBJECT] = [1, 2]; // values of `fixed`

/**
 * @param {Scene} scene @param {"around" | "on"} how The rough hole is drawn around the object, or somewhere on it.
 * @returns {Uint8Array | null} 255 where the object is; null when none stands out.
 */
export function snap({ pixels, rough, size }, how) {
  const depth = depthOf(rough, size);
  const fixed = depth.map((value) =>
    how === "around" ? (value < -SLACK ? REST : 0) : value > CORE ? OBJECT : value < -REACH ? REST : 0,
  );
  const place = depth.map((value) =>
    how === "around" ? (value < 0 ? 0.3 : 0.5 + 0.35 * value) : 1 / (1 + Math.exp(-1 - value)),
  );
  const share = Float32Array.from(rough, (value) => (value ? 1 : 0));
  refine(share, { pixels, place, fixed, size, rounds: ROUNDS, mixed: how === "around" ? "object" : "rest" });
  return whole(share, rough, size);
}

/**
 * Whether an object in the hole goes on outside of it.
 * @param {Scene} scene rough: the hole. @returns {Uint8Array | null} The hole with the rest of the object.
 */
export function beyond({ pixels, rough, size }) {
  const core = snap({ pixels, rough, size }, "around");
  if (!core) return null;
  const depth = depthOf(rough, size);
  const within = depthOf(core, size);
  const fixed = depth.map((value, i) => (value < -BEYOND ? REST : (within[i] ?? 0) > CORE / 2 ? OBJECT : 0));
  const place = depth.map((value) => (value < 0 ? 0.35 : 0.5));
  const share = Float32Array.from(core, (value) => (value ? 1 : 0));
  if (!standsOut(pixels, share, depth, size)) return null;
  refine(share, { pixels, place, fixed, size, rounds: 2, mixed: null });
  const found = whole(share, core, size);
  if (!found || !goesOn(found, core, rough, size)) return null;
  return found.map((value, i) => value || (rough[i] ?? 0));
}

/** How deep inside each cell is, by the radius of the largest disc; negative outside. @param {Uint8Array} cells @param {Size} size */
function depthOf(cells, { width, height }) {
  const inside = distanceTo(cells, width, height, 0);
  const outside = distanceTo(cells, width, height, 255);
  const radius = inside.reduce((most, value) => Math.max(most, value), 1);
  return inside.map((value, i) => (value - (outside[i] ?? 0)) / radius);
}

/**
 * Bring the object's share in each pixel into line with its colours, its place and the edges.
 * @param {Float32Array} share Changed. @param {{pixels: Uint8ClampedArray, place: Float32Array, fixed: Float32Array, size: Size,
 *   rounds: number, mixed: "object" | "rest" | null}} known
 * place: how likely each pixel is the object by its place alone. mixed: which of the two colours are a mixture at first.
 */
function refine(share, { pixels, place, fixed, size, rounds, mixed }) {
  const colours = opponent(pixels, share.length);
  const links = linksOf(colours, size);
  const bins = binsOf(colours, share.length);
  for (let round = 0; round < rounds; round++) {
    const odds = oddsOf(bins, share, round === 0 ? mixed : null);
    const prior = share.map((_, i) => {
      if (fixed[i]) return fixed[i] === OBJECT ? 1 : 0;
      const own = (odds[bins[i] ?? 0] ?? 0) * (place[i] ?? 0);
      return own / (own + (1 - (odds[bins[i] ?? 0] ?? 0)) * (1 - (place[i] ?? 0)));
    });
    walk(share, prior, fixed, links, size);
  }
}

/** Whether an object's colours differ from what is around the hole. @param {Uint8ClampedArray} pixels
 * @param {Float32Array} share @param {Float32Array} depth @param {Size} size */
function standsOut(pixels, share, depth, size) {
  const bins = binsOf(opponent(pixels, size.width * size.height), size.width * size.height);
  const odds = oddsOf(bins, share, null);
  const mean = (/** @type {(i: number) => boolean} */ chosen) => {
    const all = [...bins.keys()].filter(chosen);
    return all.reduce((sum, i) => sum + (odds[bins[i] ?? 0] ?? 0), 0) / Math.max(1, all.length);
  };
  return mean((i) => share[i] === 1) >= OBJECT_ODDS && mean((i) => (depth[i] ?? 0) < 0) <= REST_ODDS;
}

/** Whether what was found crosses the hole's outline in earnest. @param {Uint8Array} found @param {Uint8Array} core
 * @param {Uint8Array} rough @param {Size} size */
function goesOn(found, core, rough, { width, height }) {
  let [outline, open, extra, inside] = [0, 0, 0, 0];
  for (let i = 0; i < found.length; i++) {
    if (core[i]) inside++;
    if (found[i] && !rough[i]) extra++;
    if (!rough[i]) continue;
    const x = i % width;
    const near = [x > 0 ? i - 1 : i, x < width - 1 ? i + 1 : i, i - width, i + width].filter((j) => j >= 0 && j < width * height);
    if (near.every((j) => rough[j])) continue;
    outline++;
    if (core[i] && near.some((j) => !rough[j] && found[j])) open++;
  }
  return extra > LEAST_BEYOND * inside && open > LEAST_OPEN * outline;
}

/**
 * The parts of the object that the rough hole touches in earnest, without small gaps.
 * @param {Float32Array} share @param {Uint8Array} rough @param {Size} size @returns {Uint8Array | null}
 */
function whole(share, rough, { width, height }) {
  const found = Uint8Array.from(share, (value) => (value > 0.5 ? 255 : 0));
  const total = rough.reduce((sum, value) => sum + (value ? 1 : 0), 0);
  for (const part of parts(found, 255, width, height)) {
    const touched = part.reduce((sum, i) => sum + (rough[i] ? 1 : 0), 0);
    if (touched < 0.02 * total) for (const i of part) found[i] = 0;
  }
  const size = found.reduce((sum, value) => sum + (value ? 1 : 0), 0);
  if (size < LEAST_SHARE * total) return null;
  close(found, Math.max(2, CLOSING * Math.sqrt(size)), width, height);
  for (const gap of parts(found, 0, width, height)) {
    const open = gap.some((i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1);
    if (!open && gap.length < 0.1 * size) for (const i of gap) found[i] = 255;
  }
  return found;
}
