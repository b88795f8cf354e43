/** In which conversations, apart from the open one, an action waits for the user's decision. */

import { slotName } from "./base.js";
import { idle } from "./idle.js";
import { keepMap, loadMap } from "./kept.js";

/** @typedef {import("./types.js").Info} Info */
/** @typedef {import("./types.js").Event} Event */

const SLOT = slotName("parley.asking");
/** The state in which an action waits for a person. */
export const ASKING = "awaiting_user_confirmation";

/** Whether an action waits for a person then. @param {Event | null} state */
export function asks(state) {
  return state?.extras?.agent_state === ASKING || (state?.extras?.approvals ?? []).length > 0;
}

export class Asking {
  /** Moment of the last look, in ms, and what was found. @type {Map<string, [number, boolean]>} */
  #found = loadMap(SLOT);
  #looking = false;

  /**
   * @param {import("./store.js").Store} store
   * @param {(id: string) => Promise<Event | null>} newestState
   */
  constructor(store, newestState) {
    this.store = store;
    this.newestState = newestState;
    addEventListener("pagehide", () => keepMap(SLOT, this.#found));
  }

  /**
   * The list does not tell: so the server is asked for a conversation's state, once per move.
   *
   * @param {readonly Info[]} conversations
   */
  async judge(conversations) {
    if (this.#looking) return;
    this.#looking = true;
    // What the page shows first comes first.
    await idle();
    for (const { conversation_id: id, last_updated_at: at } of conversations) {
      const atMs = Date.parse(at ?? "");
      const isKnown = Number.isNaN(atMs) || (this.#found.get(id)?.[0] ?? -1) >= atMs;
      if (!isKnown && id !== this.store.state.openId) await this.#look(id, atMs);
    }
    this.#looking = false;
    const asking = conversations.filter(({ conversation_id: id }) => this.#found.get(id)?.[1]).map((info) => info.conversation_id);
    if (String(asking) !== String([...this.store.state.asking])) this.store.set({ asking: new Set(asking) });
  }

  /** @param {string} id @param {number} atMs */
  async #look(id, atMs) {
    try {
      const isAsking = asks(await this.newestState(id));
      this.#found.delete(id);
      this.#found.set(id, [atMs, isAsking]);
    } catch {
      // Unknown for now; the next refresh of the list asks again.
    }
  }
}
