/** What the main part shows: the conversation the address names, or none. */

import { RESTING, STANDING } from "./agent-states.js";
import { conversationParts } from "./later.js";
import { blankConversation } from "./store.js";
import { mountAnnouncer } from "./views/announcer.js";

/** @typedef {import("./later.js").ConversationParts} ConversationParts */
/** @typedef {import("./views/transcript.js").Transcript} Transcript */

const AGAIN_MS = 2_000;

export class Stage {
  /** @type {import("./conversation.js").Conversation | null} */
  conversation = null;
  /** Made with the first conversation. @type {Transcript | null} */
  #transcript = null;
  /** What is said in new conversations as soon as they are open. @type {Map<string, [string, import("./attachments.js").Packed]>} */
  #firsts = new Map();
  /** The event to go to in a conversation that is to be opened. @type {[string, number] | null} */
  #sought = null;
  /** Called when a conversation has been opened by somebody with a keyboard. */
  ready = () => {};

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./api.js").Api} api
   * @param {import("./catalogue.js").Catalogue} catalogue
   * @param {import("./unread.js").Unread} unread
   * @param {import("./types.js").Opening | null} requested What is used, and only once, for the conversation it is of.
   * @param {(parts: ConversationParts) => void} loaded Called once, before the first conversation is shown.
   */
  constructor(store, api, catalogue, unread, requested, loaded) {
    this.store = store;
    this.api = api;
    this.catalogue = catalogue;
    this.unread = unread;
    this.requested = requested;
    this.loaded = loaded;
    this.spoken = mountAnnouncer(store);
  }

  /** The transcript, which shows one conversation after the other. @param {ConversationParts} parts @returns {Transcript} */
  #transcriptOf(parts) {
    if (this.#transcript) return this.#transcript;
    const { store } = this;
    const transcript = new parts.Transcript({
      drawn: (clientIds) => {
        this.conversation?.drawn(clientIds);
        this.#look();
      },
      waiting: (count) => store.set({ behind: count + (this.conversation?.missing ?? 0) }),
      unread: (count) => store.set({ newEntries: count }),
      spoken: this.spoken,
      rewound: () => void this.#rewind(),
    });
    this.#transcript = transcript;
    this.loaded(parts);
    store.watch(["earlier"], () => transcript.offerBeginning(store.state.earlier.left > 0));
    store.watch(["agentState", "failure", "cutOff", "sent", "writes"], () => {
      const { agentState, failure, cutOff, sent, writes } = store.state;
      const failed = STANDING.has(agentState) ? failure : null;
      transcript.offer("retry", failed);
      transcript.offer("continues", !failed && !sent && !writes && RESTING.has(agentState) ? cutOff : null);
    });
    return transcript;
  }

  /**
   * Shows a conversation. The one already shown stays as it is, unless its connection has ended.
   *
   * @param {string | null} id
   */
  open(id) {
    const { store } = this;
    const alive = this.conversation !== null && store.state.connection !== "closed";
    if (id !== null && id === store.state.openId && alive) return;
    this.#leave();
    store.set({ ...blankConversation(), openId: id });
    if (id === null) return;
    this.unread.clear(id);
    store.set({ connection: "connecting" });
    void this.#join(id);
  }

  /**
   * @param {string} text
   * @param {import("./attachments.js").Packed} packed
   * @returns {boolean} false when the text is to stay
   */
  say(text, packed) {
    const taken = this.conversation?.say(text, packed) ?? false;
    if (taken) this.#transcript?.answered();
    return taken;
  }

  /**
   * Says something in a conversation when it is opened next.
   *
   * @param {string} id
   * @param {string} text
   * @param {import("./attachments.js").Packed} packed
   */
  sayFirst(id, text, packed) {
    this.#firsts.set(id, [text, packed]);
  }

