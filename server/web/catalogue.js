/** The list of conversations and what can be done to one of them. */

/** @typedef {import("./types.js").Info} Info */
/** @typedef {import("./types.js").ListFilter} ListFilter */

const REFRESH_MS = 5_000;
/** A loop mostly starts in less. */
const STARTING_MS = 500;
const MOST_ROWS = 100;

/** The moment by which the list is ordered, and which its rows show. @param {Info} info */
export function momentOf(info) {
  return info.last_message_at ?? info.created_at;
}

/** Rows in the order of the list. @param {Info[]} rows */
function newestFirst(rows) {
  return rows.toSorted((one, other) => Date.parse(momentOf(other)) - Date.parse(momentOf(one)));
}

export class Catalogue {
  #loadingMore = false;
  #refreshing = false;
  /** Grows with each filter: what was asked for another one is thrown away. */
  #asked = 0;
  /** The filter that the rows shown belong to. */
  #shown = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;
  /** Ids are never used again, so a late answer must not bring one back. @type {Set<string>} */
  #gone = new Set();

  /**
   * @param {import("./api.js").Api} api
   * @param {import("./store.js").Store} store
   * @param {(id: string) => void} dropped Called with what is gone for good.
   */
  constructor(api, store, dropped) {
    this.api = api;
    this.store = store;
    this.dropped = dropped;
    store.watch(["conversations"], () => this.#watchStarts());
    setInterval(() => this.#refreshIfSeen(), REFRESH_MS);
    document.addEventListener("visibilitychange", () => this.#refreshIfSeen());
  }

  /** Shows what fits the filter. @param {ListFilter} filter */
  find(filter) {
    this.#asked += 1;
    this.store.set({ filter, listStage: "loading" });
    return this.refresh();
  }

  /** Reads the newest page, and what moved below it, and lays both over what is known. */
  async refresh() {
    const asked = this.#asked;
    try {
      const { filter } = this.store.state;
      const page = await this.api.list(null, filter);
      const moved = asked === this.#shown ? await this.#movedBelow(page.results) : [];
      if (asked === this.#asked) this.#lay(page, moved);
    } catch {
      if (asked === this.#asked && this.store.state.listStage === "loading") this.store.set({ listStage: "failed" });
    }
  }

  /** Reads again all that is shown: after an outage anything may have changed. */
  async recover() {
    const asked = this.#asked;
    const wanted = this.store.state.conversations.length;
    try {
      /** @type {Info[]} */
      const results = [];
      /** @type {string | null} */
      let next_page_id = null;
      do {
        const page = await this.api.list(next_page_id, this.store.state.filter, MOST_ROWS);
        results.push(...page.results);
        ({ next_page_id } = page);
      } while (next_page_id && results.length < wanted);
      if (asked !== this.#asked) return;
      this.#shown = asked;
      this.store.set({ conversations: this.#kept(results), nextPage: next_page_id, listStage: "ready" });
    } catch (error) {
      if (!this.store.state.conversations.length) this.store.set({ listStage: "failed" });
      this.store.complain(error);
    }
  }

  /** Reads the next page; does nothing while one is under way or when there is none. */
  async more() {
    const { nextPage, filter } = this.store.state;
    if (this.#loadingMore || !nextPage || this.#shown !== this.#asked) return;
    this.#loadingMore = true;
    const asked = this.#asked;
    try {
      const page = await this.api.list(nextPage, filter);
      if (asked !== this.#asked) return;
      const known = new Set(this.store.state.conversations.map((info) => info.conversation_id));
      const added = this.#kept(page.results).filter((info) => !known.has(info.conversation_id));
      this.store.set({
        conversations: [...this.store.state.conversations, ...added],
        nextPage: page.next_page_id,
      });
    } catch (error) {
      this.store.complain(error);
    } finally {
      this.#loadingMore = false;
    }
  }

  /**
   * @param {import("./types.js").Order} order
   * @returns {Promise<string | null>} the new id, null when it was refused
   */
  async create(order) {
    const id = await this.#try(async () => (await this.api.create(order)).conversation_id);
    if (id !== null) void this.refresh();
    return id;
  }

  /** @param {string} id @param {string} title */
  async rename(id, title) {
    const before = this.store.state.conversations.find((info) => info.conversation_id === id)?.title;
    this.patch(id, { title });
    const done = await this.#try(() => this.api.rename(id, title));
    if (done === null && before !== undefined) this.patch(id, { title: before });
  }

  /**
   * @param {string} id
   * @param {{keepalive?: boolean}} [how]
   * @returns {Promise<boolean>} whether it is gone
   */
  async remove(id, how) {
    const done = await this.#try(() => this.api.remove(id, how));
    if (done !== null) this.drop(id);
    return done !== null;
  }

  /** @param {string} id @returns {Promise<boolean>} whether it is stopped */
  async stop(id) {
    const done = await this.#try(() => this.api.stop(id));
    if (done !== null) this.patch(id, { status: "STOPPED" });
    return done !== null;
  }

  /** @param {string} id @returns {Promise<boolean>} whether it runs */
  async start(id) {
    const answer = await this.#try(() => this.api.start(id));
    if (answer !== null) this.patch(id, { status: answer.conversation_status });
    return answer !== null;
  }

  /**
   * Applies known changes to the listed record, and to the title of the open conversation.
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

  /**
   * Moves a conversation to where its newest message puts it.
   *
   * @param {string} id
   * @param {string} at ISO time of the message
   */
  said(id, at) {
    const { conversations } = this.store.state;
    const info = conversations.find((one) => one.conversation_id === id);
    if (!info || !(Date.parse(at) > Date.parse(momentOf(info)))) return;
    const moved = { ...info, last_message_at: at };
    this.store.set({ conversations: newestFirst(conversations.map((one) => (one === info ? moved : one))) });
  }

  /** @param {string} id */
  drop(id) {
    this.#gone.add(id);
    this.dropped(id);
    this.store.set({ conversations: this.#kept(this.store.state.conversations) });
  }

  /**
   * The changes among the rows below the newest page.
   *
   * @param {Info[]} newest
   * @returns {Promise<Info[]>}
   */
  async #movedBelow(newest) {
    const { conversations, filter } = this.store.state;
    if (conversations.length <= newest.length) return [];
    const times = conversations.map((info) => info.last_updated_at ?? "").filter(Boolean);
    const since = times.reduce((last, one) => (Date.parse(one) > Date.parse(last) ? one : last), times[0] ?? "");
    if (!since) return [];
    return (await this.api.list(null, { ...filter, since }, MOST_ROWS)).results;
  }

  /**
   * @param {{results: Info[], next_page_id: string | null}} page
   * @param {Info[]} moved
   */
  #lay(page, moved) {
    const { nextPage } = this.store.state;
    const below = page.next_page_id && this.#shown === this.#asked ? this.#below(page.results, moved) : [];
    this.#shown = this.#asked;
    this.store.set({
      conversations: newestFirst(this.#kept([...page.results, ...below]).map((info) => this.#withNewest(info))),
      nextPage: below.length > 0 ? nextPage : page.next_page_id,
      listStage: "ready",
    });
    // No notice is sent of a title that was set before the page joined.
    const open = [...page.results, ...moved].find((info) => info.conversation_id === this.store.state.openId);
    if (open && this.store.state.title !== null) this.store.set({ title: open.title });
  }

  /**
   * The known conversations of the pages below the newest one.
   *
   * @param {Info[]} newest
   * @param {Info[]} moved What changed meanwhile; it may belong to rows that were not read yet.
   */
  #below(newest, moved) {
    const fresh = new Set(newest.map((info) => info.conversation_id));
    const { conversations } = this.store.state;
    const known = new Map([...conversations, ...moved].map((info) => [info.conversation_id, info]));
    const oldest = Date.parse(momentOf(newest[newest.length - 1]));
    const last = Math.min(...conversations.map((info) => Date.parse(momentOf(info))));
    // Rows newer than the newest page no longer exist; those older than all rows come with their own page.
    const rows = [...known.values()].filter((info) => {
      const atMs = Date.parse(momentOf(info));
      return !fresh.has(info.conversation_id) && atMs <= oldest && atMs >= last;
    });
    return rows;
  }

  /** What was said while the list was asked for is not in the answer. @param {Info} info */
  #withNewest(info) {
    const known = this.store.state.conversations.find((one) => one.conversation_id === info.conversation_id);
    if (!known?.last_message_at || Date.parse(known.last_message_at) <= Date.parse(momentOf(info))) return info;
    return { ...info, last_message_at: known.last_message_at };
  }

  /** Looks again soon while something starts. */
  #watchStarts() {
    clearTimeout(this.#soon);
    if (!this.store.state.conversations.some(({ status }) => status === "STARTING")) return;
    this.#soon = setTimeout(() => this.#refreshIfSeen(), STARTING_MS);
  }

  /** @param {Info[]} conversations */
  #kept(conversations) {
    return conversations.filter((info) => !this.#gone.has(info.conversation_id));
  }

  async #refreshIfSeen() {
    const { needsKey, refusal, reached } = this.store.state;
    if (document.hidden || needsKey || refusal || !reached || this.#refreshing) return;
    this.#refreshing = true;
    await this.refresh();
    this.#refreshing = false;
  }

  /**
   * @template T
   * @param {() => Promise<T>} act
   * @returns {Promise<T | null>} null when it failed, which the user has been told
   */
  async #try(act) {
    try {
      return await act();
    } catch (error) {
      this.store.complain(error);
      return null;
    }
  }
}
