// What a job is doing, in words.

import { t } from "../i18n/index.js";

/** @typedef {import("../state/photo.js").PhotoJob} PhotoJob */

/** @param {PhotoJob} job @param {boolean} lost Whether the service is away. @returns {string} */
export function progressText(job, lost) {
  if (lost) return t().waitingForService;
  if (job.canceling) return t().stopping;
  if (job.phase === "waiting") return t().waitingToSend;
  if (job.phase === "sending") return job.sent < 1 ? t().sending(Math.round(100 * job.sent)) : t().accepting;
  if (job.phase === "queued") return job.ahead ? t().waitingBehind(job.ahead) : t().waitingNext;
  if (job.phase === "fetching") return t().fetching;
  return stageText(job);
}

/** @param {PhotoJob} job */
function stageText({ progress }) {
  if (!progress || progress.stage === "decode") return progress?.waiting ? t().waitingForDevice : t().reading;
  if (progress.stage === "encode") return t().writing;
  const { scale, scales, window, windows } = progress;
  if (!scale || !scales) return t().filling;
  const what = scales === 1 ? t().filling : scale === 1 ? t().coarse : t().sharpening(scale - 1, scales - 1);
  return window && windows && windows > 1 ? t().inWindow(window, windows, what) : what;
}

/** How far a job is, from 0 to 1; null while that is not known. @param {PhotoJob} job @returns {number | null} */
export function progressValue(job) {
  if (job.phase === "sending" && job.sent < 1) return job.sent;
  if (job.phase === "fetching") return 1;
  return job.phase === "running" && job.progress?.scales ? job.progress.fraction : null;
}
