/** The transcript: draws events in batches, keeps the reader where he is, marks what is missing. */

import { h, slot } from "./dom.js";
import { entryElement } from "./entries.js";
import { icon } from "./icons.js";

/** @typedef {import("../types.js").Event} Event */

const FRAME_BUDGET_MS = 10;
const HIDDEN_TAB_MS = 250;
const NEAR_END_PX = 96;
/** Below this many waiting events the page counts as level. */
const BEHIND_FROM = 20;

/**
 * @typedef {object} TranscriptListener
 * @property {(clientIds: Set<string>, live: boolean) => void} drawn After each batch.
 * @property {(count: number) => void} waiting How many events are yet to be drawn.
 * @property {(text: string) => void} spoken A new message of the agent, when level with the log.
 */

export class Transcript {
  /** @type {Event[]} */
  #queue = [];
  #scheduled = false;
  #atEnd = true;
  #top = 0;
  #unread = 0;
  /** @type {Map<number, HTMLElement>} */
  #elements = new Map();
  /** @type {import("../timeline.js").Timeline | null} */
  #timeline = null;

  /** @param {TranscriptListener} listener */
  constructor(listener) {
    this.listener = listener;
    this.scroller = slot("transcript");
    this.list = slot("entries");
    this.jump = h("button", { type: "button", class: "jump", hidden: true, data: { testid: "jump-latest" }, onclick: () => this.toEnd() });
    slot("jump").append(this.jump);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#settle()).observe(slot("sheet"));
    new ResizeObserver(() => this.#settle()).observe(this.scroller);
  }

  /** Empties the view. @param {import("../timeline.js").Timeline | null} timeline what it shows from now on */
  show(timeline) {
    this.#timeline = timeline;
    this.#queue = [];
    this.#elements.clear();
    this.list.replaceChildren();
    delete this.list.dataset.repeated;
    this.toEnd();
  }

  /** @param {Event} event */
  push(event) {
    this.#queue.push(event);
    this.#schedule();
  }

  toEnd() {
    this.#atEnd = true;
    this.#settle();
    this.#setUnread(0);
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const draw = () => this.#draw();
    // Animation frames stand still in a hidden tab; its title and marks should not.
    if (document.hidden) setTimeout(draw, HIDDEN_TAB_MS);
    else requestAnimationFrame(draw);
  }

  #draw() {
    this.#scheduled = false;
    const timeline = this.#timeline;
    if (!timeline) return;
    const live = this.#queue.length < BEHIND_FROM;
    const until = performance.now() + FRAME_BUDGET_MS;
    const batch = document.createDocumentFragment();
    /** @type {Set<string>} */
    const clientIds = new Set();
    let taken = 0;
    while (taken < this.#queue.length && performance.now() < until) {
      const event = this.#queue[taken];
      taken += 1;
      if (event.client_id) clientIds.add(event.client_id);
      this.#place(timeline, event, batch, live);
    }
    this.#queue.splice(0, taken);
    if (!this.#atEnd) this.#setUnread(this.#unread + batch.childElementCount);
    this.list.append(batch);
    if (timeline.repeated > 0) this.list.dataset.repeated = String(timeline.repeated);
    this.listener.drawn(clientIds, live);
    this.listener.waiting(this.#queue.length);
    this.#settle();
    if (this.#queue.length > 0) this.#schedule();
  }

  /**
   * @param {import("../timeline.js").Timeline} timeline
   * @param {Event} event
   * @param {DocumentFragment} batch
   * @param {boolean} live
   */
  #place(timeline, event, batch, live) {
    const change = timeline.fold(event);
    if (change === null) return;
    if ("update" in change) {
      const before = this.#elements.get(change.update.id);
      const after = entryElement(change.update, before?.dataset.continued === "true");
      this.#elements.set(change.update.id, after);
      before?.replaceWith(after);
      return;
    }
    if (change.replaces) this.#elements.get(change.replaces.id)?.remove();
    const last = /** @type {HTMLElement | null} */ (batch.lastElementChild ?? this.list.lastElementChild);
    const element = entryElement(change.add, last?.dataset.source === change.add.source);
    this.#elements.set(change.add.id, element);
    batch.append(element);
    if (live && event.action === "message" && event.source === "agent") {
      this.listener.spoken(String(event.args?.content ?? ""));
    }
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    // Growth alone also ends in a scroll event; only moving up means that the reader left the end.
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#atEnd = true;
    else if (scrollTop < this.#top) this.#atEnd = false;
    this.#top = scrollTop;
    if (this.#atEnd) this.#setUnread(0);
    this.jump.hidden = this.#atEnd;
  }

  #settle() {
    if (this.#atEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** @param {number} count */
  #setUnread(count) {
    this.#unread = count;
    this.jump.hidden = this.#atEnd;
    this.jump.replaceChildren(icon("down"), count > 0 ? `${count} new` : "Latest");
  }
}
