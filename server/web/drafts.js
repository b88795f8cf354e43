/** What is written and not sent yet, by conversation; it outlives a reload. */

import { slotName } from "./base.js";
import { loadMap } from "./kept.js";
import { readSessionKey, remembersKey } from "./session-key.js";

const SLOT = slotName("parley.drafts");
const MOST_DRAFTS = 50;
/** Of all that are kept in the browser. A longer one lives as long as the page. */
const MOST_CHARACTERS = 200_000;
const PAUSE_MS = 400;

export class Drafts {
  /** @type {Map<string, string>} */
  #texts = loadMap(SLOT, place);
  /** Those that the browser does not have yet. @type {Set<string>} */
  #changed = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon;

  constructor() {
    addEventListener("pagehide", () => this.#keep());
    document.addEventListener("visibilitychange", () => document.hidden && this.#keep());
  }

  /** The draft of a conversation; "" is the front page's key. @param {string} id */
  of(id) {
    return this.#texts.get(id) ?? "";
  }

  /** @param {string} id @param {string} text "" for none any more */
  set(id, text) {
    if (text === this.of(id)) return;
    this.#texts.delete(id);
    if (text) this.#texts.set(id, text);
    this.#changed.add(id);
    clearTimeout(this.#soon);
    // What was sent is gone at once: a page that ends now must not bring it back.
    if (text) this.#soon = setTimeout(() => this.#keep(), PAUSE_MS);
    else this.#keep();
  }

  /** Reads them again after the session key has changed. @param {boolean} anew whether those known until now go */
  reload(anew) {
    if (anew) for (const id of [...this.#texts.keys()]) this.set(id, "");
    this.#texts = loadMap(SLOT, place);
  }

  #keep() {
    clearTimeout(this.#soon);
    if (this.#changed.size === 0) return;
    // Other tabs keep theirs in the same place: only what was changed here is replaced.
    /** @type {Map<string, string>} */
    const kept = loadMap(SLOT, place);
    for (const id of this.#changed) {
      const text = this.of(id);
      kept.delete(id);
      if (text) kept.set(id, text);
    }
    this.#changed.clear();
    try {
      place().setItem(SLOT, JSON.stringify(newest([...kept])));
    } catch {
      // Storage is full or forbidden: drafts are known as long as the page is open.
    }
  }
}

/** Where a session key is kept for this tab only, drafts are, too. */
function place() {
  return readSessionKey() !== null && !remembersKey() ? sessionStorage : localStorage;
}

/** The last ones that there is room for. @param {[string, string][]} drafts */
function newest(drafts) {
  let left = MOST_CHARACTERS;
  const kept = [];
  for (const [id, text] of drafts.slice(-MOST_DRAFTS).reverse()) {
    if (text.length > left) continue;
    left -= text.length;
    kept.unshift([id, text]);
  }
  return kept;
}
