// How far a job is, in words.

import { byId, duration, say } from "./dom.js";

/**
 * @param {import("./service.js").Progress} progress
 * @param {number} spent Seconds since the refinement was first heard of.
 * @param {number} estimate Seconds, of the plan; 0 when there is none.
 */
export function tellProgress(progress, spent, estimate) {
  const { stage, fraction, scale, scales, iteration, iterations, window, windows } = progress;
  byId("bar", HTMLProgressElement).value = fraction;
  if (stage === "decode") return say("progress-told", "Reading the photo.");
  if (stage === "encode") return say("progress-told", "Writing the result.");
  if (!scales) return say("progress-told", "Waiting for the device.");
  const where = (windows ?? 1) > 1 ? `Window ${window} of ${windows}, scale` : "Scale";
  say("progress-told", `${where} ${scale} of ${scales}, iteration ${iteration} of ${iterations}.`);
  const left = fraction > 0.05 && spent > 1 ? (spent * (1 - fraction)) / fraction : estimate;
  say("progress-left", left ? `${duration(left)} left`.replace(/^a/, "A") : "");
}
