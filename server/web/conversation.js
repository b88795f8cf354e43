/** The open conversation: its connection, its transcript and the messages under way. */

import { RESTING, STANDING } from "./agent-states.js";
import { Allowed } from "./allowed.js";
import { asks } from "./asking.js";
import { newClientId } from "./client-id.js";
import { texts } from "./language.js";
import { fits } from "./message-size.js";
import { Outbox } from "./outbox.js";
import { afterDelta, afterEvent, cursorOf, NOTHING_HELD } from "./partials.js";
import { Link } from "./socket.js";
import { isFailure, Timeline } from "./timeline.js";
import { TurnCosts } from "./turn-costs.js";
import { TurnWatch } from "./turn.js";
import { usageOf } from "./usage.js";
import { reasonText, statusText } from "./wording.js";

/** @typedef {import("./types.js").ClientEvent} ClientEvent */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Pending} Pending */
/** @typedef {import("./types.js").EventsPage} EventsPage */
/** @typedef {import("./types.js").Refusal} Refusal */

/** Refusals that pass: the message is sent again under its key. */
const PASSING = new Set([
  "overloaded",
  "closing",
  "outcome_unknown",
  "not_stored",
  "storage_full",
  "storage_unavailable",
  "not_available",
  "timeout",
]);
const AGAIN_MS = 2_000;
/** Refusals of which the transcript shows why: somebody was first, or the time to answer is over. */
const SHOWN = new Set(["already_decided", "approval_expired"]);
/** Drawn at once when somebody goes to the beginning. */
const PAGES_TOGETHER = 10;
/** A failure that is not in the log after this time is shown in a banner. */
const LATE_MS = 2_000;
const EXPIRED = "STATUS$APPROVAL_EXPIRED";
const TOO_MANY = "AGENT_ERROR$TOO_MANY_CONVERSATIONS";
/** States in which an earlier failure of the server is over. */
const ALIVE = new Set(["running", "awaiting_user_input"]);
/** States that show that the agent has a slot. */
const STARTING = new Set(["loading", "running"]);
/** States in which no turn is under way. */
const TURNLESS = new Set([...RESTING, "finished", "rejected"]);

/** @typedef {"stopped" | "running" | "user_confirmed" | "user_rejected"} State */
/**
 * @typedef {{of?: number, thought?: string, edit?: Record<string, unknown>, always?: string}} About The turn or the
 *   action that is meant, why, with which changes, and the kind that is allowed from now on.
 */

/**
 * @typedef {object} ConversationListener
 * @property {(event: Event) => void} arrived An event to draw, in order.
 * @property {(held: import("./partials.js").Held) => void} written The texts that are being written, after each change.
 * @property {(events: Event[]) => void} preceded Events to draw before all others.
 * @property {(beforeId: number) => Promise<EventsPage>} eventsBefore See `Api.eventsBefore`.
 * @property {() => Promise<Event | null>} newestState See `Api.newestState`.
 * @property {() => Promise<import("./types.js").Approval[]>} approvals See `Api.approvals`.
 * @property {(entries: import("./types.js").Entry[]) => void} asked What waits for a person has changed; the entries
 *   are to be drawn anew.
 * @property {() => Promise<number>} lateEventId See `Api.lateEventId`.
 * @property {(title: string) => void} retitled
 * @property {(why: "gone" | "key" | "anew") => void} lost
 */

export class Conversation {
  timeline = new Timeline();
  #closed = false;
  /** The highest id known to be in the log. */
  #knownId = -1;
  /** The lowest id that is loaded. */
  #firstId = 0;
  #wasConnected = false;
  /** @type {Promise<void>} */
  #reading = Promise.resolve();
  /** Whether the log has the reason of the agent's failure. */
  #explained = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #late;
  /** Since when the conversation waits for a slot: an event's id and a time in ms. */
  #waits = { id: -1, atMs: 0 };
  /** The id of the newest state that shows that the agent has a slot. */
  #startedId = -1;
  /** @type {Set<string>} */
  #inFlight = new Set();
  /** The texts that are being written. */
  #held = NOTHING_HELD;
  #turns = new TurnWatch();
  #costs = new TurnCosts();
  #allowed = new Allowed();

