// How long a job still takes: a range while little is known, narrower the longer it has run.

import { t } from "../i18n/index.js";

/** @typedef {import("./photo.js").PhotoJob} PhotoJob */

const LEAST_SECONDS = 1; // of work, before its speed is believed
const LEAST_FRACTION = 0.02; // of progress, before its speed is believed

/** @param {PhotoJob} job @param {number} now Milliseconds since 1970. @returns {string} Empty when nothing is known. */
export function remaining(job, now) {
  const fraction = job.progress?.fraction ?? 0;
  const worked = job.began ? (now - job.began.at) / 1000 : 0;
  const done = job.began ? fraction - job.began.fraction : 0;
  if (done > LEAST_FRACTION && worked > LEAST_SECONDS) {
    const seconds = (worked * (1 - fraction)) / done;
    const spread = done < 0.15 ? 2 : done < 0.4 ? 1.4 : 1; // the factor by which the speed so far may be wrong
    return spread === 1 ? t().duration(seconds) : inWords(seconds / spread, seconds * spread);
  }
  if (!job.estimate) return "";
  const passed = (now - job.estimate.at) / 1000;
  const { low_seconds: low, high_seconds: high } = job.estimate;
  return high > passed ? inWords(low - passed, high - passed) : "";
}

/** A range of seconds. @param {number} low @param {number} high @returns {string} */
export function inWords(low, high) {
  const [from, to] = [rounded(low), rounded(high)];
  return from.value === to.value && from.unit === to.unit ? t().duration(high) : t().durationRange(from, to);
}

/** To one that is easily read. @param {number} seconds @returns {import("../i18n/en.js").Duration} */
function rounded(seconds) {
  const unit = seconds < 90 ? "s" : seconds < 5400 ? "min" : "h";
  const value = seconds / { s: 1, min: 60, h: 3600 }[unit];
  const step = value > 40 ? 10 : value > 15 ? 5 : 1;
  return { value: Math.max(1, Math.round(value / step) * step), unit };
}
