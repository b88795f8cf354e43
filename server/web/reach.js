/** Whether the server responds: reported by every call, and polled while it does not. */

const FIRST_MS = 1_000;
const MOST_MS = 15_000;

export class Reach {
  #timer = 0;
  #waitMs = FIRST_MS;

  /**
   * @param {import("./store.js").Store} store
   * @param {{ask: () => Promise<unknown>, back: () => void}} on `back` after each outage.
   */
  constructor(store, on) {
    this.store = store;
    this.on = on;
    addEventListener("online", () => this.store.state.reached || this.retry());
    addEventListener("offline", () => this.heard(false));
  }

  /** @param {boolean} reached */
  heard(reached) {
    if (reached === this.store.state.reached) {
      if (!reached && this.#timer === 0) this.#plan();
      return;
    }
    this.store.set({ reached });
    if (!reached) return this.#plan();
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#waitMs = FIRST_MS;
    this.on.back();
  }

  /** Asks the server at once. */
  retry() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    // The result is reported to `heard`, as that of every call.
    void this.on.ask().catch(() => {});
  }

  #plan() {
    this.#timer = setTimeout(() => this.retry(), this.#waitMs);
    this.#waitMs = Math.min(this.#waitMs * 2, MOST_MS);
  }
}
