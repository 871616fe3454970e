// The service's HTTP api, as far as the page uses it. docs/api.md describes it.

/** @typedef {{stage: string, fraction: number, scale: number | null, scales: number | null, iteration: number | null,
 *   iterations: number | null, window: number | null, windows: number | null, preview: number | null}} Progress */
/** @typedef {{media_type: string, width: number, height: number, bytes: number}} ResultInfo */
/** @typedef {{id: string, status: string, queue_position: number | null, created_at: string,
 *   started_at: string | null, progress: Progress | null, cancel_requested: boolean, result: ResultInfo | null,
 *   error: {detail: string, code: string} | null, network: {name: string, device: string} | null,
 *   timings_seconds: Record<string, number>}} Job */
/** @typedef {{windows: unknown[], estimated_seconds: number | null, queue_length: number}} Plan */
/** @typedef {{id: string, status: string, progress: Progress | null}} JobEvent */

export const FINAL = ["succeeded", "failed", "canceled", "expired"];
const KEY = "lama-refinery.key";

/** Something that went wrong, in words for a person. */
export class Trouble extends Error {
  /** @param {string} detail @param {string} code @param {number} status */
  constructor(detail, code, status) {
    super(detail);
    this.code = code;
    this.status = status;
  }
}

export class Service {
  /** @param {(why: string) => Promise<string>} askKey Asks the person for an API key; rejects when there is none. */
  constructor(askKey) {
    this.askKey = askKey;
    this.key = stored(KEY) ?? "";
    this.declined = false; // the person had no key when asked for one
    /** @type {Promise<void> | null} */
    this.asking = null;
  }

  /** @param {FormData} form @param {AbortSignal} [signal] @returns {Promise<Plan>} */
  async plan(form, signal) {
    return (await this.#fetch("/v1/plans", { method: "POST", body: form, ...(signal && { signal }) })).json();
  }

  /** @param {FormData} form @returns {Promise<Job>} */
  async submit(form) {
    // The same key again, should the request have to be repeated: one job, whatever happens.
    const headers = { "Idempotency-Key": `"${randomId()}"` };
    return (await this.#fetch("/v1/jobs", { method: "POST", body: form, headers })).json();
  }

  /** @param {string} id @returns {Promise<Job>} */
  async job(id) {
    return (await this.#fetch(`/v1/jobs/${id}`)).json();
  }

  /** @param {string} id */
  async cancel(id) {
    await this.#fetch(`/v1/jobs/${id}/cancel`, { method: "POST" });
  }

  /** @param {string} id */
  async remove(id) {
    await this.#fetch(`/v1/jobs/${id}`, { method: "DELETE" });
  }

  /** @param {string} id @returns {Promise<Blob>} */
  async preview(id) {
    return (await this.#fetch(`/v1/jobs/${id}/preview`)).blob();
  }

  /** @param {string} id @returns {Promise<Blob>} */
  async result(id) {
    return (await this.#fetch(`/v1/jobs/${id}/result`)).blob();
  }

  /**
   * Tell of a job until it is final. A connection that breaks is made again; only what the service refuses, or the
   * signal, ends it early.
   * @param {string} id @param {(job: Job) => void} onJob @param {(progress: Progress) => void} onProgress
   * @param {AbortSignal} signal @param {(trouble: string) => void} onTrouble
   */
  async follow(id, onJob, onProgress, signal, onTrouble) {
    let last = "";
    let pause = 1000;
    while (!signal.aborted) {
      try {
        const job = await this.job(id);
        onTrouble("");
        onJob(job);
        if (FINAL.includes(job.status)) return;
        // Its place in the queue is told by the job alone.
        const round = new AbortController();
        const stop = () => round.abort();
        signal.addEventListener("abort", stop);
        const timer = job.status === "queued" ? setTimeout(stop, 2000) : undefined;
        try {
          for await (const event of this.#events(id, last, round.signal)) {
            last = event.id;
            pause = 1000;
            if (event.status === "running") clearTimeout(timer);
            if (event.progress) onProgress(event.progress);
          }
        } finally {
          clearTimeout(timer);
          signal.removeEventListener("abort", stop);
        }
      } catch (error) {
        if (error instanceof DOMException && error.name === "AbortError") continue;
        if (error instanceof Trouble && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
        onTrouble(`${error instanceof Error ? error.message : error} Trying again.`);
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(10_000, pause * 2);
      }
    }
  }

  /** @param {string} id @param {string} after @param {AbortSignal} signal @returns {AsyncGenerator<JobEvent>} */
  async *#events(id, after, signal) {
    // EventSource cannot send a key.
    const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
    const answer = await this.#fetch(`/v1/jobs/${id}/events`, { headers, signal });
    if (answer.status === 204 || !answer.body) return;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        /** @type {Record<string, string>} */
        const fields = {};
        for (const line of block.split(/\r?\n/)) {
          const colon = line.indexOf(":");
          if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
        }
        if (fields["data"]) yield { .../** @type {JobEvent} */ (JSON.parse(fields["data"])), id: fields["id"] ?? "" };
      }
    }
  }

  /** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} Raises Trouble. */
  async #fetch(path, init = {}) {
    for (;;) {
      const headers = new Headers(init.headers);
      const sent = this.key;
      if (sent) headers.set("Authorization", `Bearer ${sent}`);
      let answer;
      try {
        answer = await fetch(path, { ...init, headers, cache: "no-store" });
      } catch (error) {
        if (error instanceof DOMException && error.name === "AbortError") throw error;
        throw new Trouble("The service cannot be reached. Is it running, and is the network there?", "unreachable", 0);
      }
      if (answer.ok) return answer;
      const trouble = await troubleOf(answer);
      if (answer.status !== 401 || /no API keys yet/.test(trouble.message)) throw trouble;
      if (this.key === sent) await this.#ask(sent ? trouble.message : "Whoever runs the service can make one.");
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

/** @param {Response} answer @returns {Promise<Trouble>} */
async function troubleOf(answer) {
  try {
    const problem = await answer.json();
    /** @type {{field: string, message: string}[] | undefined} */
    const wrong = problem.errors; // the detail has them too, and all fields that there are, which are for programs
    const detail = wrong ? `${wrong.map(({ field, message }) => `${field}: ${message}`).join("; ")}.` : problem.detail;
    const wait = answer.status === 429 && answer.headers.get("Retry-After");
    return new Trouble(detail + (wait ? ` Wait ${wait} seconds.` : ""), problem.code, answer.status);
  } catch {
    return new Trouble(`The service answered ${answer.status}, without saying why.`, "unknown", answer.status);
  }
}

/** @param {string} name @returns {string | null} */
function stored(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** crypto.randomUUID is there only over https. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
