/**
 * The text of a paragraph, a heading, an item or a cell that is being written. Only its end is read and drawn again for
 * each piece; what stands before is settled: it was parted from the end where no mark is open, so that more text cannot
 * change it.
 */

import { inlineTokensOf, inlines } from "./markdown.js";

/** @typedef {import("./markdown.js").Token} Token */

/** A shorter end is not parted. */
const SHORT_CHARACTERS = 500;
/** An end of this length is parted although a mark is open. All of the text is drawn anew when it is whole. */
const LONG_CHARACTERS = 1_500;
/** What may be the beginning of something that ends later, beyond a blank. */
const OPENING = /[`$\\]|\]\(|\*(?!\s)|~(?!\s)|(?<![\p{L}\p{N}])_(?!\s)|<(?=[a-z/!?])|\[(?![^[\]]*\])/iu;
/** Kinds that end with their own last character. */
const CLOSED = new Set(["strong", "em", "del", "codespan", "link", "image", "formula"]);
/** What the parser makes of a backslash that may begin a formula. */
const FORMULA = new Set(["\\(", "\\["]);

export class GrowingText {
  /** The text whose look is settled. */
  settled = "";
  /** What shows that. @type {Node[]} */
  #settledNodes = [];
  /** Whether it was parted where a mark is open. */
  #hasGuessed = false;

  /** The text behind it. */
  #end = "";
  /** @type {Token[]} */
  #tokens = [];
  /** What shows them, a node for each. @type {Node[]} */
  #shown = [];

  /**
   * @param {Element} element shows the text at its end
   * @param {Node[]} nodes what of it shows the text
   * @param {string} text
   * @param {Token[]} tokens
   * @param {number} depth how many quotes and lists it stands in
   */
  constructor(element, nodes, text, tokens, depth) {
    this.element = element;
    this.depth = depth;
    this.#end = text;
    this.#tokens = tokens;
    this.#shown = nodes;
    this.#settle();
  }

  /** What shows the text. @returns {Node[]} */
  get nodes() {
    return [...this.#settledNodes, ...this.#shown];
  }

  /**
   * Shows another text, and settles of it what can be.
   *
   * @param {string} text
   * @returns {boolean} false, and nothing is done, if it does not begin with what is settled
   */
  show(text) {
    if (!text.startsWith(this.settled)) return false;
    this.#draw(text.slice(this.settled.length));
    this.#settle();
    return true;
  }

  #settle() {
    const end = this.#end;
    if (end.length < SHORT_CHARACTERS) return;
    let at = partingOf(this.#tokens, end);
    if (at === 0 && end.length >= LONG_CHARACTERS) {
      this.#hasGuessed = true;
      at = Math.max(end.search(/\s+\S*$/), 0) || end.length;
    }
    if (at === 0) return;
    this.#draw(end.slice(0, at));
    this.#keep();
    this.#draw(end.slice(at));
  }

  /** Settles all that is drawn. */
  #keep() {
    this.settled += this.#end;
    this.#settledNodes.push(...this.#shown);
    this.#end = "";
    this.#tokens = [];
    this.#shown = [];
  }

  /** Nothing follows: draws all of it anew if it was parted where a mark is open. */
  complete() {
    if (!this.#hasGuessed) return;
    this.#hasGuessed = false;
    for (const node of this.nodes) /** @type {ChildNode} */ (node).remove();
    const text = this.settled + this.#end;
    this.settled = "";
    this.#settledNodes = [];
    this.#tokens = [];
    this.#shown = [];
    this.#draw(text);
    this.#keep();
  }

  /** Draws what differs from the end that is shown. @param {string} end */
  #draw(end) {
    const before = this.#tokens;
    const tokens = inlineTokensOf(end);
    const changed = tokens.findIndex(({ type, raw }, at) => type !== before[at]?.type || raw !== before[at].raw);
    let kept = changed === -1 ? tokens.length : changed;
    const last = this.#shown[kept];
    if (last instanceof Text && tokens[kept]?.type === "text" && tokens[kept].raw.startsWith(before[kept].raw)) {
      last.appendData(tokens[kept].raw.slice(before[kept].raw.length));
      kept += 1;
    }
    const fresh = inlines(tokens.slice(kept), this.depth);
    for (const node of this.#shown.slice(kept)) /** @type {ChildNode} */ (node).remove();
    this.element.append(...fresh);
    this.#end = end;
    this.#tokens = tokens;
    this.#shown = [...this.#shown.slice(0, kept), ...fresh];
  }
}

/**
 * The last blank at which a text can be parted so that each part is read as it is within the whole.
 *
 * @param {Token[]} tokens
 * @param {string} text
 * @returns {number} 0 for none
 */
function partingOf(tokens, text) {
  let begin = 0;
  let found = 0;
  for (const { type, raw } of tokens) {
    if (type === "text") {
      const opening = raw.search(OPENING);
      const free = opening === -1 ? raw : raw.slice(0, opening);
      const at = begin + Math.max(free.lastIndexOf(" "), 0);
      if (isParting(text, at)) found = at;
      if (opening !== -1) return found;
    } else if (type === "br") {
      if (isParting(text, begin)) found = begin;
    } else if (type === "escape" ? FORMULA.has(raw) : !CLOSED.has(type)) {
      return found;
    }
    begin += raw.length;
  }
  return found;
}

/** Whether a blank follows, and none precedes. @param {string} text @param {number} at */
function isParting(text, at) {
  return at > 0 && /\s/.test(text[at] ?? "") && /\S/.test(text[at - 1]);
}
