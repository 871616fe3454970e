// Whether the service answers. It is asked every second while the page is in sight, so that a service that is gone, or
// hangs, is noticed within two seconds, whatever the page is doing.

const PAUSE_MILLISECONDS = 700;
const ANSWER_MILLISECONDS = 1200; // together less than two seconds

export class Connection {
  constructor() {
    this.lost = false;
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.heard = 0; // milliseconds, when something came from the service, or went to it
    void this.#watch();
  }

  /** @param {() => void} listener Called when the service is lost and when it is back. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Something came or went: a long upload may leave no room for a question. */
  note() {
    this.heard = performance.now();
  }

  /** Ends at once when the service answers, or as soon as it does again. @param {AbortSignal} signal */
  async restored(signal) {
    while (this.lost && !signal.aborted) await pause(PAUSE_MILLISECONDS / 4);
  }

  async #watch() {
    for (;;) {
      await pause(PAUSE_MILLISECONDS);
      if (document.visibilityState === "hidden" && !this.lost) continue;
      const asked = performance.now();
      const there = await this.#answers();
      this.#tell(!there && this.heard < asked);
    }
  }

  async #answers() {
    try {
      const signal = AbortSignal.timeout(ANSWER_MILLISECONDS);
      return (await fetch("/livez", { signal, cache: "no-store" })).status < 500;
    } catch {
      return false;
    }
  }

  /** @param {boolean} lost */
  #tell(lost) {
    if (lost === this.lost) return;
    this.lost = lost;
    for (const listener of this.listeners) listener();
  }
}

/** @param {number} milliseconds @param {AbortSignal} [signal] Ends it early. @returns {Promise<void>} */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
