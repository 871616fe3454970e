// One photo of the workspace: its picture, the steps taken on it, and its job while it has one.

/** @typedef {import("./steps.js").Step} Step */
/** @typedef {import("./steps.js").Result} Result */
/** @typedef {import("../service/client.js").Estimate} Estimate */
/** @typedef {import("../service/client.js").Progress} Progress */

/**
 * @typedef {object} PhotoJob A job on its way.
 * @property {string} key Makes one job of a submission that is sent twice.
 * @property {string | null} id None before the service has answered.
 * @property {Record<string, string>} fields
 * @property {"waiting" | "sending" | "queued" | "running" | "fetching"} phase waiting: for the uploads before it.
 * @property {number} sent Part of the upload, 0 to 1.
 * @property {number} ahead Jobs before it in the queue.
 * @property {Progress | null} progress
 * @property {(Estimate & {at: number}) | null} estimate The service's latest, and when it came (milliseconds since 1970).
 * @property {{at: number, fraction: number} | null} began When refinement was first heard of (milliseconds since 1970),
 *   and how far it was.
 * @property {boolean} canceling A cancel was asked for.
 */

export class Photo {
  /** @param {string} id @param {string} name @param {Blob} original @param {number} width @param {number} height */
  constructor(id, name, original, width, height) {
    this.id = id;
    this.name = name;
    this.original = original;
    this.width = width;
    this.height = height;
    this.addedAt = Date.now();
    this.holed = false; // whether there is a hole to fill
    this.deletedAt = 0; // while the deletion can be undone
    /** @type {Step[]} Undone ones are at the end. */
    this.steps = [];
    this.position = 0; // how many of the steps are done
    /** @type {PhotoJob | null} */
    this.job = null;
    this.problem = ""; // why the last job did not come about
    this.notice = ""; // what else there is to say of the last job
  }

  /** The steps that are in effect. */
  get done() {
    return this.steps.slice(0, this.position);
  }

  /** @returns {Result[]} Of the steps in effect, oldest first. */
  get results() {
    return this.done.flatMap((step) => (step.kind === "fill" ? [step.result] : []));
  }

  /** @returns {Result | null} What would be downloaded. */
  get result() {
    return this.results.at(-1) ?? null;
  }

  /** The picture that is shown and sent. */
  get picture() {
    return this.results.findLast(({ viewable }) => viewable)?.blob ?? this.original;
  }

  /** What to compare the picture with; null when there is nothing. @param {"original" | "last"} which */
  before(which) {
    const seen = this.results.filter(({ viewable }) => viewable);
    if (!seen.length) return null;
    return which === "original" ? this.original : (seen.at(-2)?.blob ?? this.original);
  }

  /** @param {Step} step */
  push(step) {
    this.steps = [...this.done, step];
    this.position = this.steps.length;
    this.problem = this.notice = "";
  }

  /** @param {number} position Of the history. @returns {boolean} Whether that is another one. */
  move(position) {
    const to = Math.min(this.steps.length, Math.max(0, position));
    if (to === this.position || this.job) return false;
    this.position = to;
    return true;
  }

  /** Ids of the jobs that the service has of this photo. */
  get jobIds() {
    const ids = this.steps.flatMap((step) => (step.kind === "fill" ? [step.result.jobId] : []));
    return this.job?.id ? [...ids, this.job.id] : ids;
  }

  /** What the browser keeps. Pictures are kept apart, by their place in the history. */
  get record() {
    const steps = this.steps.map((step) =>
      step.kind === "fill" ? { kind: step.kind, result: { ...step.result, blob: null } } : step,
    );
    const job = this.job && { key: this.job.key, id: this.job.id, fields: this.job.fields };
    const { id, name, addedAt, width, height, position, holed, deletedAt } = this;
    return { id, name, addedAt, width, height, position, holed, deletedAt, steps, job };
  }

  /** @returns {Map<string, Blob>} The pictures of the history by the keys under which they are kept. */
  get pictures() {
    const found = new Map([[`${this.id}/original`, this.original]]);
    for (const step of this.steps) {
      if (step.kind === "fill") found.set(`${this.id}/${step.result.jobId}`, step.result.blob);
    }
    return found;
  }

  /** @param {any} record @param {(key: string) => Blob | undefined} pictureOf @returns {Photo | null} */
  static from(record, pictureOf) {
    const original = pictureOf(`${record.id}/original`);
    if (!original) return null;
    const photo = new Photo(record.id, record.name, original, record.width, record.height);
    for (const step of record.steps) {
      if (step.kind === "fill") step.result.blob = pictureOf(`${record.id}/${step.result.jobId}`);
    }
    const broken = record.steps.findIndex((/** @type {Step} */ step) => step.kind === "fill" && !step.result.blob);
    photo.steps = broken < 0 ? record.steps : record.steps.slice(0, broken);
    photo.position = Math.min(record.position, photo.steps.length);
    photo.addedAt = record.addedAt;
    photo.holed = record.holed;
    photo.deletedAt = record.deletedAt;
    photo.job = record.job && newJob(record.job);
    return photo;
  }
}

/** @param {{key: string, id: string | null, fields: Record<string, string>}} known @returns {PhotoJob} */
export function newJob(known) {
  const phase = known.id ? "queued" : "waiting";
  return { ...known, phase, sent: 0, ahead: 0, progress: null, estimate: null, began: null, canceling: false };
}
