// The list of this browser's jobs, as the service knows them now.

import { byId, show } from "./dom.js";
import * as kept from "./kept.js";
import { Service, Trouble } from "./service.js";

/** @typedef {import("./service.js").Job} Job */
/** @typedef {import("./kept.js").Entry} Entry */

export class JobList {
  /** @param {Service} service @param {(entry: Entry, job: Job) => void} open @param {(trouble: unknown) => void} complain */
  constructor(service, open, complain) {
    this.service = service;
    this.open = open;
    this.complain = complain;
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
  }

  /** Ask the service about all of them; the newest that has not ended, if there is one. */
  async refresh() {
    const asked = kept.entries().map(async ({ id }) => {
      try {
        this.jobs.set(id, await this.service.job(id));
      } catch (error) {
        // Deleted, expired, or another key's: nothing here can bring it back.
        if (error instanceof Trouble && [404, 410].includes(error.status)) await kept.forget(id);
        else throw error;
      }
    });
    const failed = (await Promise.allSettled(asked)).find((one) => one.status === "rejected");
    this.draw();
    if (failed) throw failed.reason;
    return kept.entries().find(({ id }) => ["queued", "running"].includes(this.jobs.get(id)?.status ?? ""));
  }

  /** @param {Job} job */
  note(job) {
    const before = this.jobs.get(job.id);
    this.jobs.set(job.id, job);
    if (before?.status !== job.status) this.draw();
  }

  draw() {
    const entries = kept.entries();
    show("jobs", entries.length > 0);
    byId("job-list", HTMLElement).replaceChildren(...entries.map((entry) => this.#row(entry)));
  }

  /** @param {Entry} entry @returns {HTMLElement} */
  #row(entry) {
    const job = this.jobs.get(entry.id);
    const row = document.createElement("li");
    row.dataset["job"] = entry.id;
    const told = document.createElement("div");
    const name = document.createElement("strong");
    name.textContent = name.title = entry.name;
    const state = document.createElement("span");
    state.className = "faint";
    const at = new Date(entry.at);
    const today = at.toDateString() === new Date().toDateString();
    const time = today ? at.toLocaleTimeString([], { timeStyle: "short" }) : at.toLocaleDateString();
    state.textContent = `${job?.status ?? "not known yet"}, ${time}`;
    told.append(name, state);
    const open = document.createElement("button");
    open.type = "button";
    open.textContent = "Open";
    open.disabled = !job;
    open.setAttribute("aria-label", `Open ${entry.name}, ${job?.status ?? ""}`);
    open.addEventListener("click", () => job && this.open(entry, job));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "Delete";
    remove.title = "Delete the job and its images on the service";
    remove.setAttribute("aria-label", `Delete ${entry.name} and its images`);
    remove.addEventListener("click", async () => {
      try {
        await this.service.remove(entry.id);
      } catch (error) {
        if (!(error instanceof Trouble && [404, 410].includes(error.status))) return this.complain(error);
      }
      await kept.forget(entry.id);
      this.draw();
    });
    row.append(told, open, remove);
    return row;
  }
}
