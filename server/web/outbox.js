/** Messages that are not acknowledged yet; they outlive a reload of the tab. */

/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {{event: ClientEvent, reason?: string}} OutboxMessage */

export class Outbox {
  /** @type {OutboxMessage[]} */
  #messages;

  /** @param {string} conversationId */
  constructor(conversationId) {
    this.slot = `parley.outbox.${conversationId}`;
    this.#messages = load(this.slot);
  }

  /** Oldest first. @returns {readonly OutboxMessage[]} */
  get messages() {
    return this.#messages;
  }

  /** @param {ClientEvent} event */
  add(event) {
    this.#messages = [...this.#messages, { event }];
    this.#keep();
  }

  /** @param {string} clientId */
  remove(clientId) {
    this.#messages = this.#messages.filter((message) => message.event.client_id !== clientId);
    this.#keep();
  }

  /**
   * Marks a message as refused by the server (with a reason), or to be tried again.
   *
   * @param {string} clientId
   * @param {string} [reason]
   */
  mark(clientId, reason) {
    this.#messages = this.#messages.map((message) =>
      message.event.client_id === clientId ? { event: message.event, reason } : message,
    );
    this.#keep();
  }

  #keep() {
    try {
      if (this.#messages.length > 0) sessionStorage.setItem(this.slot, JSON.stringify(this.#messages));
      else sessionStorage.removeItem(this.slot);
    } catch {
      // Storage is full or forbidden: the messages are kept as long as the page is open.
    }
  }
}

/**
 * @param {string} slot
 * @returns {OutboxMessage[]}
 */
function load(slot) {
  try {
    const messages = JSON.parse(sessionStorage.getItem(slot) ?? "[]");
    return Array.isArray(messages) ? messages.filter((message) => message?.event?.client_id) : [];
  } catch {
    return [];
  }
}
