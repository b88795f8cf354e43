/** What each turn has cost, from the sums that its events carry. */

import { usageOf } from "./usage.js";

/** @typedef {import("./types.js").Event} Event */

/**
 * @typedef {object} Sum What all turns had cost when an event was appended.
 * @property {number} id
 * @property {number} turn
 * @property {number} cost In US dollars.
 * @property {number} tokens
 */

export class TurnCosts {
  /** In the order of the log. @type {Sum[]} */
  #sums = [];

  /** @param {Event} event */
  saw(event) {
    const { id, turn } = event;
    const usage = usageOf(event);
    if (!usage || typeof id !== "number" || turn === undefined) return;
    const before = this.#sums.findLastIndex((sum) => sum.id <= id);
    if (this.#sums[before]?.id === id) return;
    this.#sums.splice(before + 1, 0, { id, turn, cost: usage.cost, tokens: usage.prompt + usage.completion });
  }

  /**
   * @param {number} turn
   * @param {boolean} isWhole whether nothing precedes what was seen
   * @returns {{cost: number, tokens: number} | null} null when it is not known
   */
  of(turn, isWhole) {
    const first = this.#sums.findIndex((sum) => sum.turn === turn);
    const last = this.#sums.findLast((sum) => sum.turn === turn);
    if (!last || (first === 0 && !isWhole)) return null;
    const { cost, tokens } = this.#sums[first - 1] ?? { cost: 0, tokens: 0 };
    return { cost: last.cost - cost, tokens: last.tokens - tokens };
  }
}
