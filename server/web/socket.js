/** One conversation's connection: joins, resumes by cursor, comes back by itself. */

import { io } from "./vendor/socket.io.esm.min.js";
import { located } from "./base.js";
import { texts } from "./language.js";
import { readSessionKey } from "./session-key.js";

/** @typedef {import("./types.js").Ack} Ack */
/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {import("./types.js").Connection} Connection */
/** @typedef {import("./types.js").Delta} Delta */
/** @typedef {import("./types.js").Event} Event */

const ACK_TIMEOUT_MS = 15_000;
/** A transport that is not open by then is taken for one that the network swallows. */
const OPEN_TIMEOUT_MS = 8_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MOST_MS = 30_000;
const STEADY_MS = 5_000;

/**
 * @typedef {object} LinkListener
 * @property {(payload: Event) => void} received Every `oh_event`, in order.
 * @property {(delta: Delta) => void} told Every `oh_delta`, in order.
 * @property {() => string} held What is held of texts that are being written, as the handshake says it.
 * @property {(connection: Connection) => void} changed
 * @property {(polls: boolean) => void} carried Whether by polling, since no websocket comes through.
 * @property {(message: string) => void} troubled Shown until the next connect; the link retries.
 * @property {(why: "gone" | "key" | "anew", message: string) => void} refused Final; the link is closed. "anew":
 *   events that are here are not in the log any more.
 */

export class Link {
  /** @type {number} */
  #cursor;
  /** The session key of the newest attempt. @type {string | null} */
  #key = null;
  #tries = 0;
  /** Whether the next attempt begins with polling and tries a websocket from there. */
  #pollsFirst = false;
  /** Whether a websocket has come through. */
  #comesThrough = false;
  #retryTimer = 0;
  #steadyTimer = 0;

  /**
   * @param {string} conversationId
   * @param {number} cursor Id of the last event that is here already, -1 for none.
   * @param {LinkListener} listener
   */
  constructor(conversationId, cursor, listener) {
    this.#cursor = cursor;
    this.conversationId = conversationId;
    this.listener = listener;
    this.socket = io(location.origin, {
      path: located("/socket.io"),
      tryAllTransports: true,
      timeout: OPEN_TIMEOUT_MS,
      forceNew: true,
      autoConnect: false,
      reconnectionDelay: 500,
      reconnectionDelayMax: 5_000,
    });
    this.socket.on("connect", () => this.#connected());
    this.socket.on("disconnect", (/** @type {string} */ reason) => this.#disconnected(reason));
    this.socket.on("connect_error", (/** @type {Error & {data?: any}} */ error) => this.#failed(error));
    this.socket.on("oh_event", (/** @type {Event} */ payload) => this.#received(payload));
    this.socket.on("oh_delta", (/** @type {Delta} */ delta) => this.listener.told(delta));
    this.socket.io.on("reconnect_attempt", () => this.#aim());
  }

  /** Id of the last event received; what a reconnect resumes after. */
  get cursor() {
    return this.#cursor;
  }

  get connected() {
    return this.socket.connected;
  }

  open() {
    this.#tries = 0;
    this.listener.changed("connecting");
    this.#dial();
  }

  /** Ends the connection for good, or until `open`. */
  close() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#steadyTimer);
    this.socket.disconnect();
    this.listener.changed("closed");
  }

  /** Drops the transport, which may be dead without knowing it; the library dials again at once. */
  renew() {
    this.socket.io.engine?.close();
  }

  /**
   * Rejects if no acknowledgement arrived: the event may or may not be stored.
   *
   * @param {ClientEvent} event
   * @returns {Promise<Ack>}
   */
  send(event) {
    return this.socket.timeout(ACK_TIMEOUT_MS).emitWithAck("oh_user_action", event);
  }

  #dial() {
    this.#aim();
    this.socket.connect();
  }

  /** Query and transports are read when a connection opens, so they have to be right before each attempt. */
  #aim() {
    /** @type {Record<string, string>} */
    const query = { conversation_id: this.conversationId, latest_event_id: String(this.#cursor), deltas: this.listener.held() };
    this.#key = readSessionKey();
    if (this.#key) query.session_api_key = this.#key;
    this.socket.io.opts.query = query;
    this.socket.io.opts.transports = this.#pollsFirst ? ["polling", "websocket"] : ["websocket", "polling"];
  }

  #connected() {
    if (this.#polls && this.#comesThrough && !this.#pollsFirst) {
      // Refused while the server or a proxy came back, perhaps: without an upgrade it would poll for as long as it lasts.
      this.#pollsFirst = true;
      this.renew();
      return;
    }
    this.#steadyTimer = setTimeout(() => (this.#tries = 0), STEADY_MS);
    this.#carried();
    this.socket.io.engine.once("upgrade", () => this.#carried());
    this.listener.changed("connected");
  }

  get #polls() {
    return this.socket.io.engine.transport.name === "polling";
  }

  #carried() {
    if (!this.#polls) {
      this.#pollsFirst = false;
      this.#comesThrough = true;
    }
    this.listener.carried(this.#polls);
  }

  /** @param {string} reason */
  #disconnected(reason) {
    clearTimeout(this.#steadyTimer);
    if (reason === "io client disconnect") return;
    this.listener.changed("reconnecting");
    if (reason === "io server disconnect") {
      this.listener.troubled(texts.connection.closedByServer);
      this.#retry();
    }
  }

  /** @param {Error & {data?: {msg_id?: string}}} error */
  #failed(error) {
    if (error.data?.msg_id === "CONVERSATION$NOT_FOUND") return this.#refuse("gone", error.message);
    const refusesKey = error.message === "invalid_session_api_key";
    if (refusesKey && this.#key === readSessionKey()) return this.#refuse("key", error.message);
    this.listener.changed("reconnecting");
    // Another key was entered meanwhile.
    if (refusesKey) return this.#retry();
    // A refused websocket is followed by polling within the attempt, one without any answer is not.
    if (error.message === "timeout") this.#pollsFirst = !this.#pollsFirst;
    if (this.socket.active) {
      this.listener.troubled(texts.connection.unreachable);
    } else {
      this.listener.troubled(error.message);
      this.#retry();
    }
  }

  /**
   * @param {"gone" | "key" | "anew"} why
   * @param {string} message
   */
  #refuse(why, message) {
    this.close();
    this.listener.refused(why, message);
  }

  /** The library gives up after a refusal or a server-side disconnect; we do not. */
  #retry() {
    const delay = Math.min(RETRY_FIRST_MS * 2 ** this.#tries, RETRY_MOST_MS);
    this.#tries += 1;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#dial(), delay * (0.75 + Math.random() / 2));
  }

  /** @param {Event} payload */
  #received(payload) {
    // If the newest state is `error`, it is delivered last, out of id order: it must not move the cursor back.
    const isErrorState =
      payload.observation === "agent_state_changed" && payload.extras?.agent_state === "error";
    const isKnown = typeof payload.id === "number" && payload.id <= this.#cursor;
    // Its id is that of an event which the server has lost: everything is read again.
    if (isKnown && !isErrorState) return this.#refuse("anew", "");
    if (typeof payload.id === "number" && !isErrorState) this.#cursor = payload.id;
    this.listener.received(payload);
  }
}
