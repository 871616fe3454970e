// What goes wrong between the page and the service, in words for a person.

import { t } from "../i18n/index.js";

/** @typedef {{field: string, message: string, code?: string, minimum?: number, maximum?: number}} FieldError */

const PASSING = ["service-unavailable", "too-many-requests", "idempotency-key-in-use"];

export class Trouble extends Error {
  /** @param {string} detail @param {string} code @param {number} status 0 when there was no answer. @param {number} [wait] Seconds. */
  constructor(detail, code, status, wait = 0) {
    super(detail);
    this.code = code;
    this.status = status;
    this.wait = wait;
    this.told = detail; // by the service, in its own words
  }

  /** Whether the same request may succeed later without a change. */
  get passing() {
    return this.status === 0 || [502, 504].includes(this.status) || PASSING.includes(this.code);
  }
}

/** @param {Response} answer @returns {Promise<Trouble>} */
export async function troubleOf(answer) {
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  try {
    return inWords(await answer.json(), answer.status, wait);
  } catch {
    return new Trouble(t().answeredWithoutReason(answer.status), "unknown", answer.status, wait);
  }
}

/** @param {any} problem A problem document. @param {number} status @param {number} [wait] Seconds. */
export function inWords(problem, status, wait = 0) {
  /** @type {FieldError[] | undefined} */
  const wrong = problem.errors; // `detail` has them too, with all fields that there are, which are for programs
  const fields = wrong && t().wrongFields(wrong);
  const words = fields ?? t().problems[problem.code] ?? problem.detail;
  const waiting = status === 429 && wait ? ` ${t().waitSeconds(wait)}` : "";
  const trouble = new Trouble(words + waiting, problem.code, status, wait);
  trouble.told = problem.detail;
  return trouble;
}

/** @param {unknown} error */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/** @param {unknown} error @returns {string} */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
