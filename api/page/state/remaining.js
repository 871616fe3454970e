// How long a job still takes: a range while little is known, narrower the longer it has run.

import { t } from "../i18n/index.js";

/** @typedef {import("./photo.js").PhotoJob} PhotoJob */

const FIRST_SPREAD = 2; // an estimate before the start may be wrong by this factor
const LEAST_SECONDS = 1; // of work, before its speed is believed

/** @param {PhotoJob} job @param {number} now Milliseconds since 1970. @returns {string} Empty when nothing is known. */
export function remaining(job, now) {
  const fraction = job.progress?.fraction ?? 0;
  const worked = job.began ? (now - job.began.at) / 1000 : 0;
  const done = job.began ? fraction - job.began.fraction : 0;
  if (done > 0.02 && worked > LEAST_SECONDS) {
    const seconds = (worked * (1 - fraction)) / done;
    return inWords(seconds, done < 0.15 ? FIRST_SPREAD : done < 0.4 ? 1.4 : 1);
  }
  return job.estimate === null ? "" : inWords(job.estimate * (1 - fraction), FIRST_SPREAD);
}

/** @param {number} seconds @param {number} [spread] The factor by which that may be wrong. @returns {string} */
export function inWords(seconds, spread = FIRST_SPREAD) {
  const unit = seconds * spread < 90 ? "s" : seconds * spread < 5400 ? "min" : "h";
  const [low, high] = [seconds / spread, seconds * spread].map((value) => rounded(value / { s: 1, min: 60, h: 3600 }[unit]));
  if (spread === 1 || low === undefined || high === undefined || low === high) return t().duration(seconds);
  return t().durationRange(low, high, unit);
}

/** To one that is easily read. @param {number} value */
function rounded(value) {
  const step = value > 40 ? 10 : value > 15 ? 5 : 1;
  return Math.max(1, Math.round(value / step) * step);
}
