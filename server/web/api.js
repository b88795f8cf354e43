/** The conversations' part of the REST surface, one method per call the page makes. */

import { newClientId } from "./client-id.js";
import { ApiError } from "./http.js";
import { texts } from "./language.js";

/** @typedef {import("./types.js").Info} Info */
/** @typedef {import("./types.js").ListFilter} ListFilter */
/** @typedef {import("./types.js").Order} Order */

/** @typedef {import("./types.js").Event} Event */

const PAGE_SIZE = 20;
const EVENTS_PAGE_SIZE = 100;

export class Api {
  /** @param {import("./http.js").Http} http */
  constructor(http) {
    this.http = http;
  }

  /**
   * Conversations, newest message first.
   *
   * @param {string | null} pageId
   * @param {ListFilter} filter
   * @param {number} [limit] 1 to 100
   * @returns {Promise<{results: Info[], next_page_id: string | null}>}
   */
  list(pageId, filter, limit = PAGE_SIZE) {
    const query = new URLSearchParams({ limit: String(limit), sort: "last_message_at" });
    if (pageId) query.set("page_id", pageId);
    if (filter.text) query.set("title", filter.text);
    if (filter.repository) query.set("selected_repository", filter.repository);
    if (filter.trigger) query.set("conversation_trigger", filter.trigger);
    if (filter.since) query.set("updated_since", filter.since);
    return this.http.call("GET", `/api/conversations?${query}`);
  }

  /**
   * Places where the words were said, the newest first; the last word may go on.
   *
   * @param {string} text
   * @param {{since: string, cursor: string | null}} where
   * @returns {Promise<{results: import("./types.js").Found[], next_cursor: string | null}>}
   */
  search(text, { since, cursor }) {
    const query = new URLSearchParams({ q: text, prefix: "true", limit: String(PAGE_SIZE) });
    if (since) query.set("since", since);
    if (cursor) query.set("cursor", cursor);
    return this.http.call("GET", `/api/search?${query}`);
  }

  /** What the agent offers to begin with. @returns {Promise<import("./types.js").Example[]>} */
  examples() {
    return this.http.call("GET", "/api/options/examples");
  }

