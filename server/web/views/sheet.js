/**
 * The entries as blocks, of which only those around the reader are in the document: 10,000 entries
 * cost what a few hundred do.
 */

import { dayOf, sameDay } from "../clock.js";
import { Block } from "./block.js";

/** @typedef {import("../types.js").Entry} Entry */

const BLOCK_ENTRIES = 12;
/** So many entries the browser's own search finds, and a screen reader can walk through. */
const MOST_PAINTED_BLOCKS = 50;
const FIRST_GUESS_PX = 72;

export class Sheet {
  /** @type {Block[]} */
  #blocks = [];
  /** @type {Map<number, Block>} */
  #byEntry = new Map();
  /** @type {Set<Block>} */
  #near = new Set();
  /** @type {Set<Block>} */
  #grown = new Set();
  /** @type {Block | null} */
  #divided = null;
  #entryHeight = FIRST_GUESS_PX;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} scroller
   * @param {() => void} moved Other blocks came near.
   */
  constructor(list, scroller, moved) {
    this.list = list;
    this.observer = new IntersectionObserver(
      (changes) => {
        for (const { target, isIntersecting } of changes) {
          const block = this.#blocks.find(({ element }) => element === target);
          if (block && isIntersecting) this.#near.add(block);
          else if (block) this.#near.delete(block);
        }
        moved();
      },
      { root: scroller, rootMargin: "100% 0px" },
    );
  }

  clear() {
    this.observer.disconnect();
    this.#blocks = [];
    this.#byEntry.clear();
    this.#near.clear();
    this.#grown.clear();
    this.#divided = null;
    this.list.replaceChildren();
  }

  /**
   * @param {Entry} entry
   * @param {boolean} divided Whether the unread ones begin here, and no longer elsewhere.
   */
  add(entry, divided) {
    if (divided) this.undivide();
    const last = this.#last;
    const block = this.#open();
    this.#byEntry.set(entry.id, block);
    block.add({ entry, divided, ...between(last, entry) });
    if (divided) this.#divided = block;
    if (!block.painted) this.#grown.add(block);
  }

  /**
   * Adds entries before all others.
   *
   * @param {Entry[]} entries
   * @param {boolean} painted Whether they are to be there at once, so that their height is known.
   */
  precede(entries, painted) {
    const first = this.#blocks.find(({ places }) => places.length > 0)?.places[0];
    /** @type {Block[]} */
    const blocks = [];
    /** @type {Entry | undefined} */
    let last;
    for (const entry of entries) {
      let block = blocks.at(-1);
      if (!block || block.places.length === BLOCK_ENTRIES) blocks.push((block = new Block()));
      this.#byEntry.set(entry.id, block);
      block.add({ entry, divided: false, ...between(last, entry) });
      last = entry;
    }
    for (const block of blocks) {
      if (painted && blocks.length <= MOST_PAINTED_BLOCKS / 2) block.paint();
      else block.reserve(this.#entryHeight);
    }
    this.#blocks.unshift(...blocks);
    this.list.prepend(...blocks.map(({ element }) => element));
    for (const { element } of blocks) this.observer.observe(element);
    if (!first || !last) return;
    Object.assign(first, between(last, first.entry));
    this.#byEntry.get(first.entry.id)?.redraw(first.entry.id);
  }

  /** @param {Entry} entry */
  update(entry) {
    this.#byEntry.get(entry.id)?.redraw(entry.id);
  }

  /** @param {Entry} entry */
  remove(entry) {
    this.#byEntry.get(entry.id)?.remove(entry.id);
    this.#byEntry.delete(entry.id);
  }

  /**
   * Paints the entry of an event: its own, or the one before, into which it went.
   *
   * @param {number} eventId
   * @returns {HTMLElement | null}
   */
  reveal(eventId) {
    /** @type {[Block, number] | null} */
    let found = null;
    for (const block of this.#blocks) {
      for (const { entry } of block.places) if (entry.id <= eventId) found = [block, entry.id];
    }
    if (!found) return null;
    const [block, id] = found;
    if (!block.painted) block.paint();
    return block.element.querySelector(`[data-event-id="${id}"]`);
  }

  /** Takes the mark before the unread ones away. */
  undivide() {
    const place = this.#divided?.places.find(({ divided }) => divided);
    if (place) {
      place.divided = false;
      this.#divided?.redraw(place.entry.id);
    }
    this.#divided = null;
  }

  /**
   * Paints the blocks that belong into the document, nearest first, and removes those far away.
   *
   * @param {boolean} atEnd Whether the reader is, or is to be, at the end.
   * @param {number} until When to stop, on the clock of `performance.now`; one block is painted anyway.
   * @returns {boolean} whether everything is there
   */
  settle(atEnd, until) {
    const centre = atEnd ? this.#blocks.length - 1 : this.#centre();
    const last = this.#blocks.length;
    const from = Math.max(0, Math.min(centre - MOST_PAINTED_BLOCKS / 2, last - MOST_PAINTED_BLOCKS));
    const wanted = this.#blocks.slice(from, from + MOST_PAINTED_BLOCKS);
    // Measured before anything is changed, so that one frame computes the layout once.
    this.#empty(new Set(wanted));
    for (const block of this.#grown) if (!block.painted) block.reserve(this.#entryHeight);
    this.#grown.clear();
    const missing = wanted
      .map((block, at) => ({ block, distance: Math.abs(from + at - centre) }))
      .filter(({ block }) => !block.painted)
      .sort((one, other) => one.distance - other.distance);
    while (missing.length > 0) {
      missing.shift()?.block.paint();
      if (performance.now() >= until) break;
    }
    return missing.length === 0;
  }

  /** Who speaks in the last entry. */
  get lastSource() {
    return this.#last?.source;
  }

  get #last() {
    return this.#blocks.findLast(({ places }) => places.length > 0)?.places.at(-1)?.entry;
  }

  /** The block entries are added to. */
  #open() {
    const last = this.#blocks.at(-1);
    if (last && last.places.length < BLOCK_ENTRIES) return last;
    const block = new Block();
    this.#blocks.push(block);
    this.list.append(block.element);
    this.observer.observe(block.element);
    return block;
  }

  /** Number of the block in the middle of what is near. */
  #centre() {
    const numbers = [...this.#near].map((block) => this.#blocks.indexOf(block));
    if (numbers.length === 0) return this.#blocks.length - 1;
    return Math.round((Math.min(...numbers) + Math.max(...numbers)) / 2);
  }

  /** @param {Set<Block>} wanted */
  #empty(wanted) {
    const far = this.#blocks.filter((block) => block.painted && !wanted.has(block));
    if (far.length === 0) return;
    const selection = getSelection();
    const selected = selection?.isCollapsed === false ? selection : null;
    const leaving = far.filter((block) => !block.holds(selected));
    for (const block of leaving) block.measure();
    const height = leaving.reduce((sum, { element }) => sum + element.offsetHeight, 0);
    const entries = leaving.reduce((sum, { places }) => sum + places.length, 0);
    if (entries > 0) this.#entryHeight = (this.#entryHeight + height / entries) / 2;
    for (const block of leaving) block.empty();
  }
}

/**
 * The attributes of an entry that depend on its neighbour.
 *
 * @param {Entry | undefined} before
 * @param {Entry} entry
 */
function between(before, entry) {
  // If everything is of today, no heading is needed.
  const day = sameDay(entry.at, before?.at ?? Date.now()) ? "" : dayOf(entry.at);
  return { day, continued: before?.source === entry.source };
}
