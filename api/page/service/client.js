// The service's HTTP api, as far as the page uses it. docs/api.md describes it.

import { t } from "../i18n/index.js";
import { eventsOf } from "./stream.js";
import { isAbort, Trouble, troubleOf } from "./trouble.js";
import { upload } from "./upload.js";

/** @typedef {{stage: string, fraction: number, scale: number | null, scales: number | null, iteration: number | null,
 *   iterations: number | null, window: number | null, windows: number | null, preview: number | null, waiting?: boolean}} Progress */
/** @typedef {{media_type: string, width: number, height: number, bytes: number}} ResultInfo */
/** @typedef {{id: string, status: string, queue_position: number | null, progress: Progress | null,
 *   cancel_requested: boolean, result: ResultInfo | null, warnings: {detail: string}[], error: {detail: string, code: string, status: number} | null,
 *   network: {name: string, device: string} | null, estimate: Estimate | null, timings_seconds: Record<string, number>}} Job */
/** @typedef {{low_seconds: number, high_seconds: number}} Estimate */
/** @typedef {{windows: unknown[], estimate: Estimate | null, queue_length: number}} Plan */
/** @typedef {{id: string, status: string, progress: Progress | null}} JobEvent */
/** @typedef {{name: string, parameter: string[], devices: string[]}} Network */

export const FINAL = ["succeeded", "failed", "canceled", "expired"];
const KEY = "lama-refinery.key";
const ANSWER_MILLISECONDS = 8000; // for small requests, before they count as unanswered

export class Service {
  /** @param {(why: string) => Promise<string>} askKey Asks the person for an API key; rejects when there is none. */
  constructor(askKey) {
    this.askKey = askKey;
    this.key = stored() ?? "";
    this.declined = false; // the person had no key when asked for one
    /** @type {Promise<void> | null} */
    this.asking = null;
  }

  /** @returns {Promise<Network[] | null>} Those that a live worker has; null before the person has given an API key. */
  async networks() {
    try {
      return (await (await this.#fetch("/v1/networks", timely(), fetch, false)).json()).networks;
    } catch (error) {
      if (error instanceof Trouble && error.status === 401) return null;
      throw error;
    }
  }

  /** @param {FormData} form @param {AbortSignal} signal @returns {Promise<Plan>} */
  async plan(form, signal) {
    return (await this.#fetch("/v1/plans", { method: "POST", body: form, signal })).json();
  }

  /**
   * @param {FormData} form @param {string} idempotencyKey The same one again when the request is repeated.
   * @param {(part: number) => void} onSent From 0 to 1. @param {AbortSignal} signal @returns {Promise<Job>}
   */
  async submit(form, idempotencyKey, onSent, signal) {
    const headers = { "Idempotency-Key": `"${idempotencyKey}"` };
    const send = (/** @type {string} */ path, /** @type {RequestInit} */ init) => upload(path, init, onSent);
    return (await this.#fetch("/v1/jobs", { method: "POST", body: form, headers, signal }, send)).json();
  }

  /** @param {string} address @returns {Promise<Blob>} The picture behind it, fetched by the service. */
  async imageAt(address) {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ image_url: address });
    return (await this.#fetch("/v1/images", { method: "POST", headers, body })).blob();
  }

  /** @param {string} id @returns {Promise<Job>} */
  async job(id) {
    return (await this.#fetch(`/v1/jobs/${id}`, timely())).json();
  }

  /** @param {string} id */
  async cancel(id) {
    await this.#fetch(`/v1/jobs/${id}/cancel`, { method: "POST", ...timely() });
  }

  /** @param {string} id */
  async remove(id) {
    await this.#fetch(`/v1/jobs/${id}`, { method: "DELETE", keepalive: true });
  }

  /** @param {string} id @param {AbortSignal} signal @returns {Promise<Blob>} */
  async preview(id, signal) {
    return (await this.#fetch(`/v1/jobs/${id}/preview`, { signal })).blob();
  }

  /** @param {string} id @param {AbortSignal} signal @returns {Promise<Blob>} */
  async result(id, signal) {
    return (await this.#fetch(`/v1/jobs/${id}/result`, { signal })).blob();
  }

  /** Until the job has ended. @param {string} id @param {string} after An event's id. @param {AbortSignal} signal
   * @returns {AsyncGenerator<JobEvent>} */
  async *events(id, after, signal) {
    // EventSource cannot send a key.
    const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
    const answer = await this.#fetch(`/v1/jobs/${id}/events`, { headers, signal });
    if (answer.status === 204 || !answer.body) return;
    for await (const { id: at, data } of eventsOf(answer.body)) {
      yield { .../** @type {JobEvent} */ (JSON.parse(data)), id: at };
    }
  }

  /**
   * @param {string} path @param {RequestInit} [init] @param {(path: string, init: RequestInit) => Promise<Response>} [send]
   * @param {boolean} [asks] Whether the person is asked for an API key when the service wants one.
   * @returns {Promise<Response>} Raises Trouble.
   */
  async #fetch(path, init = {}, send = fetch, asks = true) {
    for (;;) {
      const headers = new Headers(init.headers);
      const sent = this.key;
      if (sent) headers.set("Authorization", `Bearer ${sent}`);
      let answer;
      try {
        answer = await send(path, { ...init, headers, cache: "no-store" });
      } catch (error) {
        if (isAbort(error)) throw error;
        throw new Trouble(t().unreachable, "unreachable", 0);
      }
      if (answer.ok) return answer;
      const trouble = await troubleOf(answer);
      if (answer.status !== 401 || !asks || /no API keys yet/.test(trouble.told)) throw trouble;
      if (this.key === sent) await this.#ask(sent ? trouble.message : t().whoMakesKeys);
    }
  }

  /** One question, however many requests wait for its answer. @param {string} why */
  async #ask(why) {
    this.asking ??= this.askKey(why)
      .then((key) => {
        this.key = key;
        try {
          sessionStorage.setItem(KEY, key);
        } catch {
          // Not kept, then; it is asked for again after a reload.
        }
      })
      .catch((error) => {
        this.declined = true;
        throw error;
      })
      .finally(() => {
        this.asking = null;
      });
    await this.asking;
  }
}

/** @returns {RequestInit} */
function timely() {
  return { signal: AbortSignal.timeout(ANSWER_MILLISECONDS) };
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
