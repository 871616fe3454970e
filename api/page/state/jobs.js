// The jobs of all photos: sent one after the other, followed until they have ended, taken up again after a reload or
// when the service was away.

import { t } from "../i18n/index.js";
import { pngOf } from "../mask/png.js";
import { FINAL, Service } from "../service/client.js";
import { Connection, pause } from "../service/connection.js";
import { inWords, isAbort, messageOf, Trouble } from "../service/trouble.js";
import { newJob, Photo } from "./photo.js";
import { holeOf } from "./steps.js";
import { Workspace } from "./workspace.js";

/** @typedef {import("./photo.js").PhotoJob} PhotoJob */
/** @typedef {import("../service/client.js").Job} Job */
/** @typedef {import("../service/client.js").Progress} Progress */

const POLL_MILLISECONDS = 2000;
const RETRY_MILLISECONDS = 1000;

export class Jobs {
  /** @param {Workspace} workspace @param {Service} service @param {Connection} connection */
  constructor(workspace, service, connection) {
    this.workspace = workspace;
    this.service = service;
    this.connection = connection;
    /** @type {Map<Photo, AbortController>} Ends what goes on for a photo. */
    this.active = new Map();
    /** @type {Map<Photo, AbortController>} Ends the present wait or stream of a photo, not its job. */
    this.rounds = new Map();
    /** @type {Promise<unknown>} The uploads so far: one at a time. */
    this.uploads = Promise.resolve();
    /** @type {(photo: Photo, id: string) => void} Called when a photo has a newer preview. */
    this.onPreview = () => {};
    /** @type {(photo: Photo, blob: Blob) => Promise<boolean>} Whether the browser can show a photo's result. */
    this.canShow = async () => true;
    /** @type {Photo | null} */
    let shown = null;
    workspace.onChange(() => {
      if (shown === workspace.selected) return;
      shown = workspace.selected;
      this.#wake(); // the shown photo's job is streamed, others are polled
    });
    connection.onChange(() => this.#wake());
  }

  /** @param {Photo} photo @param {Record<string, string>} fields */
  async start(photo, fields) {
    if (photo.job || !photo.holed) return;
    photo.problem = photo.notice = "";
    photo.job = newJob({ key: randomId(), id: null, fields });
    void this.workspace.save(photo);
    await this.#work(photo, photo.job);
  }

  /** Go on with all jobs that had not ended when the page was closed. */
  resume() {
    for (const photo of this.workspace.photos) if (photo.job) void this.#work(photo, photo.job);
  }

  /** Raises Trouble when the service does not take it; then it can be tried again. @param {Photo} photo */
  async cancel(photo) {
    const job = photo.job;
    if (!job || job.canceling) return;
    job.canceling = true;
    this.workspace.changed();
    try {
      if (job.id) await this.service.cancel(job.id);
      else if (job.sent < 1) this.active.get(photo)?.abort(); // the answer to a whole upload is waited for
    } catch (error) {
      if (error instanceof Trouble && error.code === "job-finished") return; // its end is about to be told
      job.canceling = false;
      this.workspace.changed();
      throw new Trouble(t().cancelFailed(messageOf(error)), "cancel", 0);
    }
  }

  /** Delete a photo's jobs on the service, images and all. @param {Photo} photo */
  async delete(photo) {
    this.active.get(photo)?.abort();
    for (const id of photo.jobIds) {
      try {
        await this.service.remove(id);
      } catch (error) {
        if (!(error instanceof Trouble && [401, 404, 410].includes(error.status))) throw error;
      }
    }
  }

  #wake() {
    for (const round of this.rounds.values()) round.abort();
  }

  /** A job from its submission to its end. @param {Photo} photo @param {PhotoJob} job */
  async #work(photo, job) {
    const controller = new AbortController();
    const { signal } = controller;
    this.active.set(photo, controller);
    try {
      const id = job.id ?? (await this.#submit(photo, job, signal));
      const last = await this.#follow(photo, job, id, signal);
      if (last) await this.#finish(photo, job, last, signal);
    } catch (error) {
      if (!isAbort(error)) photo.problem = messageOf(error);
      if (error instanceof Trouble && error.status === 404) photo.problem = t().jobGone;
    }
    if (this.active.get(photo) !== controller) return;
    if (job.canceling && !photo.problem) photo.notice = t().canceled;
    this.active.delete(photo);
    photo.job = null;
    await this.workspace.save(photo);
  }

