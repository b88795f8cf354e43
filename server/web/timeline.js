/** Folds events into entries of the transcript: an action and what it led to are one entry. */

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

export class Timeline {
  /** Events that arrived more than once; stays 0 with a server that keeps its promise. */
  repeated = 0;

  /** Id of the last event folded, -1 for none. */
  lastId = -1;

  /** The newest action that waits for the user. @type {Entry | null} */
  awaiting = null;

  /** The newest failure that no message of the user follows. @type {Entry | null} */
  failure = null;

  /** The newest message of the agent that is not whole, unless a message follows. @type {Entry | null} */
  cutOff = null;

  #seen = new Set();

  /** @type {Map<number, Entry>} */
  #byAction = new Map();

  /** Observations drawn alone, by the action they answer, which may come with older events. @type {Map<number, Entry>} */
  #unclaimed = new Map();

  /** The first action that may be the decision on a question among older events. @type {Event | null} */
  #firstDecided = null;

  /** Whether a message of the user follows what is older. */
  #answered = false;

  /** Whether a message of anybody follows what is older. */
  #followed = false;

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
      if (older.awaiting === action) older.awaiting = null;
      removed.push(entry);
      this.#unclaimed.delete(cause);
    }
    const asked = older.awaiting;
    if (asked && this.#firstDecided && sameDeed(asked.action, this.#firstDecided)) added.delete(asked);
    else this.awaiting ??= asked;
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
    const asked = this.awaiting;
    if (event.args?.confirmation_state === "awaiting_confirmation") {
      this.awaiting = entry;
      return { add: entry };
    }
    if (event.args?.confirmation_state) this.#firstDecided ??= event;
    if (asked && sameDeed(asked.action, event)) {
      // The decision appends the action again; the question is then obsolete.
      this.awaiting = null;
      return { add: entry, replaces: asked };
    }
    return { add: entry };
  }

  /**
   * @param {Event} event
   * @returns {Change | null}
   */
  #observation(event) {
    if (UNDRAWN_OBSERVATIONS.has(event.observation ?? "")) return null;
    const cause = event.cause === undefined ? undefined : this.#byAction.get(event.cause);
    if (!cause) {
      const entry = entryOf(event, null, event);
      if (isFailure(event)) this.failure = entry;
      if (event.cause !== undefined) this.#unclaimed.set(event.cause, entry);
      return { add: entry };
    }
    cause.observation = event;
    if (this.awaiting === cause) this.awaiting = null;
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
 * @param {Event | null} asked
 * @param {Event} done
 */
function sameDeed(asked, done) {
  if (!asked || asked.action !== done.action) return false;
  return ["command", "code", "path", "url", "name", "browser_actions"].every(
    (field) => asked.args?.[field] === done.args?.[field],
  );
}
