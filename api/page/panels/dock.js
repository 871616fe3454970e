// The bar below the photo: its tools, what can be done next, and the job while there is one.

import { Board } from "../canvas/board.js";
import { all, byId, enable, onClick, say, show } from "../dom.js";
import { t } from "../i18n/index.js";
import { Jobs } from "../state/jobs.js";
import { Photo } from "../state/photo.js";
import { Planner } from "../state/planner.js";
import { inWords, remaining } from "../state/remaining.js";
import { messageOf } from "../service/trouble.js";
import { keepNotice, dismiss } from "../dialogs/notices.js";
import { progressText, progressValue } from "./progress.js";

const HAS_KEYS = matchMedia("(hover: hover)"); // as far as a page can know
const TICK_MILLISECONDS = 1000; // the time that is left goes on between two reports

/**
 * @param {Board} board @param {Jobs} jobs @param {Planner} planner @param {() => void} fill
 * @param {(message: string) => void} complain
 */
export function showDock(board, jobs, planner, fill, complain) {
  onClick("undo", () => board.undo());
  onClick("redo", () => board.redo());
  onClick("clear", () => board.clear());
  onClick("invert", () => board.invert());
  onClick("fill", fill);
  onClick("cancel", () => {
    dismiss("complaint");
    if (board.photo) void jobs.cancel(board.photo).catch((error) => complain(messageOf(error)));
  });

  const draw = () => {
    const photo = board.workspace.selected;
    show("dock", photo !== null);
    if (!photo) return;
    const busy = photo.job !== null;
    for (const one of all("button[data-tool]:not([data-tool=move])")) enableOne(one, !busy && !board.view.comparing);
    enable("undo", !busy && photo.position > 0);
    enable("redo", !busy && photo.position < photo.steps.length);
    enable("clear", board.editable && photo.holed);
    enable("invert", board.editable);
    enable("fill", !busy && photo.holed);
    enable("download", photo.result !== null);
    byId("download", HTMLElement).classList.toggle("main", photo.result !== null && !photo.holed);
    byId("fill", HTMLElement).classList.toggle("main", photo.holed || photo.result === null);
    show("ready", !busy);
    show("progress", busy);
    if (busy) drawJob(photo);
    else say("plan", planText(photo, planner));
    const again = () => {
      dismiss("problem");
      fill();
    };
    keepNotice("problem", photo.problem, { wrong: true, actions: photo.holed ? [[t().tryAgain, again]] : [] });
  };

  /** @param {Photo} photo */
  const drawJob = ({ job }) => {
    if (!job) return;
    const { lost } = jobs.connection;
    say("progress-text", progressText(job, lost));
    say("progress-time", timeText(job, lost));
    const value = progressValue(job);
    if (value === null) byId("bar", HTMLProgressElement).removeAttribute("value");
    else byId("bar", HTMLProgressElement).value = value;
    enable("cancel", !job.canceling && job.phase !== "fetching");
  };

  board.workspace.onChange(draw);
  jobs.connection.onChange(draw);
  setInterval(() => board.photo?.job && drawJob(board.photo), TICK_MILLISECONDS);
}

/** @param {import("../state/photo.js").PhotoJob} job @param {boolean} lost */
function timeText(job, lost) {
  if (lost || job.canceling || !["queued", "running"].includes(job.phase)) return "";
  const time = remaining(job, Date.now());
  return time && t().left(time).replace(/^a/, "A");
}

/** @param {Photo} photo @param {Planner} planner @returns {string} */
function planText(photo, planner) {
  if (!photo.holed) {
    if (photo.notice) return photo.notice;
    const last = photo.done.at(-1);
    if (last?.kind !== "fill") return t().paintFirst;
    const told = t().filledIn(t().duration(last.result.seconds));
    return HAS_KEYS.matches ? `${told} ${t().holdX}` : told;
  }
  const parts = photo.notice ? [photo.notice] : [];
  const { plan } = planner;
  if (planner.asking) parts.push(t().estimating);
  else if (planner.problem) parts.push(planner.problem);
  else if (!plan) parts.push(t().readyToFill);
  else if (plan.estimate === null) parts.push(t().readyToFill, t().notTimed);
  else parts.push(t().willTake(inWords(plan.estimate.low_seconds, plan.estimate.high_seconds)));
  if (plan?.queue_length) parts.push(t().behind(plan.queue_length));
  return parts.join(" ");
}

/** @param {HTMLElement} element @param {boolean} enabled */
function enableOne(element, enabled) {
  /** @type {HTMLButtonElement} */ (element).disabled = !enabled;
}
