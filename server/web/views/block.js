/** A run of entries that is put into the document and taken out of it as one. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { entryElement } from "./entries.js";

/** @typedef {import("../types.js").Entry} Entry */

/**
 * @typedef {object} Place An entry and what its neighbourhood makes of it.
 * @property {Entry} entry
 * @property {string} day The day that begins here, or "".
 * @property {boolean} continued Whether the same speaker spoke just before.
 * @property {boolean} divided Whether the unread ones begin here.
 */

export class Block {
  /** @type {Place[]} */
  places = [];
  element = h("div", { class: "block" });
  painted = false;

  /** The height it had when it was last painted, as long as it holds the same entries. */
  #height = 0;
  #measured = 0;

  /** @param {Place} place */
  add(place) {
    this.places.push(place);
    if (this.painted) this.element.append(...nodes(place));
  }

  /**
   * Draws an entry again, or not yet when the block is not painted.
   *
   * @param {number} entryId
   */
  redraw(entryId) {
    const place = this.places.find(({ entry }) => entry.id === entryId);
    const before = this.#find(entryId);
    if (!place || !before) return;
    unmark(before);
    before.replaceWith(...nodes(place));
  }

  /** @param {number} entryId */
  remove(entryId) {
    this.places = this.places.filter(({ entry }) => entry.id !== entryId);
    const element = this.#find(entryId);
    if (!element) return;
    unmark(element);
    element.remove();
  }

  paint() {
    this.painted = true;
    this.element.style.height = "";
    this.element.replaceChildren(...this.places.flatMap(nodes));
  }

  /** To be called for all blocks that are to be emptied before the first of them is. */
  measure() {
    this.#height = this.element.offsetHeight;
    this.#measured = this.places.length;
  }

  /** Its height stays what `measure` found. */
  empty() {
    this.painted = false;
    this.element.replaceChildren();
    this.reserve(0);
  }

  /**
   * Reserves the height it will need, as far as it is known.
   *
   * @param {number} entryHeight What an entry takes on the average.
   */
  reserve(entryHeight) {
    const height = this.#height + (this.places.length - this.#measured) * entryHeight;
    this.element.style.height = `${Math.round(height)}px`;
  }

  /**
   * Whether the reader interacts with it, so that it has to stay.
   *
   * @param {Selection | null} selection What is selected, if anything is.
   */
  holds(selection) {
    return this.element.contains(document.activeElement) || (selection?.containsNode(this.element, true) ?? false);
  }

  /**
   * @param {number} entryId
   * @returns {HTMLElement | null}
   */
  #find(entryId) {
    return this.painted ? this.element.querySelector(`:scope > [data-event-id="${entryId}"]`) : null;
  }
}

/**
 * @param {Place} place
 * @returns {HTMLElement[]}
 */
function nodes({ entry, day, continued, divided }) {
  const marks = [];
  if (day) marks.push(h("p", { class: "divider divider--day", role: "separator", "aria-label": day, data: { testid: "day" } }, h("time", { datetime: entry.at }, day)));
  if (divided) marks.push(h("p", { class: "divider", role: "separator", "aria-label": texts.transcript.newFromHere, data: { testid: "unread-divider" } }, h("span", {}, texts.transcript.new)));
  return [...marks, entryElement(entry, continued && marks.length === 0)];
}

/** Takes away what stands before an entry because of it. @param {HTMLElement} element */
function unmark(element) {
  while (element.previousElementSibling?.matches(".divider")) element.previousElementSibling.remove();
}