  /** @param {string} id */
  async #join(id) {
    const { store, catalogue, requested } = this;
    this.requested = null;
    let info;
    let newest;
    let parts;
    try {
      const answer = requested?.id === id ? requested.answer : this.api.opening(id);
      [[info, newest], parts] = await Promise.all([answer, conversationParts()]);
    } catch (error) {
      if (store.state.openId === id && !store.state.needsKey && !store.state.refusal) {
        store.notice("connection", error instanceof Error ? error.message : String(error));
        setTimeout(() => store.state.openId === id && !this.conversation && void this.#join(id), AGAIN_MS);
      }
      return;
    }
    if (store.state.openId !== id || this.conversation) return;
    if (info === null) return this.#lose(id);
    store.set({ title: info.title });
    catalogue.patch(id, info);
    this.unread.saw(id, Date.parse(info.last_updated_at ?? ""));
    const transcript = this.#transcriptOf(parts);
    this.conversation = new parts.Conversation(id, newest, store, {
      arrived: (event) => {
        this.unread.saw(id, Date.parse(event.timestamp ?? ""));
        if (event.action === "message" || event.action === "finish") catalogue.said(id, event.timestamp ?? "");
        transcript.push(event);
      },
      written: (held) => transcript.write(held),
      preceded: (events) => transcript.precede(events),
      eventsBefore: (beforeId) => this.api.eventsBefore(id, beforeId),
      newestState: () => this.api.newestState(id),
      approvals: () => this.api.approvals(id),
      asked: (entries) => {
        transcript.redraw(entries);
        this.#look();
      },
      lateEventId: () => this.api.lateEventId(id),
      retitled: (title) => catalogue.patch(id, { title }),
      lost: (why) => {
        if (why === "key") store.set({ needsKey: true });
        else if (why === "anew") this.open(id);
        else this.#lose(id);
      },
    });
    transcript.show(this.conversation.timeline);
    this.conversation.open();
    const first = this.#firsts.get(id);
    this.#firsts.delete(id);
    if (first) this.say(...first);
    if (this.#sought?.[0] === id) return void this.#seek();
    if (!matchMedia("(pointer: fine)").matches) return;
    // After the transcript is drawn, in the same frame: the layout is computed once.
    requestAnimationFrame(() => store.state.openId === id && this.ready());
  }

  /** Shows what the timeline knows of outside the transcript. */
  #look() {
    const { open = [], decided = null, failure = null, cutOff = null } = this.conversation?.timeline ?? {};
    const [awaiting = null] = open;
    const asked = open.map(({ id, expired }) => `${id}${expired ? " expired" : ""}`).join();
    this.store.set({ awaiting, questions: open.length, expired: awaiting?.expired ?? false, asked, decided, failure, cutOff });
  }

  /** Asks again about an action. @param {number} approval */
  renew(approval) {
    return this.#ask((id) => this.api.renew(id, approval));
  }

  /** Has the agent ask again before it does something of that kind. @param {string} kind */
  revoke(kind) {
    return this.#ask((id) => this.api.revoke(id, kind));
  }

  /** Sends a request about the open conversation. @param {(id: string) => Promise<unknown>} request */
  async #ask(request) {
    const { id } = this.conversation ?? {};
    try {
      if (id) await request(id);
    } catch (error) {
      this.store.complain(error);
    }
  }

  /**
   * Goes to an event, now or as soon as its conversation is open.
   *
   * @param {string} id
   * @param {number} eventId
   */
  seek(id, eventId) {
    this.#sought = [id, eventId];
    if (this.conversation?.id === id) void this.#seek();
  }

  async #seek() {
    const { conversation } = this;
    const [id, eventId] = this.#sought ?? [];
    this.#sought = null;
    if (conversation?.id !== id || eventId === undefined) return;
    await conversation?.readTo(eventId);
    if (conversation === this.conversation) this.#transcript?.toEntry(eventId);
  }

  /** Reads on towards the beginning. */
  readEarlier() {
    void this.conversation?.readEarlier();
  }

  /** Goes to the very beginning. */
  async #rewind() {
    const { conversation } = this;
    if ((await conversation?.readAll()) && conversation === this.conversation) this.#transcript?.toStart();
  }

  /** The address leads to nothing, or to nothing any more. @param {string} id */
  #lose(id) {
    this.#leave();
    this.catalogue.drop(id);
    this.store.set({ ...blankConversation(), openId: id, missing: true });
  }

  #leave() {
    this.conversation?.close();
    this.conversation = null;
    this.#transcript?.show(null);
  }
}
