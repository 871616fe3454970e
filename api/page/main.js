// The page as a whole: which state it is in, and what leads from one to the next.
// States: empty → edit → running → done, and back to edit.

import { showCalls } from "./callpanel.js";
import { byId, duration, onClick, save, say, show } from "./dom.js";
import { Editor } from "./editor.js";
import { takeFiles } from "./incoming.js";
import { JobList } from "./joblist.js";
import * as kept from "./kept.js";
import { askKey } from "./keydialog.js";
import { Mask } from "./mask.js";
import { pngOf } from "./png.js";
import { tellProgress } from "./progress.js";
import { Service } from "./service.js";
import { View } from "./view.js";

/** @typedef {import("./service.js").Job} Job */
/** @typedef {import("./kept.js").Entry} Entry */
/** @typedef {"empty" | "edit" | "running" | "done"} State */

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/tiff": "tiff" };
const PLAN_MILLISECONDS = 900; // without a change of the hole, before a plan is asked for

const service = new Service(askKey);
const view = new View(
  byId("board", HTMLElement),
  byId("base", HTMLCanvasElement),
  byId("over", HTMLCanvasElement),
);
const editor = new Editor(byId("board", HTMLElement), view);
const list = new JobList(service, (entry, job) => void guarded(() => reopen(entry, job)), complain);
const wishes = byId("wishes", HTMLFormElement);

/** @type {State} */
let state = "empty";
/** @type {{blob: Blob, name: string} | null} */
let photo = null;
/** @type {{blob: Blob, name: string} | null} */
let result = null;
/** @type {AbortController} Of whatever goes on for the present photo. */
let current = new AbortController();
let estimate = 0; // seconds, of the last plan
let planTimer = 0;
let planning = new AbortController();

// ---- states

/** @param {State} next */
function enter(next) {
  state = next;
  document.body.dataset["state"] = next;
  editor.painting = next === "edit";
  show("drop", next === "empty");
  for (const id of ["board", "under", "photo-panel"]) show(id, next !== "empty");
  for (const id of ["tools", "wishes"]) show(id, next === "edit");
  show("progress", next === "running");
  show("done", next === "done");
  show("split-row", next === "done" && view.comparing);
  for (const id of ["load-mask"]) byId(id, HTMLButtonElement).disabled = next !== "edit";
  byId("other-photo", HTMLButtonElement).disabled = next === "running";
  show("calls", next === "done");
}

/** From a job that did not come about to the hole. */
function back() {
  if (state === "running") enter("edit");
}

/** @param {unknown} error */
function complain(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  say("trouble", error instanceof Error ? error.message : String(error));
  show("trouble", true);
  byId("trouble", HTMLElement).scrollIntoView({ block: "nearest" });
}

/** Do something of which a failure is told. @param {() => Promise<void>} act */
async function guarded(act) {
  show("trouble", false);
  try {
    await act();
  } catch (error) {
    complain(error);
  }
}

// ---- photo and mask

/** @param {Blob} blob @param {string} name @param {Blob | null} [maskFile] */
async function openPhoto(blob, name, maskFile = null) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(
      `${name} cannot be shown: it is damaged, or no picture that this browser knows (PNG, JPEG, WebP). ` +
        "TIFF can be sent from a program.",
    );
  }
  current.abort();
  const mask = new Mask(bitmap.width, bitmap.height);
  if (maskFile) mask.take(await createImageBitmap(maskFile));
  photo = { blob, name };
  result = null;
  await view.open(bitmap, mask);
  editor.open(mask);
  const megapixels = (bitmap.width * bitmap.height) / 1e6;
  say("photo-told", `${name}, ${bitmap.width} × ${bitmap.height}, ${megapixels.toPrecision(2)} MP`);
  enter("edit");
  changed();
}

/** @param {File} file */
async function openMask(file) {
  if (!view.mask || state !== "edit") throw new Error("Open a photo first, then its mask.");
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => {
    throw new Error(`${file.name} is no picture that this browser can read.`);
  });
  if (bitmap.width !== view.width || bitmap.height !== view.height) {
    throw new Error(
      `The mask has ${bitmap.width} × ${bitmap.height} pixels, the photo ${view.width} × ${view.height}: ` +
        "they must have the same size.",
    );
  }
  view.mask.take(bitmap);
  bitmap.close();
  view.redraw();
  changed();
}

/** The hole is another one. */
function changed() {
  const mask = view.mask;
  const ready = mask !== null && !mask.empty;
  byId("send", HTMLButtonElement).disabled = !ready;
  byId("undo", HTMLButtonElement).disabled = !mask?.done.length;
  byId("redo", HTMLButtonElement).disabled = !mask?.undone.length;
  planning.abort();
  clearTimeout(planTimer);
  say("plan", ready ? "" : "Paint over what should go.");
  if (ready && !service.declined) planTimer = setTimeout(() => void plan(), PLAN_MILLISECONDS);
}

