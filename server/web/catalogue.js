/** The list of conversations and what can be done to one of them. */

import { ApiError } from "./api.js";

/** @typedef {import("./types.js").Info} Info */

const REFRESH_MS = 20_000;

export class Catalogue {
  #loading = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./store.js").Store} store
   */
  constructor(api, store) {
    this.api = api;
    this.store = store;
    setInterval(() => this.#refreshIfSeen(), REFRESH_MS);
    document.addEventListener("visibilitychange", () => this.#refreshIfSeen());
  }

  /** Reads the newest page and lays it over what is known. */
  async refresh() {
    try {
      const page = await this.api.list(null);
      const { conversations, nextPage, listStage } = this.store.state;
      const fresh = new Set(page.results.map((info) => info.conversation_id));
      const oldest = page.results.at(-1)?.created_at ?? "";
      // Of the pages below only what is older than the newest page can still be there.
      const below = page.next_page_id
        ? conversations.filter((info) => !fresh.has(info.conversation_id) && info.created_at <= oldest)
        : [];
      this.store.set({
        conversations: [...page.results, ...below],
        nextPage: listStage === "ready" && below.length > 0 ? nextPage : page.next_page_id,
        listStage: "ready",
      });
    } catch {
      if (this.store.state.listStage === "loading") this.store.set({ listStage: "failed" });
    }
  }

  /** Reads the next page; does nothing while one is under way or when there is none. */
  async more() {
    const { nextPage } = this.store.state;
    if (this.#loading || !nextPage) return;
    this.#loading = true;
    try {
      const page = await this.api.list(nextPage);
      const known = new Set(this.store.state.conversations.map((info) => info.conversation_id));
      const added = page.results.filter((info) => !known.has(info.conversation_id));
      this.store.set({
        conversations: [...this.store.state.conversations, ...added],
        nextPage: page.next_page_id,
      });
    } catch (error) {
      this.#complain(error);
    } finally {
      this.#loading = false;
    }
  }

  /**
   * @param {string} [firstMessage]
   * @returns {Promise<string | null>} the new id, null when it was refused
   */
  async create(firstMessage) {
    try {
      const { conversation_id } = await this.api.create(firstMessage);
      void this.refresh();
      return conversation_id;
    } catch (error) {
      this.#complain(error);
      return null;
    }
  }

  /**
   * @param {string} id
   * @param {string} title
   */
  async rename(id, title) {
    const before = this.store.state.conversations.find((info) => info.conversation_id === id)?.title;
    this.patch(id, { title });
    try {
      await this.api.rename(id, title);
    } catch (error) {
      if (before !== undefined) this.patch(id, { title: before });
      this.#complain(error);
    }
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>} whether it is gone
   */
  async remove(id) {
    try {
      await this.api.remove(id);
      this.drop(id);
      return true;
    } catch (error) {
      this.#complain(error);
      return false;
    }
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>} whether it is stopped
   */
  async stop(id) {
    try {
      await this.api.stop(id);
      this.patch(id, { status: "STOPPED" });
      return true;
    } catch (error) {
      this.#complain(error);
      return false;
    }
  }

  /**
   * Lays known facts over the listed record, and over the title of the open conversation.
   *
   * @param {string} id
   * @param {Partial<Info>} facts
   */
  patch(id, facts) {
    const { conversations, openId } = this.store.state;
    this.store.set({
      conversations: conversations.map((info) =>
        info.conversation_id === id ? { ...info, ...facts } : info,
      ),
    });
    if (id === openId && facts.title !== undefined) this.store.set({ title: facts.title });
  }

  /** @param {string} id */
  drop(id) {
    const conversations = this.store.state.conversations.filter((info) => info.conversation_id !== id);
    this.store.set({ conversations });
  }

  #refreshIfSeen() {
    if (!document.hidden && !this.store.state.needsKey) void this.refresh();
  }

  /** @param {unknown} error */
  #complain(error) {
    if (error instanceof ApiError && error.status === 401) return;
    this.store.notice("request", error instanceof Error ? error.message : String(error));
  }
}
