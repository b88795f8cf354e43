/** Messages that are not acknowledged yet; they outlive a reload of the tab. */

/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {{event: ClientEvent, reason?: string}} Letter */

export class Outbox {
  /** @type {Letter[]} */
  #letters;

  /** @param {string} conversationId */
  constructor(conversationId) {
    this.slot = `parley.outbox.${conversationId}`;
    this.#letters = load(this.slot);
  }

  /** Oldest first. @returns {readonly Letter[]} */
  get letters() {
    return this.#letters;
  }

  /** @param {ClientEvent} event */
  add(event) {
    this.#letters = [...this.#letters, { event }];
    this.#keep();
  }

  /** @param {string} clientId */
  remove(clientId) {
    this.#letters = this.#letters.filter((letter) => letter.event.client_id !== clientId);
    this.#keep();
  }

  /**
   * Notes that the server refused a message (with a reason) or that it is to be tried again.
   *
   * @param {string} clientId
   * @param {string} [reason]
   */
  mark(clientId, reason) {
    this.#letters = this.#letters.map((letter) =>
      letter.event.client_id === clientId ? { event: letter.event, reason } : letter,
    );
    this.#keep();
  }

  #keep() {
    try {
      if (this.#letters.length > 0) sessionStorage.setItem(this.slot, JSON.stringify(this.#letters));
      else sessionStorage.removeItem(this.slot);
    } catch {
      // Storage is full or forbidden: the letters live as long as the page does.
    }
  }
}

/**
 * @param {string} slot
 * @returns {Letter[]}
 */
function load(slot) {
  try {
    const letters = JSON.parse(sessionStorage.getItem(slot) ?? "[]");
    return Array.isArray(letters) ? letters.filter((letter) => letter?.event?.client_id) : [];
  } catch {
    return [];
  }
}
