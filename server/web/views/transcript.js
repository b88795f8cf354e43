/** The transcript: takes events in batches, keeps the reader where he is, marks what is missing. */

import { numberText, texts } from "../language.js";
import { h, slot } from "./dom.js";
import { icon } from "./icons.js";
import { Sheet } from "./sheet.js";
import { Writing } from "./writing.js";

/** @typedef {import("../types.js").Event} Event */
/** @typedef {"retry" | "continues"} Offer */

const FOLD_BUDGET_MS = 4;
const FRAME_BUDGET_MS = 6;
/** While a backlog comes, most of what is painted is soon taken out again. */
const CATCH_UP_PAINT_MS = 250;
const HIDDEN_TAB_MS = 250;
const NEAR_END_PX = 96;
/** Blocks near the reader are painted some frames after he has come there. */
const STEADY_FRAMES = 6;
/** Below this many waiting events the page counts as level. */
const BEHIND_FROM = 20;

/**
 * @typedef {object} TranscriptListener
 * @property {(clientIds: Set<string>) => void} drawn After each batch.
 * @property {(count: number) => void} waiting How many events are yet to be drawn.
 * @property {(count: number) => void} unread How many entries came while the reader was elsewhere.
 * @property {() => void} rewound The reader wants to go to the very beginning, which is not here.
 * @property {(text: string) => void} spoken A new message of the agent, when level with the log.
 */

export class Transcript {
  /** @type {Event[]} */
  #queue = [];
  #scheduled = false;
  #atEnd = true;
  #looked = false;
  #top = 0;
  #paintedAt = -Infinity;
  #unread = 0;
  #rewinds = false;
  /** The event to go to, and for how many frames its entry has stood still. @type {{eventId: number, top: number, steady: number} | null} */
  #sought = null;
  /** @type {import("../timeline.js").Timeline | null} */
  #timeline = null;

  /** The entries that offer to try again, and to go on. @type {Record<Offer, import("../types.js").Entry | null>} */
  #offers = { retry: null, continues: null };

