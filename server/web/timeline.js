/** Folds events into entries of the transcript: an action and what it led to are one entry. */

import { ASKING } from "./asking.js";

/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./types.js").Event} Event */

/**
 * @typedef {{add: Entry, replaces?: Entry} | {update: Entry}} Change
 */

const UNDRAWN_ACTIONS = new Set([
  "system",
  "recall",
  "change_agent_state",
  "condensation",
  "condensation_request",
  "loop_recovery",
  "null",
]);
const UNDRAWN_OBSERVATIONS = new Set([
  "agent_state_changed",
  "recall",
  "think",
  "condense",
  "loop_detection",
  "turn_ended",
  "null",
]);

/** Commands that decide about an action, and whether they approve it. */
const DECISIONS = new Map([
  ["user_confirmed", true],
  ["user_rejected", false],
]);
/** Kinds about which a person is asked, although they do not say so themselves. */
const ASKED_KINDS = new Set(["browse_interactive", "edit", "read"]);
/** Assessed risks at which nobody is asked. */
const SMALL_RISKS = new Set([0, 1]);

export class Timeline {
  /** Keys of the decisions that were made here. @type {Set<string>} */
  ownKeys = new Set();

  /** The newest action that was decided elsewhere. @type {Entry | null} */
  decided = null;

  /** Events that arrived more than once; stays 0 with a server that keeps its promise. */
  repeated = 0;

  /** Id of the last event folded, -1 for none. */
  lastId = -1;

  /** The newest failure that no message of the user follows. @type {Entry | null} */
  failure = null;

  /** The newest message of the agent that is not whole, unless a message follows. @type {Entry | null} */
  cutOff = null;

  #seen = new Set();

  /** @type {Map<number, Entry>} */
  #byAction = new Map();

  /** Observations drawn alone, by the action they answer, which may come with older events. @type {Map<number, Entry>} */
  #unclaimed = new Map();

  /** Actions that wait for a person, or were decided and not yet carried out. @type {Map<number, Entry>} */
  #questions = new Map();

  /** Decisions on questions among older events, by their ids. @type {Map<number, Entry["decided"]>} */
  #decisions = new Map();

  /** Actions that stand for questions among older events, by the ids of these. @type {Map<number, Entry>} */
  #repeated = new Map();

  /** The first action that may be the decision on a question among older events. @type {Event | null} */
  #firstDecided = null;

  /** Whether what the agent wants to do now waits for a person; null before the first state. @type {boolean | null} */
  #asks = null;

  /** Whether the events come as they happen. */
  #isLive = true;

  /** Whether a message of the user follows what is older. */
  #answered = false;

  /** Whether a message of anybody follows what is older. */
  #followed = false;