  /** @param {Photo} photo @param {PhotoJob} job @param {AbortSignal} signal @returns {Promise<string>} The job's id. */
  async #submit(photo, job, signal) {
    const turn = this.uploads.then(async () => {
      signal.throwIfAborted();
      const mask = await pngOf(holeOf(photo));
      const form = formOf(photo.picture, mask, photo.name, { ...job.fields, preview: "true" });
      const onSent = (/** @type {number} */ part) => {
        this.connection.note();
        job.sent = part;
        this.workspace.changed();
      };
      return this.#retrying(signal, () => {
        job.phase = "sending";
        onSent(0);
        return this.service.submit(form, job.key, onSent, signal).catch((error) => {
          job.sent = 0;
          throw error;
        });
      });
    });
    this.uploads = turn.catch(() => {});
    const made = await turn;
    job.id = made.id;
    this.#note(job, made);
    await this.workspace.save(photo);
    if (job.canceling) await this.service.cancel(made.id);
    return made.id;
  }

  /**
   * Keep up with a job. A connection that breaks is made again; only what the service refuses ends it early.
   * @param {Photo} photo @param {PhotoJob} job @param {string} id @param {AbortSignal} signal @returns {Promise<Job | null>}
   */
  async #follow(photo, job, id, signal) {
    let after = "";
    for (;;) {
      signal.throwIfAborted();
      const now = await this.#retrying(signal, () => this.service.job(id));
      this.#note(job, now);
      this.workspace.changed();
      if (FINAL.includes(now.status)) return now;
      const round = new AbortController();
      this.rounds.set(photo, round);
      const ending = AbortSignal.any([signal, round.signal]);
      try {
        if (now.status === "running" && this.workspace.selected === photo) {
          for await (const event of this.service.events(id, after, ending)) {
            after = event.id;
            this.connection.note();
            if (event.status === "running" && event.progress) this.#progress(photo, job, id, event.progress);
          }
        } else await pause(POLL_MILLISECONDS, ending);
      } catch (error) {
        if (!isAbort(error)) await pause(RETRY_MILLISECONDS, ending); // asking for the job tells what is wrong
      }
    }
  }

  /** @param {PhotoJob} job @param {Job} now */
  #note(job, now) {
    job.phase = now.status === "queued" ? "queued" : FINAL.includes(now.status) ? "fetching" : "running";
    job.ahead = Math.max(0, (now.queue_position ?? 1) - 1);
    if (now.cancel_requested) job.canceling = true;
    if (now.progress) job.progress = now.progress;
    job.estimate = now.estimate && { ...now.estimate, at: Date.now() };
  }

  /** @param {Photo} photo @param {PhotoJob} job @param {string} id @param {Progress} progress */
  #progress(photo, job, id, progress) {
    const newer = (progress.preview ?? 0) > (job.progress?.preview ?? 0);
    job.phase = "running";
    job.progress = progress;
    if (progress.stage === "refine" && progress.scales) {
      job.began ??= { at: Date.now(), fraction: progress.fraction };
    }
    if (newer) this.onPreview(photo, id);
    this.workspace.changed();
  }

  /** @param {Photo} photo @param {PhotoJob} job @param {Job} last Final. @param {AbortSignal} signal */
  async #finish(photo, job, last, signal) {
    if (last.status === "failed") throw inWords(last.error ?? { detail: t().failed }, last.error?.status ?? 500);
    if (last.status === "expired") throw new Error(t().jobGone);
    if (last.status !== "succeeded" || !last.result) return;
    job.phase = "fetching";
    job.canceling = false; // it came too late
    this.workspace.changed();
    const blob = await this.#retrying(signal, () => this.service.result(last.id, signal));
    const { media_type: mediaType, width, height } = last.result;
    const viewable = await this.canShow(photo, blob);
    const seconds = last.timings_seconds["total"] ?? 0;
    const network = last.network?.name ?? "";
    const result = { blob, mediaType, width, height, viewable, jobId: last.id, network, seconds, fields: job.fields };
    photo.push({ kind: "fill", result: { ...result, warnings: last.warnings.map(({ detail }) => detail) } });
    if (viewable) photo.holed = false;
    else photo.notice = t().cannotShow;
  }

  /**
   * @template T
   * @param {AbortSignal} signal @param {() => Promise<T>} act Repeated while the service is away. @returns {Promise<T>}
   */
  async #retrying(signal, act) {
    for (;;) {
      await this.connection.restored(signal);
      signal.throwIfAborted();
      try {
        return await act();
      } catch (error) {
        if (!(error instanceof Trouble) || !error.passing) throw error;
        await pause(Math.max(RETRY_MILLISECONDS, error.wait * 1000), signal);
      }
    }
  }
}

/** @param {Blob} image @param {Blob} mask @param {string} name @param {Record<string, string>} fields */
export function formOf(image, mask, name, fields) {
  const form = new FormData();
  form.set("image", image, name);
  form.set("mask", mask, "mask.png");
  for (const [field, value] of Object.entries(fields)) form.set(field, value);
  return form;
}

/** crypto.randomUUID is there only over https. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
