/** The administration's addresses. */

import { located, slotName } from "../base.js";
import { fitsHeader } from "../header-text.js";

const SLOT = slotName("parley.admin-key");
const TIMEOUT_MS = 30_000;

export class AdminError extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 when the server was not reached
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class AdminApi {
  /** @type {string | null} */
  #held = null;

  /** @param {() => void} onUnauthorised Called for every 401 of the present key, before the call rejects. */
  constructor(onUnauthorised) {
    this.onUnauthorised = onUnauthorised;
  }

  get #key() {
    return this.#held ?? storedKey();
  }

  /** @param {string} key */
  useKey(key) {
    this.#held = key;
    try {
      sessionStorage.setItem(SLOT, key);
    } catch {
      // Without storage the key is kept until the page is left.
    }
  }

  /**
   * @param {string} path below /api/admin
   * @param {Record<string, string>} [query] blank values are left out
   * @returns {Promise<any>}
   */
  async get(path, query = {}) {
    return (await this.#ask("GET", path + search(query))).json();
  }

  /**
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<any>}
   */
  async post(path, body = {}) {
    return (await this.#ask("POST", path, body)).json();
  }

  /** @param {string} path */
  async remove(path) {
    return (await this.#ask("DELETE", path)).json();
  }

  /**
   * @param {string} path
   * @param {Record<string, string>} query
   * @returns {Promise<Blob>}
   */
  async file(path, query) {
    return (await this.#ask("GET", path + search(query))).blob();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<Response>}
   */
  async #ask(method, path, body) {
    /** @type {Record<string, string>} */
    const headers = {};
    const key = this.#key;
    if (key && fitsHeader(key)) headers["X-Admin-API-Key"] = key;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const text = body === undefined ? undefined : JSON.stringify(body);
      response = await fetch(located(`/api/admin/${path}`), { method, headers, body: text, signal });
    } catch {
      throw new AdminError("The server cannot be reached.", 0);
    }
    if (response.ok) return response;
    // What was refused for a key says nothing of another one that was entered meanwhile, and is to be had with that.
    if (response.status === 401 && key !== this.#key) return this.#ask(method, path, body);
    if (response.status === 401) this.onUnauthorised();
    const answer = await response.json().catch(() => null);
    const text = answer?.error || `The server answered ${response.status}.`;
    throw new AdminError(String(text), response.status);
  }
}

/** @returns {string | null} */
function storedKey() {
  try {
    return sessionStorage.getItem(SLOT);
  } catch {
    return null;
  }
}

/** @param {Record<string, string>} query */
function search(query) {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}
