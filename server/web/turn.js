/** Which turn of the agent is under way, as far as the page knows: a stop names it, and so meets no other. */

/** @typedef {import("./types.js").Delta} Delta */
/** @typedef {import("./types.js").Event} Event */

export class TurnWatch {
  /** The turn under way, null when none is known. @type {number | null} */
  current = null;
  /** The last turn that is over. */
  #overId = -1;

  /**
   * Sockets are not sent the end of a turn, but the state in which the agent rests after it.
   *
   * @param {Event} event
   * @param {boolean} rests whether it is a state in which no turn is under way
   */
  saw(event, rests) {
    const id = Number(event.id);
    // A turn that no message began has a recall that sockets are not sent: its other events name it.
    // What a turn leaves behind may come after its end, but nothing is taken up in one that is over.
    if (event.action === "recall") this.current = event.turn ?? id;
    else if (event.turn !== undefined) this.#began(event.turn);
    if (!rests || this.current === null || this.current > id) return;
    this.#overId = this.current;
    this.current = null;
  }

  /** @param {Delta} delta */
  told(delta) {
    if (delta.type === "text" && delta.turn !== undefined) this.#began(delta.turn);
    if (delta.type === "open") for (const { turn } of delta.partials) this.#began(turn);
  }

  /** @param {number} turn */
  #began(turn) {
    if (turn > this.#overId && turn > (this.current ?? -1)) this.current = turn;
  }
}