  /**
   * @param {string} id
   * @param {EventsPage} newest The newest page; the socket continues from its end.
   * @param {import("./store.js").Store} store
   * @param {ConversationListener} listener
   */
  constructor(id, newest, store, listener) {
    this.id = id;
    this.store = store;
    this.listener = listener;
    this.outbox = new Outbox(id);
    store.set({
      pending: this.outbox.messages.map(({ event, reason }) => ({
        event,
        stage: reason ? "failed" : "waiting",
        reason,
      })),
    });
    this.newest = newest;
    const cursor = Math.max(-1, ...newest.events.map((event) => Number(event.id)));
    this.link = new Link(id, cursor, {
      received: (payload) => this.#received(payload),
      told: (delta) => this.#told(delta),
      held: () => cursorOf(this.#held),
      changed: (connection) => this.#changed(connection),
      carried: (polls) => {
        if (!this.#closed) store.set({ polls });
      },
      troubled: (message) => store.notice("connection", message),
      refused: (why) => listener.lost(why),
    });
  }

  /** Shows the newest page, and connects. */
  open() {
    const { events, more } = this.newest;
    this.#reaches(events, more);
    // As at a join: only the newest state, and an error after everything else.
    const state = events.findLast(isState);
    const isError = state?.extras?.agent_state === "error";
    for (const event of events) if (!isState(event) || (event === state && !isError)) this.#apply(event);
    if (state && isError) this.#apply(state);
    this.listener.preceded(events);
    this.drawn(new Set(events.flatMap((event) => event.client_id ?? [])));
    if (state) void this.#askQuestions(state);
    else if (more) void this.#askState();
    this.link.open();
  }

  /**
   * Loads the events before the first loaded one, unless a load is in progress.
   *
   * @param {number} [pages] how many pages are drawn together
   */
  readEarlier(pages = 1) {
    const { earlier } = this.store.state;
    const idle = !this.#closed && earlier.left > 0 && earlier.stage !== "reading";
    if (idle) this.#reading = this.#readEarlier(pages);
    return this.#reading;
  }

  /** @param {number} pages */
  async #readEarlier(pages) {
    this.store.set({ earlier: { ...this.store.state.earlier, stage: "reading" } });
    /** @type {Event[]} */
    const events = [];
    let page = { events, more: true };
    let failed = false;
    let firstId = this.#firstId;
    try {
      for (let count = 0; count < pages && page.more; count += 1) {
        page = await this.listener.eventsBefore(firstId);
        events.unshift(...page.events);
        firstId = Number(page.events[0]?.id ?? 0);
      }
    } catch {
      // The page's banner shows the reason; events loaded so far are drawn.
      failed = true;
    }
    if (this.#closed) return;
    if (events.length > 0) this.listener.preceded(events);
    for (const event of events) this.#costs.saw(event);
    const usage = this.store.state.usage ?? events.map(usageOf).findLast(Boolean) ?? null;
    this.store.set({ usage });
    if (failed) this.#firstId = firstId;
    else this.#reaches(events, page.more);
    if (failed) this.store.set({ earlier: { left: firstId, stage: "failed" } });
  }

  /** Loads the events down to one, if that can be done. @param {number} eventId */
  async readTo(eventId) {
    await this.#reading;
    while (!this.#closed && this.store.state.earlier.stage === "ready" && this.store.state.earlier.left > eventId) {
      await this.readEarlier(PAGES_TOGETHER);
    }
  }

  /** @returns {Promise<boolean>} whether the very first event is loaded now */
  async readAll() {
    await this.#reading;
    do await this.readEarlier(PAGES_TOGETHER);
    while (!this.#closed && this.store.state.earlier.stage === "ready" && this.store.state.earlier.left > 0);
    return !this.#closed && this.store.state.earlier.left === 0;
  }

  /** Closes the conversation; this object does not change the store afterwards. */
  close() {
    this.#closed = true;
    clearTimeout(this.#late);
    this.link.close();
  }

  /** Ends the connection and keeps the transcript; the next message or `resume` connects again. */
  rest() {
    this.link.close();
  }

  resume() {
    if (this.store.state.connection === "closed") this.link.open();
    else void this.command("running");
  }

  /**
   * Sends a message now, or as soon as there is a connection; it is stored exactly once.
   *
   * @param {string} content
   * @param {import("./attachments.js").Packed} packed
   * @returns {boolean} false if it is too long to be sent
   */
  say(content, { image_urls, file_urls }) {
    const event = { action: "message", args: { content, image_urls, file_urls }, client_id: newClientId() };
    if (!fits(event)) {
      this.store.notice("request", texts.requests.tooLong);
      return false;
    }
    this.store.notice("server", "");
    this.store.notice("request", "");
    this.outbox.add(event);
    this.store.set({ pending: [...this.store.state.pending, { event, stage: "waiting" }], sent: true });
    if (this.store.state.connection === "closed") this.link.open();
    else void this.#deliver(event);
    return true;
  }

  /** @param {string} clientId */
  retry(clientId) {
    this.outbox.mark(clientId);
    this.#stage(clientId, { stage: "waiting", reason: undefined });
    this.#deliverAll();
  }

  /** @param {string} clientId */
  discard(clientId) {
    this.outbox.remove(clientId);
    this.#dropPending((pending) => pending.event.client_id === clientId);
  }

  /** Stops the turn under way. One that is not known yet cannot be named: then it is whichever the server has. */
  stop() {
    const of = this.#turns.current;
    return this.command("stopped", of === null ? {} : { of });
  }

  /** What a turn has cost so far, null when that is not known. @param {number} turn */
  costOf(turn) {
    return this.#costs.of(turn, this.store.state.earlier.left === 0);
  }

  /** The action that waits for a person under that id. @param {number} id */
  question(id) {
    return this.timeline.open.find((entry) => entry.id === id);
  }

  /**
   * Decides about an action.
   *
   * @param {number} id
   * @param {boolean} approved
   * @param {string} reason shown to the agent, "" for none
   */
  decide(id, approved, reason) {
    const thought = reason ? { thought: reason } : {};
    if (!approved) return this.command("user_rejected", { of: id, ...thought });
    return this.command("user_confirmed", { of: id, ...thought, ...this.#always(id) });
  }

  /**
   * Approves an action with other arguments.
   *
   * @param {number} id
   * @param {Record<string, unknown>} changes by the names of the arguments; the others stay
   * @returns {Promise<Refusal | null>} null when it was approved
   */
  async edit(id, changes) {
    if (!fits(changes)) {
      return { code: "too_large", message: texts.requests.editTooLong };
    }
    return this.#request("user_confirmed", { of: id, edit: changes, ...this.#always(id) });
  }

  /** Whether a person wants later ones of its kind to be carried out without being asked. @param {number} id */
  #always(id) {
    const entry = this.question(id);
    return entry?.always ? { always: entry.name } : {};
  }

  /**
   * Requests an agent state, and shows why that was refused.
   *
   * @param {State} state
   * @param {About} [about]
   */
  async command(state, about = {}) {
    const refusal = await this.#request(state, about);
    if (refusal && !SHOWN.has(refusal.code) && !this.#closed) this.store.notice("request", refusal.message);
  }

  /**
   * Requests an agent state. Never repeated after a reconnect: the user may not mean it any more.
   *
   * @param {State} state
   * @param {About} about
   * @returns {Promise<Refusal | null>} null when it was accepted
   */
  async #request(state, about) {
    const event = { action: "change_agent_state", args: { agent_state: state, ...about }, client_id: newClientId() };
    this.timeline.ownKeys.add(event.client_id);
    let ack;
    try {
      ack = await this.link.send(event);
    } catch {
      return { code: "timeout", message: texts.requests.silent };
    }
    if (ack?.status === "error") {
      if (ack.code === "approval_expired") await this.#readQuestions();
      return ack;
    }
    if (ack?.queued && !this.#closed) this.#wait(ack.id, 0, texts.waits.withMessage);
    return null;
  }

  /**
   * Removes the pending copies of drawn events, in the same frame.
   *
   * @param {Set<string>} clientIds
   */
  drawn(clientIds) {
    for (const clientId of clientIds) this.outbox.remove(clientId);
    this.#dropPending(
      ({ event, eventId }) =>
        clientIds.has(event.client_id) || (eventId !== undefined && eventId <= this.timeline.lastId),
    );
  }

  /** The number of events known to be missing, apart from those that wait to be drawn. */
  get missing() {
    return Math.max(0, this.#knownId - this.link.cursor);
  }

  /** @param {import("./types.js").Connection} connection */
  #changed(connection) {
    if (this.#closed) return;
    this.store.set({ connection });
    if (connection !== "connected") return;
    // The server reports after each join whether there is a slot.
    this.store.set({ waits: "" });
    this.store.notice("connection", "");
    const { earlier } = this.store.state;
    if (earlier.stage === "failed") this.store.set({ earlier: { ...earlier, stage: "ready" } });
    this.#deliverAll();
    // At first everything known is loaded.
    if (this.#wasConnected || this.newest.events.length === 0) void this.#ask();
    this.#wasConnected = true;
  }

  /** @param {Event[]} events the oldest loaded ones @param {boolean} more whether there are older ones */
  #reaches(events, more) {
    this.#firstId = more ? Number(events[0]?.id ?? 0) : 0;
    this.store.set({ earlier: { left: this.#firstId, stage: "ready" } });
  }

  /** Loads the newest state, which may be older than the loaded events. */
  async #askState() {
    let state = null;
    try {
      state = await this.listener.newestState();
    } catch {
      // Only the state's label is missing until the state changes.
    }
    if (!state || this.#closed || this.store.state.agentState !== "") return;
    this.#apply(state);
    await this.#askQuestions(state);
  }

  /** What waits for a person may be older than what is loaded. @param {Event} state the newest one */
  async #askQuestions(state) {
    if (asks(state) && this.timeline.open.length === 0 && this.#firstId > 0) await this.#readQuestions();
  }

  async #readQuestions() {
    let approvals;
    try {
      approvals = await this.listener.approvals();
    } catch {
      // It is found as the reader goes up, or as somebody answers.
      return;
    }
    if (!this.#closed) this.listener.asked(this.timeline.await(approvals));
  }

  /** Asks for the end of the log, which shows how far behind the page is. */
  async #ask() {
    let lateId;
    try {
      lateId = await this.listener.lateEventId();
    } catch {
      // Only the number is missing then; the socket reports failures of the server.
      return;
    }
    if (this.#closed) return;
    this.#knownId = Math.max(this.#knownId, lateId);
    this.store.set({ behind: Math.max(this.store.state.behind, this.missing) });
  }

  /** @param {Event} payload */
  #received(payload) {
    if (this.#closed) return;
    if (payload.status_update) return this.#updated(payload);
    if (payload.error === true) return this.store.notice("server", reasonText(payload.message ?? ""));
    this.#apply(payload);
    this.listener.arrived(payload);
    this.#hold(afterEvent(this.#held, payload));
  }

  /** @param {import("./types.js").Delta} delta */
  #told(delta) {
    if (this.#closed) return;
    this.#turns.told(delta);
    const { held, fits } = afterDelta(this.#held, delta);
    this.#hold(held);
    if (!fits) this.link.renew();
  }

  /** @param {import("./partials.js").Held} held */
  #hold(held) {
    if (held === this.#held) return;
    this.#held = held;
    this.store.set({ writes: held.size > 0 });
    this.listener.written(held);
  }

  /** Applies the changes of an event outside the transcript. @param {Event} payload */
  #apply(payload) {
    this.#turns.saw(payload, isState(payload) && TURNLESS.has(payload.extras?.agent_state));
    const usage = usageOf(payload);
    if (usage) this.store.set({ usage });
    this.#costs.saw(payload);
    if (this.#allowed.saw(payload)) this.#tellAllowed();
    if (payload.observation === "agent_state_changed") {
      this.#changedState(payload);
    } else if (isFailure(payload)) {
      this.#explained = true;
      clearTimeout(this.#late);
      this.store.notice("agent", "");
    } else if (payload.observation !== "error") {
      if (payload.action === "message" && payload.source === "user") this.#explained = false;
      this.store.notice("agent", "");
    }
  }

  #tellAllowed() {
    const { kinds } = this.#allowed;
    if (String(kinds) !== String(this.store.state.allowed)) this.store.set({ allowed: kinds });
  }

  /** @param {Event} payload */
  #changedState(payload) {
    const state = String(payload.extras?.agent_state ?? "");
    this.store.set({ agentState: state, status: "", sent: this.store.state.sent && STARTING.has(state) });
    // Logs of older servers have only the state.
    const unexplained = state === "error" && !this.#explained;
    this.store.notice("agent", unexplained ? reasonText(payload.extras?.reason) : "");
    if (!STANDING.has(state)) this.#explained = false;
    if (ALIVE.has(state)) this.store.notice("server", "");
    if (STARTING.has(state)) this.#startedId = Number(payload.id);
    const isNewer = Number(payload.id) > this.#waits.id && Date.parse(payload.timestamp ?? "") >= this.#waits.atMs;
    if (this.store.state.waits && isNewer && STARTING.has(state)) this.store.set({ waits: "" });
  }

  /** @param {Event} update */
  #updated(update) {
    const id = String(update.id ?? "");
    if (update.conversation_title) this.listener.retitled(update.conversation_title);
    else if (id === EXPIRED) void this.#readQuestions();
    else if (update.type !== "error") this.store.set({ status: statusText(update) });
    else if (id === TOO_MANY) this.#wait(-1, Date.parse(update.timestamp ?? "") || 0, texts.waits.forSlot);
    else if (!id.startsWith("STATUS$")) this.store.notice("server", reasonText(update.message || id));
    else {
      // The log has the failure as well, unless it cannot be written.
      clearTimeout(this.#late);
      this.#late = setTimeout(() => {
        if (!this.#explained) this.store.notice("agent", reasonText(update.message || id));
      }, LATE_MS);
    }
  }

  /**
   * Marks the conversation as waiting for a slot, until a later state shows that the agent starts.
   *
   * @param {number} id -1 if only the time is known
   * @param {number} atMs
   * @param {string} text
   */
  #wait(id, atMs, text) {
    if (id !== -1 && this.#startedId > id) return;
    this.#waits = { id, atMs };
    this.store.set({ waits: this.store.state.waits || text });
  }

  #deliverAll() {
    for (const { event, reason } of this.outbox.messages) {
      if (!reason) void this.#deliver(event);
    }
  }

  /** @param {ClientEvent} event */
  async #deliver(event) {
    const key = event.client_id;
    if (!this.link.connected || this.#inFlight.has(key)) return;
    this.#inFlight.add(key);
    this.#stage(key, { stage: "sending" });
    let ack;
    try {
      ack = await this.link.send(event);
    } catch {
      ack = null;
    }
    this.#inFlight.delete(key);
    if (this.#closed) return;
    if (ack?.status === "ok") {
      this.outbox.remove(key);
      this.#knownId = Math.max(this.#knownId, ack.id);
      if (ack.queued) {
        this.store.set({ sent: false });
        this.#wait(ack.id, 0, texts.waits.withMessage);
      }
      if (ack.id <= this.timeline.lastId) this.#dropPending((pending) => pending.event.client_id === key);
      else this.#stage(key, { stage: ack.queued ? "queued" : "stored", eventId: ack.id });
    } else if (ack?.status === "error" && PASSING.has(ack.code)) {
      this.#stage(key, { stage: "waiting" });
      setTimeout(() => this.#closed || this.#deliverAll(), AGAIN_MS);
    } else if (ack?.status === "error") {
      this.outbox.mark(key, ack.message);
      this.#stage(key, { stage: "failed", reason: ack.message });
      this.store.set({ sent: false });
    } else {
      this.#stage(key, { stage: "waiting" });
      // No response on an open connection: reconnect, which sends unacknowledged messages again.
      if (this.link.connected) this.link.renew();
    }
  }

  /**
   * @param {string} clientId
   * @param {Partial<Pending>} facts
   */
  #stage(clientId, facts) {
    const pending = this.store.state.pending.map((one) =>
      one.event.client_id === clientId ? { ...one, ...facts } : one,
    );
    this.store.set({ pending });
  }

  /** @param {(pending: Pending) => boolean} settled */
  #dropPending(settled) {
    const { pending } = this.store.state;
    if (pending.some(settled)) this.store.set({ pending: pending.filter((one) => !settled(one)) });
  }
}

/** @param {Event} event */
function isState(event) {
  return event.observation === "agent_state_changed";
}