  /**
   * With the key, a retry after a lost response returns the same conversation.
   *
   * @param {Order} order
   * @returns {Promise<{conversation_id: string}>}
   */
  async create(order) {
    const content = { json: order, headers: { "Idempotency-Key": newClientId() } };
    try {
      return await this.http.call("POST", "/api/conversations", content);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 0) throw error;
      return this.http.call("POST", "/api/conversations", content);
    }
  }

  /**
   * @param {string} id
   * @returns {Promise<Info | null>} null when there is no such conversation
   */
  async get(id) {
    try {
      return await this.http.call("GET", path(id));
    } catch (error) {
      if (error instanceof ApiError && (error.status === 404 || error.status === 400)) return null;
      throw error;
    }
  }

  /** @param {string} id @param {string} title */
  rename(id, title) {
    return this.http.call("PATCH", path(id), { json: { title } });
  }

  /** @param {string} id @param {{keepalive?: boolean}} [how] */
  remove(id, { keepalive } = {}) {
    return this.http.call("DELETE", path(id), { keepalive });
  }

  /**
   * The events before one, or the newest, in the form in which the socket sends them.
   *
   * @param {string} id
   * @param {number | null} beforeId null for the newest
   * @returns {Promise<import("./types.js").EventsPage>} oldest first; whether there are older ones
   */
  async eventsBefore(id, beforeId) {
    const range = beforeId === null ? {} : { end_id: String(beforeId - 1) };
    const { events, has_more } = await this.#newestFirst(id, EVENTS_PAGE_SIZE, range);
    return { events: events.reverse(), more: has_more };
  }

  /**
   * The data to show a conversation at once. If the log cannot be read, the socket sends what it can.
   *
   * @param {string} id
   * @returns {Promise<[Info | null, import("./types.js").EventsPage]>} null when there is no such conversation
   */
  opening(id) {
    const newest = this.eventsBefore(id, null).catch((error) => {
      const unreadable = error instanceof ApiError && [404, 500].includes(error.status);
      if (unreadable) return { events: [], more: false };
      throw error;
    });
    return Promise.all([this.get(id), newest]);
  }

  /** @param {string} id @returns {Promise<Event | null>} the agent's newest state */
  async newestState(id) {
    const { events } = await this.#newestFirst(id, 1, { include_kinds: "agent_state_changed" });
    return events[0] ?? null;
  }

  /**
   * The actions that wait for a person's decision, the oldest first. Starts no agent.
   *
   * @param {string} id
   * @returns {Promise<import("./types.js").Approval[]>}
   */
  async approvals(id) {
    return (await this.http.call("GET", `${path(id)}/approvals`)).approvals;
  }

  /**
   * Asks again about an action, after the question has expired.
   *
   * @param {string} id
   * @param {number} approval
   */
  renew(id, approval) {
    return this.http.call("POST", `${path(id)}/approvals/${approval}/renew`, { json: {} });
  }

  /**
   * Has people asked again about a kind of action that was allowed.
   *
   * @param {string} id
   * @param {string} kind
   */
  revoke(id, kind) {
    return this.http.call("DELETE", `${path(id)}/approvals/allowed/${encodeURIComponent(kind)}`);
  }

  /**
   * The id of the last event that every client receives, which excludes states.
   *
   * @param {string} id
   * @returns {Promise<number>} -1 when there is none
   */
  async lateEventId(id) {
    const { events } = await this.#newestFirst(id, 1, { exclude_kinds: "agent_state_changed" });
    return Number(events[0]?.id ?? -1);
  }

  /**
   * @param {string} id
   * @param {number} limit
   * @param {Record<string, string>} which
   * @returns {Promise<{events: Event[], has_more: boolean}>}
   */
  #newestFirst(id, limit, which) {
    const query = new URLSearchParams({ as_sent: "true", reverse: "true", limit: String(limit), ...which });
    return this.http.call("GET", `${path(id)}/events?${query}`);
  }

  /** @param {string} id */
  stop(id) {
    return this.http.call("POST", `${path(id)}/stop`);
  }

  /** @param {string} id */
  start(id) {
    return this.http.call("POST", `${path(id)}/start`, { json: {} });
  }

  /**
   * Whether the agent did something after a point in time.
   *
   * @param {string} id
   * @param {number} atMs
   * @returns {Promise<boolean>}
   */
  async movedSince(id, atMs) {
    const start_date = new Date(atMs + 1).toISOString();
    const query = new URLSearchParams({ source: "agent", limit: "1", start_date });
    const answer = await this.http.call("GET", `${path(id)}/events?${query}`);
    return answer.events.length > 0;
  }

  /**
   * Puts a file into the workspace.
   *
   * @param {string} id
   * @param {File} file
   * @returns {Promise<string>} its path. Raises ApiError with the reason when it was not taken.
   */
  async upload(id, file) {
    const form = new FormData();
    form.append("files", file, file.name);
    const answer = await this.http.call("POST", `${path(id)}/upload-files`, { form });
    const [taken] = answer.uploaded_files;
    if (taken) return taken;
    throw new ApiError(String(answer.skipped_files[0]?.reason ?? texts.requests.fileRefused), 422);
  }

  /** @param {string} id @returns {Promise<Blob>} */
  trajectory(id) {
    return this.http.download(`${path(id)}/trajectory`);
  }

  /** @param {string} id @returns {Promise<Blob>} */
  workspace(id) {
    return this.http.download(`${path(id)}/zip-directory`);
  }

  /**
   * A folder of the workspace, as it is now or was kept. Starts no agent.
   *
   * @param {string} id
   * @param {string} folder "" for the root
   * @returns {Promise<import("./types.js").WorkspaceFolder>}
   */
  folder(id, folder) {
    return this.http.call("GET", `${path(id)}/workspace?${new URLSearchParams({ path: folder })}`);
  }

  /**
   * @param {string} id
   * @param {string} file
   * @returns {Promise<import("./types.js").FilePreview>}
   */
  preview(id, file) {
    return this.http.call("GET", `${path(id)}/workspace/preview?${new URLSearchParams({ file })}`);
  }

  /** @param {string} id @param {string} file @returns {Promise<Blob>} */
  file(id, file) {
    return this.http.download(`${path(id)}/workspace/download?${new URLSearchParams({ file })}`);
  }

  alive() {
    return this.http.call("GET", "/alive");
  }
}

/** @param {string} id */
function path(id) {
  return `/api/conversations/${encodeURIComponent(id)}`;
}
