/** Which kinds of action the agent may carry out in a conversation without asking, as its log says. */

/** @typedef {import("./types.js").Event} Event */

export class Allowed {
  /** The newest state, which names them all. */
  #stateId = -1;
  /** @type {string[]} */
  #named = [];
  /** By kind, the command behind that state which allows it or does not. @type {Map<string, {id: number, allows: boolean}>} */
  #changes = new Map();

  /** Sorted. @returns {string[]} */
  get kinds() {
    const kinds = new Set(this.#named);
    for (const [kind, { allows }] of this.#changes) allows ? kinds.add(kind) : kinds.delete(kind);
    return [...kinds].sort();
  }

  /**
   * Takes an event, in any order.
   *
   * @param {Event} event
   * @returns {boolean} whether it may have changed something
   */
  saw({ id, observation, action, args, extras }) {
    const at = Number(id);
    if (observation === "agent_state_changed" && at > this.#stateId) {
      this.#stateId = at;
      this.#named = extras?.allowed ?? [];
      for (const [kind, change] of this.#changes) if (change.id < at) this.#changes.delete(kind);
      return true;
    }
    const kind = action === "change_agent_state" ? args?.always : undefined;
    if (typeof kind !== "string" || at < this.#stateId || at < (this.#changes.get(kind)?.id ?? -1)) return false;
    this.#changes.set(kind, { id: at, allows: args?.agent_state === "user_confirmed" });
    return true;
  }
}