  /** @param {TranscriptListener} listener */
  constructor(listener) {
    this.listener = listener;
    this.scroller = slot("transcript");
    this.list = slot("entries");
    this.sheet = new Sheet(this.list, this.scroller, () => this.#schedule());
    this.writing = new Writing(slot("writing"));
    this.jump = h("button", { type: "button", class: "jump", hidden: true, data: { testid: "jump-latest" }, onclick: () => this.toEnd() });
    this.first = h("button", { type: "button", class: "jump", hidden: true, data: { testid: "jump-beginning" }, onclick: () => listener.rewound() }, icon("send"), texts.transcript.beginning);
    slot("jump").append(this.first, this.jump);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    for (const type of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      this.scroller.addEventListener(type, () => (this.#sought = null), { passive: true });
    }
    document.addEventListener("visibilitychange", () => this.#looks());
    new ResizeObserver(() => this.#follow()).observe(slot("sheet"));
    new ResizeObserver(() => this.#follow()).observe(this.scroller);
  }

  /** Empties the view. @param {import("../timeline.js").Timeline | null} timeline what it shows from now on */
  show(timeline) {
    this.#timeline = timeline;
    this.#queue = [];
    this.#offers = { retry: null, continues: null };
    this.#looked = !document.hidden;
    this.sheet.clear();
    this.writing.clear();
    delete this.list.dataset.repeated;
    this.#atEnd = true;
    this.#sought = null;
    this.#setUnread(0);
    this.#schedule();
  }

  /** @param {Event} event */
  push(event) {
    if (this.#queue.push(event) === 1) this.list.setAttribute("aria-busy", "true");
    this.writing.await(event);
    this.#schedule();
  }

  /** Shows the texts that are being written. @param {import("../partials.js").Held} held */
  write(held) {
    this.writing.hold(held);
    this.#schedule();
  }

  /** Shows events before all others; the reader stays where he is. @param {Event[]} events oldest first */
  precede(events) {
    if (!this.#timeline) return;
    const { added, removed } = this.#timeline.precede(events);
    const held = this.#atEnd ? null : this.#firstSeen(new Set(removed.map(({ id }) => String(id))));
    for (const entry of removed) this.sheet.remove(entry);
    this.sheet.precede(added, held !== null);
    this.list.setAttribute("aria-busy", "true");
    this.#schedule();
    if (!held) return;
    // At the very top browsers do not anchor the scroll position; elsewhere it must not be anchored twice.
    this.scroller.style.overflowAnchor = "none";
    const top = this.list.querySelector(`[data-event-id="${held.id}"]`)?.getBoundingClientRect().top;
    this.scroller.scrollTop += (top ?? held.top) - held.top;
    this.#top = this.scroller.scrollTop;
    this.scroller.style.overflowAnchor = "";
  }

  /** @param {import("../types.js").Entry[]} entries that have changed */
  redraw(entries) {
    for (const entry of entries) this.sheet.update(entry);
  }

  /** @param {boolean} offered whether the beginning is not here yet */
  offerBeginning(offered) {
    this.#rewinds = offered;
    this.first.hidden = this.#atEnd || !offered;
  }

  /**
   * The first visible entry, and its position.
   *
   * @param {Set<string>} leaving ids of those that do not count
   */
  #firstSeen(leaving) {
    const edge = this.scroller.getBoundingClientRect().top;
    for (const entry of this.list.querySelectorAll("article")) {
      const { top, bottom } = entry.getBoundingClientRect();
      const id = entry.dataset.eventId ?? "";
      if (bottom > edge && !leaving.has(id)) return { id, top };
    }
    return null;
  }

  toStart() {
    this.#atEnd = false;
    this.scroller.scrollTop = this.#top = 0;
    this.#setUnread(this.#unread);
    this.#schedule();
  }

  /** Goes to the entry of an event, once all that has come is drawn. @param {number} eventId */
  toEntry(eventId) {
    this.list.querySelector("[data-sought]")?.removeAttribute("data-sought");
    this.#atEnd = false;
    this.#sought = { eventId, top: NaN, steady: 0 };
    this.#schedule();
  }

  /** Keeps the entry that is gone to in the middle until what is around it has its height. */
  #reveal() {
    const sought = this.#sought;
    if (!sought || this.#queue.length > 0) return;
    const entry = this.sheet.reveal(sought.eventId);
    if (!entry) {
      this.#sought = null;
      return;
    }
    const top = entry.getBoundingClientRect().top;
    sought.steady = Math.abs(top - sought.top) < 1 ? sought.steady + 1 : 0;
    entry.dataset.sought = "";
    if (sought.steady < STEADY_FRAMES) {
      entry.scrollIntoView({ block: "center" });
      sought.top = entry.getBoundingClientRect().top;
      this.#top = this.scroller.scrollTop;
      this.#schedule();
      return;
    }
    this.#sought = null;
    entry.tabIndex = -1;
    entry.focus({ preventScroll: true });
    this.#setUnread(this.#unread);
  }

  toEnd() {
    this.#atEnd = true;
    this.sheet.settle(true, 0);
    this.#follow();
    this.#setUnread(0);
    this.#schedule();
  }

  /** The reader has answered: nothing above is new to him. */
  answered() {
    this.sheet.undivide();
    this.toEnd();
  }

  /**
   * @param {Offer} what
   * @param {import("../types.js").Entry | null} entry offers it from now on, and no other does
   */
  offer(what, entry) {
    const before = this.#offers[what];
    if (entry === before) return;
    this.#offers[what] = entry;
    for (const one of [before, entry]) {
      if (!one) continue;
      one[what] = one === entry;
      this.sheet.update(one);
    }
  }

  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const draw = () => this.#draw();
    // Animation frames stop in a hidden tab; its title and marks should not.
    if (document.hidden) setTimeout(draw, HIDDEN_TAB_MS);
    else requestAnimationFrame(draw);
  }

  #draw() {
    this.#scheduled = false;
    const timeline = this.#timeline;
    if (!timeline) return;
    const begun = performance.now();
    const level = this.#queue.length < BEHIND_FROM;
    // The browser would anchor the scroll position to what moves from the end into its entry.
    const moves = !this.#atEnd && this.#queue.some(({ partial }) => partial !== undefined);
    if (moves) this.scroller.style.overflowAnchor = "none";
    const clientIds = this.#fold(timeline, level, begun + FOLD_BUDGET_MS);
    this.writing.draw(this.sheet.lastSource);
    let done = false;
    if (level || begun - this.#paintedAt > CATCH_UP_PAINT_MS) {
      this.#paintedAt = begun;
      done = this.sheet.settle(this.#atEnd, begun + FRAME_BUDGET_MS);
      this.#follow();
      this.#reveal();
    }
    if (moves) {
      this.scroller.scrollTop = this.#top;
      this.scroller.style.overflowAnchor = "";
    }
    this.list.setAttribute("aria-busy", String(this.#queue.length > 0 || !done));
    if (timeline.repeated > 0) this.list.dataset.repeated = String(timeline.repeated);
    this.listener.drawn(clientIds);
    this.listener.waiting(this.#queue.length);
    if (this.#queue.length > 0 || !done) this.#schedule();
  }

  /**
   * @param {import("../timeline.js").Timeline} timeline
   * @param {boolean} live
   * @param {number} until
   * @returns {Set<string>} the client ids of what was taken
   */
  #fold(timeline, live, until) {
    const away = this.#looked && (!this.#atEnd || document.hidden);
    /** @type {Set<string>} */
    const clientIds = new Set();
    let unread = this.#unread;
    let taken = 0;
    while (taken < this.#queue.length && performance.now() < until) {
      const event = this.#queue[taken];
      taken += 1;
      if (event.client_id) clientIds.add(event.client_id);
      const watched = this.writing.take(event);
      const change = timeline.fold(event);
      if (change === null) continue;
      if ("add" in change) change.add.watched = watched;
      if ("update" in change) {
        this.sheet.update(change.update);
        continue;
      }
      if (change.replaces) this.sheet.remove(change.replaces);
      this.sheet.add(change.add, away && unread === 0);
      if (away) unread += 1;
      if (live && event.action === "message" && event.source === "agent") {
        this.listener.spoken(String(event.args?.content ?? ""));
      }
    }
    this.#queue.splice(0, taken);
    if (unread !== this.#unread) this.#setUnread(unread);
    return clientIds;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    // Growth alone also causes a scroll event; only moving up means that the reader left the end.
    if (this.#sought) this.#atEnd = false;
    else if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.#atEnd = true;
    else if (scrollTop < this.#top) this.#atEnd = false;
    this.#top = scrollTop;
    this.#looks();
  }

  #looks() {
    this.#looked ||= !document.hidden;
    this.#setUnread(this.#atEnd && !document.hidden ? 0 : this.#unread);
  }

  #follow() {
    if (!this.#atEnd) return;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    // Set at once, so that a reader who leaves before the scroll event is not pulled back.
    this.#top = this.scroller.scrollTop;
  }

  /** @param {number} count */
  #setUnread(count) {
    this.jump.hidden = this.#atEnd;
    this.first.hidden = this.#atEnd || !this.#rewinds;
    if (count === this.#unread && this.jump.childElementCount > 0) return;
    this.#unread = count;
    this.jump.replaceChildren(icon("down"), count > 0 ? texts.transcript.fresh(numberText(count)) : texts.transcript.latest);
    this.jump.setAttribute("aria-label", count > 0 ? texts.transcript.toFresh(numberText(count)) : texts.transcript.toLatest);
    this.listener.unread(count);
  }
}