/** @returns {Record<string, string>} What was chosen, without what the service does anyway. */
function fields() {
  /** @type {Record<string, string>} */
  const chosen = {};
  for (const element of wishes.elements) {
    if (element instanceof HTMLSelectElement) {
      if (!element.selectedOptions[0]?.defaultSelected) chosen[element.name] = element.value;
    } else if (element instanceof HTMLInputElement && element.value !== element.defaultValue) {
      chosen[element.name] = element.value;
    }
  }
  for (const line of byId("more", HTMLTextAreaElement).value.split("\n")) {
    const [name, ...value] = line.split("=");
    if (name?.trim()) chosen[name.trim()] = value.join("=").trim();
  }
  return chosen;
}

/** @param {Blob} image @param {Blob} mask @param {string} name @param {Record<string, string>} more */
function formOf(image, mask, name, more) {
  const form = new FormData();
  form.set("image", image, name);
  form.set("mask", mask, "mask.png");
  for (const [field, value] of Object.entries(more)) form.set(field, value);
  return form;
}

async function plan() {
  if (!view.mask || state !== "edit" || !wishes.checkValidity()) return;
  planning = new AbortController();
  const { signal } = planning;
  say("plan", "Estimating…");
  try {
    const mask = await pngOf(view.mask);
    // What it takes depends on the hole alone: the mask, which is small, stands for the photo.
    const told = await service.plan(formOf(mask, mask, "mask.png", fields()), signal);
    if (signal.aborted) return;
    estimate = told.estimated_seconds ?? 0;
    const windows = told.windows.length === 1 ? "one window" : `${told.windows.length} windows`;
    const time = told.estimated_seconds === null ? "Not timed yet" : `Will take ${duration(told.estimated_seconds)}`;
    say("plan", `${time}: ${windows}${told.queue_length ? `, after ${told.queue_length} waiting jobs` : ""}.`);
  } catch (error) {
    if (!signal.aborted) say("plan", error instanceof Error ? error.message : "");
  }
}

// ---- a job

async function send() {
  if (!photo || !view.mask || state !== "edit" || !wishes.reportValidity()) return;
  planning.abort();
  clearTimeout(planTimer);
  const [sent, chosen] = [photo, fields()];
  service.declined = false;
  say("progress-told", "Sending the photo…");
  say("progress-left", "");
  byId("bar", HTMLProgressElement).removeAttribute("value");
  byId("cancel", HTMLButtonElement).disabled = true;
  enter("running");
  byId("cancel", HTMLButtonElement).focus();
  try {
    const mask = await pngOf(view.mask);
    const job = await service.submit(formOf(sent.blob, mask, sent.name, { ...chosen, preview: "true" }));
    const entry = { id: job.id, name: sent.name, at: Date.now(), fields: chosen };
    await kept.remember(entry, sent.blob, mask);
    list.note(job);
    list.draw();
    await watch(entry);
  } catch (error) {
    back();
    throw error;
  }
}

/** Follow a job to its end, and show that. @param {Entry} entry */
async function watch(entry) {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const seen = { preview: 0, busy: false };
  let began = 0;
  /** @type {Job | null} */
  let job = null;
  enter("running");
  byId("cancel", HTMLButtonElement).disabled = false;
  byId("cancel", HTMLButtonElement).onclick = () =>
    void guarded(async () => {
      byId("cancel", HTMLButtonElement).disabled = true;
      await service.cancel(entry.id);
      say("progress-told", "Stopping…");
    });
  await service.follow(
    entry.id,
    (told) => {
      job = told;
      list.note(told);
      if (told.status === "queued") {
        const place = told.queue_position ?? 1;
        say("progress-told", place > 1 ? `Waiting: number ${place} in the queue.` : "Waiting: next in the queue.");
      }
    },
    (progress) => {
      if (progress.stage === "refine") began ||= performance.now();
      tellProgress(progress, (performance.now() - began) / 1000, estimate);
      if ((progress.preview ?? 0) > seen.preview && !seen.busy) void preview(entry.id, progress.preview ?? 0, seen, signal);
    },
    signal,
    (trouble) => say("progress-left", trouble),
  );
  if (!signal.aborted && job) await finish(entry, job);
}

/** @param {string} id @param {number} number @param {{preview: number, busy: boolean}} seen @param {AbortSignal} signal */
async function preview(id, number, seen, signal) {
  seen.busy = true;
  try {
    const bitmap = await createImageBitmap(await service.preview(id));
    if (signal.aborted || state !== "running") return bitmap.close();
    await view.lay(bitmap, false);
    seen.preview = number;
    byId("board", HTMLElement).dataset["preview"] = String(number);
  } catch {
    // It has been replaced by the result, or the connection broke; the next one comes.
  } finally {
    seen.busy = false;
  }
}

