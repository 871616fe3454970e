// What filling the present hole would take, asked of the service a moment after the hole has changed.

import { pngOf } from "../mask/png.js";
import { Service } from "../service/client.js";
import { messageOf } from "../service/trouble.js";
import { formOf } from "./jobs.js";
import { holeOf } from "./steps.js";
import { Workspace } from "./workspace.js";

/** @typedef {import("../service/client.js").Plan} Plan */

const QUIET_MILLISECONDS = 900; // without another change

export class Planner {
  /** @param {Workspace} workspace @param {Service} service @param {() => Record<string, string> | null} fields null: not valid. */
  constructor(workspace, service, fields) {
    this.workspace = workspace;
    this.service = service;
    this.fields = fields;
    /** @type {Plan | null} Of the present hole. */
    this.plan = null;
    this.problem = "";
    this.asking = false;
    /** @type {unknown[]} What the plan is for. */
    this.subject = [];
    this.timer = 0;
    this.round = new AbortController();
    workspace.onChange(() => this.#follow());
  }

  #follow() {
    const photo = this.workspace.selected;
    const fields = this.fields();
    const subject = photo?.holed && !photo.job && fields ? [photo, ...photo.done, JSON.stringify(fields)] : [];
    if (subject.length === this.subject.length && subject.every((part, i) => part === this.subject[i])) return;
    this.subject = subject;
    this.round.abort();
    clearTimeout(this.timer);
    this.plan = null;
    this.problem = "";
    this.asking = subject.length > 0 && !this.service.declined;
    if (this.asking) this.timer = setTimeout(() => void this.#ask(), QUIET_MILLISECONDS);
  }

  async #ask() {
    const photo = this.workspace.selected;
    const fields = this.fields();
    if (!photo || !fields) return;
    this.round = new AbortController();
    const { signal } = this.round;
    const file = await pngOf(holeOf(photo));
    try {
      // What it takes depends on the hole alone: the mask, which is small, stands for the photo.
      const plan = await this.service.plan(formOf(file, file, "mask.png", fields), signal);
      if (!signal.aborted) this.plan = plan;
    } catch (error) {
      if (!signal.aborted) this.problem = messageOf(error);
    }
    if (signal.aborted) return;
    this.asking = false;
    this.workspace.changed();
  }
}
