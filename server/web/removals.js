/** Deletions held back, so that they can be undone: the server's own is final. */

/** @typedef {import("./types.js").Removal} Removal */

export const HOLD_MS = 8_000;

/** @typedef {{left: number, since: number, timer: number}} Countdown */

export class Removals {
  /** @type {Map<string, Countdown>} */
  #countdowns = new Map();

  /**
   * @param {import("./store.js").Store} store
   * @param {(id: string, how: {keepalive?: boolean}) => Promise<boolean>} remove Whether it is gone.
   */
  constructor(store, remove) {
    this.store = store;
    this.remove = remove;
    // Nothing of the page runs after this; the request itself outlives it.
    addEventListener("pagehide", () => {
      for (const id of [...this.#countdowns.keys()]) void this.finish(id, { keepalive: true });
    });
  }

  /** Takes a conversation out of sight. @param {Removal} removal */
  hold(removal) {
    if (this.store.state.removals.some((one) => one.id === removal.id)) return;
    this.#countdowns.set(removal.id, { left: HOLD_MS, since: 0, timer: 0 });
    this.#set([...this.store.state.removals, removal]);
    this.run(removal.id);
  }

  /** @param {string} id @returns {boolean} whether it was in time */
  undo(id) {
    if (!this.pause(id)) return false;
    this.#countdowns.delete(id);
    this.#forget(id);
    return true;
  }

  /** Stops the countdown: somebody is at the button. @param {string} id */
  pause(id) {
    const countdown = this.#countdowns.get(id);
    if (!countdown) return false;
    if (countdown.timer) countdown.left -= performance.now() - countdown.since;
    clearTimeout(countdown.timer);
    countdown.timer = 0;
    return true;
  }

  /** Starts the countdown or lets it go on. @param {string} id */
  run(id) {
    const countdown = this.#countdowns.get(id);
    if (!countdown || countdown.timer) return;
    countdown.since = performance.now();
    countdown.timer = setTimeout(() => void this.finish(id), Math.max(0, countdown.left));
  }

  /** Deletes now. @param {string} id @param {{keepalive?: boolean}} [how] */
  async finish(id, how = {}) {
    if (!this.pause(id)) return;
    this.#countdowns.delete(id);
    this.#set(this.store.state.removals.map((one) => (one.id === id ? { ...one, sent: true } : one)));
    await this.remove(id, how);
    // Deleted, or refused and visible again.
    this.#forget(id);
  }

  /** @param {string} id */
  #forget(id) {
    this.#set(this.store.state.removals.filter((one) => one.id !== id));
  }

  /** @param {Removal[]} removals */
  #set(removals) {
    this.store.set({ removals });
  }
}
