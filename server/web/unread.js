/** Which conversations the agent went on with while they were not open. */

import { slotName } from "./base.js";
import { keepMap, loadMap } from "./kept.js";

/** @typedef {import("./types.js").Info} Info */

const SLOT = slotName("parley.seen");

export class Unread {
  /** Moment up to which a conversation was seen, in ms. @type {Map<string, number>} */
  #seen = loadMap(SLOT);
  /** Moment up to which the server was asked. @type {Map<string, number>} */
  #asked = new Map();

  /**
   * @param {import("./store.js").Store} store
   * @param {(id: string, atMs: number) => Promise<boolean>} movedSince
   */
  constructor(store, movedSince) {
    this.store = store;
    this.movedSince = movedSince;
    addEventListener("pagehide", () => keepMap(SLOT, this.#seen));
  }

  /**
   * Conversations listed for the first time count as seen. Agent states move a conversation too without
   * being readable: so the server is asked, once per move.
   *
   * @param {readonly Info[]} conversations
   */
  async judge(conversations) {
    for (const { conversation_id: id, last_updated_at: at } of conversations) {
      const atMs = Date.parse(at ?? "");
      const seen = this.#seen.get(id);
      if (Number.isNaN(atMs)) continue;
      if (seen === undefined) this.saw(id, atMs);
      else if (atMs > seen && !this.#isOpen(id) && (this.#asked.get(id) ?? seen) < atMs) {
        await this.#ask(id, seen, atMs);
      }
    }
    keepMap(SLOT, this.#seen);
  }

  /** @param {string} id @param {number} atMs */
  saw(id, atMs) {
    if (Number.isNaN(atMs) || atMs <= (this.#seen.get(id) ?? 0)) return;
    this.#seen.delete(id);
    this.#seen.set(id, atMs);
    if (this.store.state.unread.has(id) && this.#isOpen(id)) this.clear(id);
  }

  /** @param {string} id */
  clear(id) {
    if (!this.store.state.unread.has(id)) return;
    const unread = new Set(this.store.state.unread);
    unread.delete(id);
    this.store.set({ unread });
  }

  /** @param {string} id @param {number} seen @param {number} atMs */
  async #ask(id, seen, atMs) {
    this.#asked.set(id, atMs);
    let moved;
    try {
      moved = await this.movedSince(id, seen);
    } catch {
      // Unknown for now; the next refresh of the list asks again.
      this.#asked.delete(id);
      return;
    }
    if (moved && !this.#isOpen(id)) this.store.set({ unread: new Set(this.store.state.unread).add(id) });
  }

  /** @param {string} id */
  #isOpen(id) {
    return id === this.store.state.openId;
  }
}
