/**
 * The blocks of a markdown text that is being written. A block that more text cannot change is drawn once; of the last
 * one only what is new is drawn.
 */

import { finishCode } from "./code-block.js";
import { GrowingBlock, isSame } from "./growing-block.js";
import { partsOf, withParts } from "./growing-parts.js";
import { QuotedText } from "./growing-quote.js";
import { blocks, isDrawn, MOST_CHARACTERS, rank, unread, unreadTokensOf } from "./markdown.js";

/** @typedef {import("./markdown.js").Token} Token */

/**
 * @typedef {object} Drawn A block, and what shows it.
 * @property {Token} token
 * @property {GrowingBlock} block
 * @property {import("./growing-parts.js").Parts} [parts]
 * @property {Quote} [quote]
 */

/** @typedef {{source: QuotedText, blocks: GrowingBlocks}} Quote A quote, and the blocks in it. */

/**
 * @typedef {object} Fence Code that is not closed yet; places in the text.
 * @property {RegExp} closing
 * @property {Text} shown
 * @property {number} from Where the code begins.
 * @property {number} line Where its last line begins.
 */

/** A text that comes at once is read in parts of this length, so that most of its blocks are closed early. */
const PART_CHARACTERS = 8_000;
/** A last line that becomes a heading, a rule, a list, a table or code, depending on what comes next. */
const UNDECIDED = /(?:^|\n)[ \t]*(?:[-=]+|[*+]|\d{1,9}[.)]?|`{1,2}|~{1,2}|\|?[ \t]*:?-[-:| \t]*)[ \t]*$/;
/** A word in the place of the settled part of a paragraph: what follows it is read as within a paragraph. */
const STAND_IN = "x";
const FENCE = /^(`{3,}|~{3,})[^\n]*\n/;
/** What the end of code begins with. */
const CLOSING = /^ {0,3}[`~]+[ \t]*$/;
/** A quote within so many others is read as a whole. */
const MOST_QUOTES = 3;

export class GrowingBlocks {
  /** All of the text, also what is not drawn yet. */
  text = "";

  /** The blocks that more text cannot change. @type {Drawn[]} */
  #closed = [];
  /** Where in the text they end. */
  #closedTo = 0;
  /** The last block. @type {Drawn | null} */
  #open = null;
  /** @type {Fence | null} */
  #fence = null;
  /** Depths of the headings that the next block stands under. @type {number[]} */
  #above;

  /**
   * @param {Element} element shows the blocks, and nothing else
   * @param {number} [depth] how many quotes they stand in
   * @param {readonly number[]} [above] depths of the headings that they stand under
   */
  constructor(element, depth = 0, above = []) {
    this.element = element;
    this.depth = depth;
    this.#above = [...above];
  }

  /** The kind of the last block, "" if there is none. @returns {string} */
  get lastKind() {
    return this.#open?.token.type ?? "";
  }

  /**
   * Shows a text that begins with the one shown so far.
   *
   * @param {string} text
   * @param {boolean} holds Whether a last line that is not decided yet is held back.
   */
  grow(text, holds) {
    for (let to = this.text.length + PART_CHARACTERS; to < text.length; to += PART_CHARACTERS) this.#read(text.slice(0, to), true);
    this.#read(text, holds);
  }

  /** Nothing follows: draws anew what was decided too early within the last block. */
  complete() {
    this.#open?.block.complete();
    this.#open?.quote?.blocks.complete();
  }

  /** Takes what the whole text was read as: what is drawn otherwise is drawn anew. @param {Token[]} tokens */
  settle(tokens) {
    const drawn = this.#open ? [...this.#closed, this.#open] : this.#closed;
    // A definition may have made links of what was drawn before.
    const differs = defines(this.text) ? 0 : tokens.findIndex((token, at) => !isSame(token, drawn[at]?.token));
    const kept = differs === -1 ? tokens.length : differs;
    for (const [at, { quote }] of drawn.slice(0, kept).entries()) quote?.blocks.settle(tokens[at].tokens.filter(isDrawn));
    for (const { block } of drawn.slice(kept)) block.remove();
    this.element.append(...blocks(tokens.slice(kept), this.depth));
  }

  /** Ends the last block. @returns {readonly number[]} depths of the headings that what follows stands under */
  end() {
    if (this.#open) rank([this.#open.token], this.#above);
    this.#close();
    return this.#above;
  }

  /**
   * @param {string} text
   * @param {boolean} holds
   */
  #read(text, holds) {
    this.text = text;
    if (this.#fence && !this.#continueCode(this.#fence, holds)) return;
    this.#draw(text.slice(this.#closedTo), holds);
  }

  /**
   * @param {string} rest The text behind the closed blocks.
   * @param {boolean} holds
   */
  #draw(rest, holds) {
    if (rest.length > MOST_CHARACTERS && this.#open) {
      // One block of this length takes the parser too long: what is drawn of it stays, and a new one begins.
      this.#closedTo += this.#open.token.raw.length;
      this.#close();
      this.#draw(this.text.slice(this.#closedTo), holds);
      return;
    }
    const tokens = this.#continueOpen(rest, holds) ?? tokensIn(rest, holds);
    const last = tokens.findLastIndex(isDrawn);
    if (last === -1) return;
    const before = tokens.slice(0, last);
    const raw = before.map((token) => token.raw).join("");
    if (!rest.startsWith(raw)) {
      // With other line ends, for one, the tokens do not hold the text as it is.
      this.#show({ type: "several", raw: rest, tokens });
      return;
    }
    for (const token of before.filter(isDrawn)) {
      rank([token], this.#above);
      this.#show(token);
      this.complete();
      this.#close();
    }
    this.#closedTo += raw.length;
    rank([tokens[last]], [...this.#above]);
    this.#show(tokens[last]);
    this.#openFence(tokens[last]);
    this.#openParts(rest.slice(raw.length), tokens[last]);
    this.#openQuote(rest.slice(raw.length), tokens[last], holds);
  }

  /**
   * Reads of the last block only what is new.
   *
   * @param {string} rest
   * @param {boolean} holds
   * @returns {Token[] | null} null when all of it has to be read
   */
  #continueOpen(rest, holds) {
    return this.#continueParagraph(rest, holds) ?? this.#continueParts(rest, holds) ?? this.#continueQuote(rest, holds);
  }

  /** Shows a block in the place of the open one. @param {Token} token */
  #show(token) {
    const open = this.#open;
    // The blocks in a quote that is read by itself are drawn already.
    if (open && (token.isShown || isSame(open.token, token) || (!open.quote && open.block.grow(token)))) {
      open.token = token;
      return;
    }
    open?.block.remove();
    const nodes = blocks(token.type === "several" ? token.tokens : [token], this.depth);
    this.element.append(...nodes);
    this.#open = { token, block: new GrowingBlock(token, nodes, this.depth) };
  }

  #close() {
    for (const node of this.#open?.block.nodes ?? []) if (node instanceof Element) finishCode(node);
    if (this.#open) this.#closed.push(this.#open);
    if (this.#open?.quote) this.#above = [...this.#open.quote.blocks.end()];
    this.#open = null;
    this.#fence = null;
  }

  /**
   * Reads of a paragraph only what is not settled.
   *
   * @param {string} rest
   * @param {boolean} holds
   * @returns {Token[] | null}
   */
  #continueParagraph(rest, holds) {
    const settled = this.#open?.token.type === "paragraph" ? this.#open.block.settled : "";
    if (!settled || !rest.startsWith(settled)) return null;
    const [first, ...others] = tokensIn(STAND_IN + rest.slice(settled.length), holds);
    // It may have turned out to be a heading, for one.
    if (first.type !== "paragraph" || !first.raw.startsWith(first.text)) return null;
    const text = settled + first.text.slice(STAND_IN.length);
    return [{ type: "paragraph", raw: settled + first.raw.slice(STAND_IN.length), text, tokens: unread(text) }, ...others];
  }

  /** @param {string} text of the last block @param {Token} token the same */
  #openParts(text, token) {
    // With other line ends, the places within the token are not those within the text.
    if (this.#open) this.#open.parts = text.startsWith(token.raw.trimEnd()) ? partsOf(token) : undefined;
  }

  /**
   * Reads of a list or a table only the last item or row.
   *
   * @param {string} rest
   * @param {boolean} holds
   * @returns {Token[] | null}
   */
  #continueParts(rest, holds) {
    const open = this.#open;
    if (!open?.parts) return null;
    const { lead, to } = open.parts;
    const [first, ...others] = tokensIn(lead + rest.slice(to), holds);
    const token = withParts(open.token, open.parts, rest, first);
    return token && [token, ...others];
  }

  /**
   * @param {string} text of the last block
   * @param {Token} token the same
   * @param {boolean} holds
   */
  #openQuote(text, { type, tokens }, holds) {
    const open = this.#open;
    const element = open?.block.nodes[0];
    if (type !== "blockquote" || !open || open.quote || this.depth === MOST_QUOTES || !(element instanceof Element)) return;
    element.replaceChildren();
    const quote = { source: new QuotedText(), blocks: new GrowingBlocks(element, this.depth + 1, this.#above) };
    if (readQuote(quote, text, holds) !== null) {
      open.quote = quote;
      return;
    }
    element.replaceChildren(...blocks(tokens, this.depth + 1));
    open.block = new GrowingBlock(open.token, [element], this.depth);
  }

  /**
   * Reads of a quote only its last block.
   *
   * @param {string} rest
   * @param {boolean} holds
   * @returns {Token[] | null}
   */
  #continueQuote(rest, holds) {
    const quote = this.#open?.quote;
    const isOver = quote ? readQuote(quote, rest, holds) : null;
    if (!quote || isOver === null) return null;
    const { to } = quote.source;
    const token = { type: "blockquote", raw: rest.slice(0, to), isShown: true };
    return isOver ? [token, ...tokensIn(rest.slice(to), holds)] : [token];
  }

  /** @param {Token} token The last block. */
  #openFence(token) {
    const opening = token.type === "code" ? FENCE.exec(token.raw) : null;
    const shown = this.#open?.block.nodes[0];
    const code = shown instanceof Element ? shown.querySelector("code")?.firstChild : null;
    if (!opening || !(code instanceof Text)) return;
    const from = this.#closedTo + opening[0].length;
    const mark = opening[1];
    this.#fence = { closing: new RegExp(`^ {0,3}${mark}${mark[0]}*[ \\t]*(\\n|$(?![^]))`, "gm"), shown: code, from, line: from };
  }

  /**
   * Adds to code without asking the parser, which would read all of it again.
   *
   * @param {Fence} fence
   * @param {boolean} holds
   * @returns {boolean} whether the code ended, and other blocks may follow
   */
  #continueCode(fence, holds) {
    const { text } = this;
    fence.closing.lastIndex = fence.line;
    const found = fence.closing.exec(text);
    const lastLine = text.lastIndexOf("\n") + 1;
    const end = found?.index ?? (holds && CLOSING.test(text.slice(lastLine)) ? lastLine : text.length);
    const to = Math.max(text[end - 1] === "\n" ? end - 1 : end, fence.from + fence.shown.length);
    fence.shown.appendData(text.slice(fence.from + fence.shown.length, to));
    if (this.#open) this.#open.token = { ...this.#open.token, raw: text.slice(this.#closedTo, found ? fence.closing.lastIndex : end) };
    fence.line = found ? found.index : lastLine;
    if (!found || found[1] === "") return false;
    this.#closedTo = fence.closing.lastIndex;
    this.#close();
    return true;
  }
}

/**
 * Shows of a quote what is new.
 *
 * @param {Quote} quote
 * @param {string} text from its beginning on
 * @param {boolean} holds
 * @returns {boolean | null} whether it is over; null when all of the text has to be read
 */
function readQuote({ source, blocks: within }, text, holds) {
  let stop = source.read(text);
  while (stop === "unmarked") {
    if (source.text.length > within.text.length) within.grow(source.text, false);
    if (within.lastKind !== "paragraph" || !source.readPlain(text)) return null;
    if (source.to === text.length) break;
    stop = source.read(text);
  }
  within.grow(source.text, holds && stop !== "blank");
  return stop === "blank";
}

/**
 * @param {string} text
 * @param {boolean} holds Whether a last line that is not decided yet is left out.
 * @returns {Token[]}
 */
function tokensIn(text, holds) {
  const decided = holds ? text.replace(UNDECIDED, "") : text;
  return decided.trim() ? unreadTokensOf(decided) : [];
}

/** Whether it may define links. @param {string} text */
function defines(text) {
  return /^[ >]*\[[^\]]+\]:/m.test(text);
}
