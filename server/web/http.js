/** One request to the server: key, deadline, failures in words for people. */

import { located } from "./base.js";
import { fitsHeader } from "./header-text.js";
import { texts } from "./language.js";
import { readSessionKey } from "./session-key.js";

const TIMEOUT_MS = 20_000;
const LONG_TIMEOUT_MS = 120_000;

/** A refusal or failure; `status` is 0 when the server was not reached. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {string} [code]
   * @param {string} [msgId]
   */
  constructor(message, status, code = "", msgId = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.msgId = msgId;
  }

  /** Whether the person may not come in, which a dialog says. */
  get keepsOut() {
    return this.code === "unauthorized";
  }

  /** Whether a session key is all that is wanting. */
  get asksForKey() {
    return this.keepsOut && this.msgId === "invalid_session_api_key";
  }
}

/**
 * @typedef {object} HttpListener
 * @property {(error: ApiError) => void} keptOut Called when the present session key is missing or wrong, or the server
 *   does not know who asks; before the call rejects.
 * @property {(reached: boolean) => void} reached After each call, whether there was any answer.
 *
 * @typedef {object} Content
 * @property {object} [json]
 * @property {FormData} [form]
 * @property {Record<string, string>} [headers]
 * @property {boolean} [keepalive] Outlives the page.
 */

export class Http {
  /** @type {HttpListener} To be set before the first answer can arrive. */
  listener = { keptOut() {}, reached() {} };

  /**
   * @param {string} method
   * @param {string} url as the server calls it
   * @param {Content} [content]
   * @returns {Promise<any>} the JSON answer, null if it is empty. Raises ApiError.
   */
  async call(method, url, content = {}) {
    const timeout = content.form ? LONG_TIMEOUT_MS : TIMEOUT_MS;
    const response = await this.#fetch(method, url, content, timeout);
    let text;
    try {
      text = await response.text();
    } catch {
      throw new ApiError(texts.requests.cutOff, 0);
    }
    if (!text) return null;
    try {
      return JSON.parse(text);
    } catch {
      throw new ApiError(texts.requests.unreadable, response.status);
    }
  }

  /** @param {string} url @returns {Promise<Blob>} Raises ApiError. */
  async download(url) {
    const response = await this.#fetch("GET", url, {}, LONG_TIMEOUT_MS);
    try {
      return await response.blob();
    } catch {
      throw new ApiError(texts.requests.interrupted, 0);
    }
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {Content} content
   * @param {number} timeoutMs
   * @returns {Promise<Response>}
   */
  async #fetch(method, url, content, timeoutMs) {
    const { json, form, headers: extra, keepalive } = content;
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", ...extra };
    const key = readSessionKey();
    if (key && fitsHeader(key)) headers["X-Session-API-Key"] = key;
    if (method !== "GET" && !form) headers["Content-Type"] = "application/json";
    const body = form ?? (json === undefined ? undefined : JSON.stringify(json));
    let response;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      response = await fetch(located(url), { method, headers, body, keepalive, signal });
    } catch {
      this.listener.reached(false);
      throw new ApiError(texts.requests.unreachable, 0);
    }
    this.listener.reached(true);
    if (response.ok) return response;
    const answer = await response.json().catch(() => null);
    const text = answer?.error || answer?.message || texts.requests.answered(response.status);
    const error = new ApiError(String(text), response.status, answer?.code, answer?.msg_id);
    // What was refused for a key says nothing of another one that was entered meanwhile, and is to be had with that.
    if (error.asksForKey && key !== readSessionKey()) return this.#fetch(method, url, content, timeoutMs);
    if (error.keepsOut) this.listener.keptOut(error);
    throw error;
  }
}