/** @param {Entry} entry @param {Job} job Final. */
async function finish(entry, job) {
  delete byId("board", HTMLElement).dataset["preview"];
  list.note(job);
  if (job.status !== "succeeded" || !job.result) {
    await view.lay(null, false);
    enter("edit");
    changed();
    byId("board", HTMLElement).focus({ preventScroll: true });
    if (job.status === "failed") throw new Error(job.error?.detail ?? "The job failed.");
    say("plan", "Canceled. The hole is as you painted it.");
    return;
  }
  say("progress-told", "Fetching the result…");
  const blob = await service.result(entry.id);
  const media = /** @type {keyof typeof ENDINGS} */ (job.result.media_type);
  result = { blob, name: `${entry.name.replace(/\.[^.]*$/, "")}-refined.${ENDINGS[media] ?? "png"}` };
  const { origin } = location;
  showCalls({ origin, photo: entry.name, fields: entry.fields, keyed: service.key !== "", out: result.name });
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" }).catch(() => null);
  if (bitmap && !photo) await view.open(bitmap, new Mask(bitmap.width, bitmap.height));
  else await view.lay(bitmap, bitmap !== null);
  byId("board", HTMLElement).setAttribute("aria-label", "Before and after");
  moveSplit(0.5);
  const seconds = job.timings_seconds["total"] ?? 0;
  const size = `${job.result.width} × ${job.result.height}, ${(job.result.bytes / 1e6).toPrecision(2)} MB`;
  const unseen = bitmap ? "" : " This browser cannot show it; download it.";
  const alone = photo ? "" : " The photo is no longer in this browser, so there is nothing to compare with.";
  say("done-told", `${size}, by ${job.network?.name ?? "the network"} in ${duration(seconds)}.${unseen}${alone}`);
  byId("go-on", HTMLButtonElement).disabled = !bitmap;
  byId("again", HTMLButtonElement).disabled = !photo;
  enter("done");
  byId("done-title", HTMLElement).focus({ preventScroll: true });
}

/** Come back to a job of the list. @param {Entry} entry @param {Job} job */
async function reopen(entry, job) {
  const files = await kept.filesOf(entry.id);
  if (files) {
    await openPhoto(files.photo, entry.name, files.mask);
  } else if (job.status === "succeeded") {
    photo = null;
  } else {
    throw new Error("The photo of this job is no longer in this browser. Open it again to go on.");
  }
  await watch(entry);
}

// ---- comparing, and what comes after

/** @param {number} split Of the width. */
function moveSplit(split) {
  view.split = split;
  const slider = byId("split", HTMLInputElement);
  slider.value = String(Math.round(split * 1000));
  slider.setAttribute("aria-valuetext", `${Math.round(split * 100)} percent before`);
  view.redraw();
}

// ---- wiring

takeFiles({
  hasPhoto: () => state === "edit",
  photo: (file) => {
    if (state === "running") complain(new Error("A job is running: cancel it, or wait for it, before another photo."));
    else opened = guarded(() => openPhoto(file, file.name || "photo.png"));
  },
  mask: (file) => void opened.then(() => guarded(() => openMask(file))),
});
/** @type {Promise<void>} The last photo's opening, which a mask that came with it waits for. */
let opened = Promise.resolve();

editor.onChange = changed;
editor.onSplit = moveSplit;
onClick("undo", () => editor.undo());
onClick("redo", () => editor.redo());
onClick("clear", () => editor.clear());
onClick("invert", () => editor.invert());
onClick("fit", () => view.fit());
onClick("zoom-in", () => view.zoom(1.5));
onClick("zoom-out", () => view.zoom(1 / 1.5));
onClick("download", () => result && save(result.blob, result.name));
onClick("save-mask", () => view.mask && void pngOf(view.mask).then((blob) => save(blob, "mask.png")));
onClick("go-on", () => result && void guarded(() => openPhoto(/** @type {Blob} */ (result?.blob), result?.name ?? "")));
onClick("again", () =>
  void guarded(async () => {
    await view.lay(null, false);
    byId("board", HTMLElement).setAttribute("aria-label", "Photo with the hole painted over it");
    enter("edit");
    changed();
  }),
);
byId("split", HTMLInputElement).addEventListener("input", (event) => {
  moveSplit(Number(/** @type {HTMLInputElement} */ (event.target).value) / 1000);
});
wishes.addEventListener("input", changed);
wishes.addEventListener("submit", (event) => {
  event.preventDefault();
  void guarded(send);
});
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target instanceof HTMLInputElement) return;
  if (key === "z") event.shiftKey ? editor.redo() : editor.undo();
  else if (key === "y") editor.redo();
  else return;
  event.preventDefault();
});
if (kept.entries().length) {
  list.draw();
  void guarded(async () => {
    const running = await list.refresh();
    const job = running && list.jobs.get(running.id);
    if (running && job && state === "empty") await reopen(running, job);
  });
}
