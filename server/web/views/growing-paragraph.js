/**
 * A paragraph that is being written. Only the end of its text is read and drawn again for each piece; what stands before
 * is settled: it was parted from the end where no mark is open, so that more text cannot change it.
 */

import { inlineTokensOf, inlines } from "./markdown.js";

/** @typedef {import("./markdown.js").Token} Token */

/** A shorter end is not parted. */
export const SHORT_CHARACTERS = 500;
/** An end of this length is parted although a mark is open. The paragraph is drawn anew when it is whole. */
const LONG_CHARACTERS = 1_500;
/** What may be the beginning of something that ends later, beyond a blank. */
const OPENING = /[`$\\]|\]\(|\*(?!\s)|~(?!\s)|(?<![\p{L}\p{N}])_(?!\s)|<(?=[a-z/!?])|\[(?![^[\]]*\])/iu;
/** Kinds that end with their own last character. */
const CLOSED = new Set(["strong", "em", "del", "codespan", "link", "image", "formula"]);
/** What the parser makes of a backslash that may begin a formula. */
const FORMULA = new Set(["\\(", "\\["]);

export class GrowingParagraph {
  /** The text whose look is settled. */
  settled = "";
  /** Whether it was parted where a mark is open. */
  #hasGuessed = false;

  /** The text behind it. */
  #end = "";
  /** @type {Token[]} */
  #tokens = [];
  /** What shows them, a node for each. @type {Node[]} */
  #shown = [];

  /**
   * @param {Element} element shows the text
   * @param {string} text
   * @param {Token[]} tokens
   * @param {number} depth how many quotes it stands in
   */
  constructor(element, text, tokens, depth) {
    this.element = element;
    this.depth = depth;
    this.#end = text;
    this.#tokens = tokens;
    this.#shown = [...element.childNodes];
    this.#settle();
  }

  /** Shows another end, and settles of it what can be. @param {string} end */
  show(end) {
    this.#draw(end);
    this.#settle();
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
    this.settled += this.#end;
    this.#tokens = [];
    this.#shown = [];
    this.#draw(end.slice(at));
  }

  /** Nothing follows: draws all of it anew if it was parted where a mark is open. */
  complete() {
    if (!this.#hasGuessed) return;
    this.element.replaceChildren(...inlines(inlineTokensOf(this.settled + this.#end), this.depth));
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
