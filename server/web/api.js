/** The REST surface, one method per call the page makes. */

import { newClientId } from "./client-id.js";
import { readSessionKey } from "./session-key.js";

/** @typedef {import("./types.js").Info} Info */

const TIMEOUT_MS = 20_000;

/** A refusal or failure; `status` is 0 when the server was not reached. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string} [msgId]
   */
  constructor(message, status, msgId = "") {
    super(message);
    this.status = status;
    this.msgId = msgId;
  }
}

export class Api {
  /** @param {() => void} onUnauthorised Called for every 401, before the call rejects. */
  constructor(onUnauthorised) {
    this.onUnauthorised = onUnauthorised;
  }

  /**
   * Newest first.
   *
   * @param {string | null} pageId
   * @returns {Promise<{results: Info[], next_page_id: string | null}>}
   */
  list(pageId) {
    const query = new URLSearchParams({ limit: "20" });
    if (pageId) query.set("page_id", pageId);
    return this.#call("GET", `/api/conversations?${query}`);
  }

  /**
   * The key makes a retry after a lost answer return the same conversation.
   *
   * @param {string} [firstMessage]
   * @returns {Promise<{conversation_id: string}>}
   */
  async create(firstMessage) {
    const body = firstMessage ? { initial_user_msg: firstMessage } : {};
    const headers = { "Idempotency-Key": newClientId() };
    try {
      return await this.#call("POST", "/api/conversations", body, headers);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 0) throw error;
      return this.#call("POST", "/api/conversations", body, headers);
    }
  }

  /**
   * @param {string} id
   * @returns {Promise<Info | null>} null when there is no such conversation
   */
  async get(id) {
    try {
      return await this.#call("GET", path(id));
    } catch (error) {
      if (error instanceof ApiError && (error.status === 404 || error.status === 400)) return null;
      throw error;
    }
  }

  /**
   * @param {string} id
   * @param {string} title
   */
  rename(id, title) {
    return this.#call("PATCH", path(id), { title });
  }

  /** @param {string} id */
  remove(id) {
    return this.#call("DELETE", path(id));
  }

  /**
   * The id of one of the last events, of a kind that every client is sent.
   *
   * @param {string} id
   * @returns {Promise<number>} -1 when there is none among them
   */
  async lateEventId(id) {
    const { events } = await this.#call("GET", `${path(id)}/events?reverse=true&limit=50`);
    return events.find((/** @type {any} */ event) => event.action === "message")?.id ?? -1;
  }

  /** @param {string} id */
  stop(id) {
    return this.#call("POST", `${path(id)}/stop`);
  }

  /** @param {string} id */
  start(id) {
    return this.#call("POST", `${path(id)}/start`, { providers_set: [] });
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {object} [body]
   * @param {Record<string, string>} [extraHeaders]
   * @returns {Promise<any>}
   */
  async #call(method, url, body, extraHeaders = {}) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", ...extraHeaders };
    const key = readSessionKey();
    if (key) headers["X-Session-API-Key"] = key;
    if (method !== "GET") headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
    } catch {
      throw new ApiError("The server cannot be reached.", 0);
    }
    const answer = await response.json().catch(() => null);
    if (response.ok) return answer;
    if (response.status === 401) this.onUnauthorised();
    const text = answer?.error || answer?.message || `The server answered ${response.status}.`;
    throw new ApiError(String(text), response.status, answer?.msg_id);
  }
}

/** @param {string} id */
function path(id) {
  return `/api/conversations/${encodeURIComponent(id)}`;
}
