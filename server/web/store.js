/** The page's state: one plain object, replaced field by field, watched by field. */

import { ApiError } from "./http.js";

/** @typedef {import("./types.js").State} State */

/** @type {import("./types.js").ListFilter} */
export const NO_FILTER = { text: "", repository: "", trigger: "", since: "" };

/** What belongs to the open conversation and is forgotten with it. @returns {Partial<State>} */
export function blankConversation() {
  return {
    openId: null,
    title: null,
    missing: false,
    connection: "idle",
    polls: false,
    earlier: { left: 0, stage: "ready" },
    behind: 0,
    newEntries: 0,
    usage: null,
    agentState: "",
    waits: "",
    status: "",
    awaiting: null,
    questions: 0,
    expired: false,
    asked: "",
    allowed: [],
    decided: null,
    failure: null,
    cutOff: null,
    sent: false,
    writes: false,
    pending: [],
    notices: {},
  };
}

export class Store {
  /** @type {State} */
  state = /** @type {State} */ ({
    conversations: [],
    nextPage: null,
    listStage: "loading",
    filter: NO_FILTER,
    unread: new Set(),
    asking: new Set(),
    removals: [],
    reached: true,
    needsKey: false,
    refusal: "",
    examples: [],
    ...blankConversation(),
  });

  /** @type {Map<string, Set<() => void>>} */
  #watchers = new Map();

  /**
   * Replaces fields; the watchers of fields that changed run once, before this returns.
   *
   * @param {Partial<State>} change
   */
  set(change) {
    /** @type {Set<() => void>} */
    const due = new Set();
    for (const [field, value] of Object.entries(change)) {
      const state = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (this.state));
      if (Object.is(state[field], value)) continue;
      state[field] = value;
      for (const watcher of this.#watchers.get(field) ?? []) due.add(watcher);
    }
    for (const watcher of due) watcher();
  }

  /**
   * Runs `watcher` now and whenever one of the fields changes.
   *
   * @param {(keyof State)[]} fields
   * @param {() => void} watcher
   */
  watch(fields, watcher) {
    for (const field of fields) {
      const set = this.#watchers.get(field) ?? new Set();
      set.add(watcher);
      this.#watchers.set(field, set);
    }
    watcher();
  }

  /** Says why a request failed; that a person may not come in, a dialog says. @param {unknown} error */
  complain(error) {
    if (error instanceof ApiError && error.keepsOut) return;
    this.notice("request", error instanceof Error ? error.message : String(error));
  }

  /**
   * Shows the notice of one kind; an empty text removes it.
   *
   * @param {keyof State["notices"]} kind
   * @param {string} text
   */
  notice(kind, text) {
    if ((this.state.notices[kind] ?? "") === text) return;
    const notices = { ...this.state.notices };
    if (text) notices[kind] = text;
    else delete notices[kind];
    this.set({ notices });
  }
}
