// The steps of a photo's history, and the hole that they make. A hole is not stored: it is made anew from its steps,
// which takes milliseconds, so undo, redo and a reload are all the same thing.

import { Mask } from "../mask/mask.js";
import { unpackInto } from "../mask/runs.js";

/** @typedef {import("../mask/mask.js").Rect} Rect */
/** @typedef {{blob: Blob, mediaType: string, width: number, height: number, viewable: boolean, jobId: string,
 *   network: string, seconds: number, fields: Record<string, string>, warnings?: string[]}} Result
 * viewable: whether this browser can show it. fields: as they were sent with the job. warnings: what of the photo it does
 * not have; absent in results that were kept before there were any. */
/** @typedef {{kind: "brush" | "eraser", radius: number, points: number[]}} Stroke points: x, y, x, y, … of the photo. */
/** @typedef {{kind: "rectangle" | "lasso", erase: boolean, points: number[]}} Area */
/** @typedef {{kind: "clear"} | {kind: "invert"}} Whole */
/** @typedef {{kind: "mask" | "snap" | "grow", runs: Uint8Array<ArrayBuffer>}} Replaced The whole hole, packed. */
/** @typedef {{kind: "fill", result: Result}} Fill */
/** @typedef {Stroke | Area | Whole | Replaced | Fill} Step */

/** Whether nothing before this step shows in the hole. @param {Step} step */
function startsAnew(step) {
  return "runs" in step || step.kind === "clear" || (step.kind === "fill" && step.result.viewable);
}

/** Make the hole of these steps. @param {Mask} mask @param {Step[]} steps */
export function replay(mask, steps) {
  const start = Math.max(0, steps.findLastIndex(startsAnew));
  mask.clear();
  for (const step of steps.slice(start)) apply(mask, step);
}

/** @param {{width: number, height: number, done: Step[]}} photo @returns {Mask} Its present hole. */
export function holeOf({ width, height, done }) {
  const mask = new Mask(width, height);
  replay(mask, done);
  return mask;
}

/** @param {Mask} mask @param {Step} step @returns {Rect} What may have changed. */
export function apply(mask, step) {
  if (step.kind === "brush" || step.kind === "eraser") {
    let rect = mask.bounds;
    for (let i = 0; i === 0 || i + 2 < step.points.length; i += 2) {
      const from = pointAt(step.points, i);
      const to = i + 2 < step.points.length ? pointAt(step.points, i + 2) : from;
      rect = mask.line(from, to, step.radius, step.kind === "brush");
    }
    return step.points.length > 4 ? mask.bounds : rect;
  }
  if (step.kind === "rectangle" || step.kind === "lasso") {
    const corners = [];
    for (let i = 0; i < step.points.length; i += 2) corners.push(pointAt(step.points, i));
    return mask.polygon(corners, !step.erase);
  }
  if ("runs" in step) unpackInto(mask, step.runs);
  else if (step.kind === "invert") mask.invert();
  else if (startsAnew(step)) mask.clear();
  return mask.bounds;
}

/** @param {number[]} points @param {number} at */
function pointAt(points, at) {
  return { x: points[at] ?? 0, y: points[at + 1] ?? 0 };
}