  /** The actions that wait for a person's decision, oldest first. @returns {Entry[]} */
  get open() {
    return [...this.#questions.values()].filter(({ decided }) => !decided).sort((one, other) => one.id - other.id);
  }

  /**
   * Notes which actions wait for a person, also those that are not loaded.
   *
   * @param {import("./types.js").Approval[]} approvals
   * @returns {Entry[]} those of which it was not known that they have expired
   */
  await(approvals) {
    for (const { id, action } of approvals) {
      const isKnown = this.#seen.has(id) || this.#questions.has(id) || this.#decisions.has(id);
      if (!isKnown) this.#ask(entryOf(action, action, null));
    }
    const over = approvals.filter(({ id, expired }) => expired && !this.#questions.get(id)?.expired);
    const entries = over.flatMap(({ id }) => this.#questions.get(id) ?? []);
    for (const entry of entries) entry.expired = true;
    return entries;
  }

  /**
   * @param {Event} event
   * @returns {Change | null} null when nothing is to be drawn
   */
  fold(event) {
    if (typeof event.id !== "number") return null;
    if (this.#seen.has(event.id)) {
      if (event.observation !== "agent_state_changed") this.repeated += 1;
      return null;
    }
    this.#seen.add(event.id);
    this.lastId = Math.max(this.lastId, event.id);
    if (event.args?.hidden === true || event.extras?.hidden === true) return null;
    return event.action ? this.#action(event) : this.#observation(event);
  }

  /**
   * Folds events that directly precede those already folded.
   *
   * @param {Event[]} events oldest first
   * @returns {{added: Entry[], removed: Entry[]}} new entries in their order; those that became part of one
   */
  precede(events) {
    const older = new Timeline();
    older.#isLive = false;
    /** @type {Set<Entry>} */
    const added = new Set();
    /** @type {Entry[]} */
    const removed = [];
    for (const event of events) {
      if (this.#seen.has(event.id)) {
        if (event.observation !== "agent_state_changed") this.repeated += 1;
        continue;
      }
      const change = older.fold(event);
      if (change === null || "update" in change) continue;
      if (change.replaces) added.delete(change.replaces);
      added.add(change.add);
    }
    for (const [cause, entry] of this.#unclaimed) {
      const action = older.#byAction.get(cause);
      if (!action) continue;
      action.observation = entry.observation;
      older.#answer(action);
      removed.push(entry);
      this.#unclaimed.delete(cause);
    }
    for (const question of older.open) {
      const repeated = this.#repeated.get(question.id);
      question.decided = this.#decisions.get(question.id);
      question.asks = !question.decided;
      if (repeated) supersede(question, repeated);
      if (!repeated && !(this.#firstDecided && sameDeed(question.action, this.#firstDecided))) continue;
      older.#answer(question);
      added.delete(question);
    }
    if (!this.#answered) this.failure ??= older.failure;
    if (!this.#followed) this.cutOff = older.cutOff;
    this.#take(older);
    return { added: [...added], removed };
  }

  /** Knows what another one knows, which is older. @param {Timeline} older */
  #take(older) {
    this.repeated += older.repeated;
    this.lastId = Math.max(this.lastId, older.lastId);
    this.#firstDecided = older.#firstDecided ?? this.#firstDecided;
    this.#asks ??= older.#asks;
    for (const [id, entry] of older.#questions) this.#questions.set(id, withAnswer(entry, this.#questions.get(id)));
    for (const [id, decided] of older.#decisions) this.#decisions.set(id, decided);
    for (const [id, entry] of older.#repeated) this.#repeated.set(id, entry);
    this.#answered ||= older.#answered;
    this.#followed ||= older.#followed;
    for (const id of older.#seen) this.#seen.add(id);
    for (const [id, entry] of older.#byAction) this.#byAction.set(id, entry);
    for (const [id, entry] of older.#unclaimed) this.#unclaimed.set(id, entry);
  }

  /**
   * @param {Event} event
   * @returns {Change | null}
   */
  #action(event) {
    if (event.action === "change_agent_state") return this.#decide(event);
    if (UNDRAWN_ACTIONS.has(event.action ?? "")) return null;
    const entry = entryOf(event, event, null);
    this.#byAction.set(entry.id, entry);
    if (event.action === "message") {
      this.#followed = true;
      this.cutOff = event.interrupted ? entry : null;
    }
    if (event.action === "message" && event.source === "user") {
      this.#answered = true;
      this.failure = null;
    }
    // An action that was decided stands in the log again, and so does one that the agent asks about later.
    const before = this.#repeats(event);
    if (before) {
      supersede(before, entry);
      this.#answer(before);
    }
    if (event.cause !== undefined && !this.#seen.has(event.cause)) this.#repeated.set(event.cause, entry);
    if (this.#isAsked(event, before)) this.#ask(entry);
    return before ? { add: entry, replaces: before } : { add: entry };
  }

  /**
   * The entry of the same action as it was before.
   *
   * @param {Event} event
   * @returns {Entry | undefined}
   */
  #repeats(event) {
    if (event.cause !== undefined) {
      const question = this.#questions.get(event.cause);
      if (question) return question;
      const named = this.#byAction.get(event.cause);
      return named && !named.observation && sameDeed(named.action, event) ? named : undefined;
    }
    // Servers of version 0.1 did not name it.
    const state = event.args?.confirmation_state;
    if (!state || state === "awaiting_confirmation") return undefined;
    this.#firstDecided ??= event;
    return [...this.#questions.values()].find(({ action }) => sameDeed(action, event));
  }

  /**
   * @param {Event} event
   * @param {Entry | undefined} before the action that it repeats
   */
  #isAsked({ action, args, source }, before) {
    const state = args?.confirmation_state;
    if (state !== undefined) return state === "awaiting_confirmation";
    if (!this.#asks || source !== "agent") return false;
    return before ? !before.decided : ASKED_KINDS.has(action ?? "") && !SMALL_RISKS.has(args?.security_risk);
  }

  /** @param {Entry} entry */
  #ask(entry) {
    entry.asks = true;
    this.#questions.set(entry.id, entry);
  }

  /** Nobody has to decide about it any more. @param {Entry} entry */
  #answer(entry) {
    entry.asks = false;
    this.#questions.delete(entry.id);
  }

  /**
   * Notes a person's decision, of two on the same question the first, or that the question was asked again.
   *
   * @param {Event} command
   * @returns {Change | null}
   */
  #decide({ args, source, client_id, timestamp }) {
    const expired = this.#questions.get(args?.of);
    if (expired?.expired && args?.agent_state === ASKING) {
      expired.expired = false;
      return { update: expired };
    }
    const approved = DECISIONS.get(args?.agent_state);
    if (approved === undefined || source !== "user") return null;
    const own = client_id !== undefined && this.ownKeys.has(client_id);
    /** @type {Entry["decided"]} */
    const decided = { approved, at: timestamp ?? "", by: own ? "you" : this.#isLive ? "elsewhere" : "", edited: args?.edit !== undefined, always: args?.always };
    const of = args?.of ?? this.open.at(-1)?.id;
    if (of === undefined || this.#decisions.has(of)) return null;
    this.#decisions.set(of, decided);
    const question = this.#questions.get(of);
    if (!question) return null;
    question.decided = decided;
    question.asks = false;
    if (decided.by === "elsewhere") this.decided = question;
    return { update: question };
  }

  /**
   * @param {Event} event
   * @returns {Change | null}
   */
  #observation(event) {
    if (event.observation === "agent_state_changed") this.#asks = event.extras?.agent_state === ASKING;
    if (UNDRAWN_OBSERVATIONS.has(event.observation ?? "")) return null;
    const cause = event.cause === undefined ? undefined : this.#byAction.get(event.cause);
    if (!cause) {
      const entry = entryOf(event, null, event);
      if (isFailure(event)) this.failure = entry;
      if (event.cause !== undefined) {
        this.#questions.delete(event.cause);
        this.#unclaimed.set(event.cause, entry);
      }
      return { add: entry };
    }
    cause.observation = event;
    this.#answer(cause);
    return { update: cause };
  }
}

/** Whether it says why the agent does not go on: an error that answers no action. @param {Event} event */
export function isFailure(event) {
  return event.observation === "error" && (event.cause ?? null) === null;
}

/**
 * @param {Event} event
 * @param {Event | null} action
 * @param {Event | null} observation
 * @returns {Entry}
 */
function entryOf(event, action, observation) {
  return {
    id: Number(event.id),
    name: String(event.action ?? event.observation ?? "unknown"),
    source: event.source ?? "environment",
    at: event.timestamp ?? "",
    action,
    observation,
  };
}

/**
 * Takes over what a person has written as an answer, and that the time for it is over.
 *
 * @param {Entry} entry
 * @param {Entry} [known] the same one
 */
function withAnswer(entry, known) {
  if (!known) return entry;
  const { expired, reason, always, draft } = known;
  return Object.assign(entry, { expired, reason, always, draft });
}

/**
 * Takes over what is known of an entry that is removed.
 *
 * @param {Entry} before
 * @param {Entry} entry
 */
function supersede(before, entry) {
  entry.decided = before.decided;
  entry.asked = before.asked ?? before.action ?? undefined;
}

/**
 * @param {Event | null} asked
 * @param {Event} done
 */
function sameDeed(asked, done) {
  if (!asked || asked.action !== done.action) return false;
  return ["command", "code", "path", "url", "name", "browser_actions"].every(
    (field) => asked.args?.[field] === done.args?.[field],
  );
}
