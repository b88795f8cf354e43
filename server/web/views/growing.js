/**
 * A message that is being written, as markdown. A block that more text cannot change is drawn once; only the last one
 * is drawn again, and of a paragraph, a list, a table or code only what is new.
 */

import { h } from "./dom.js";
import { GrowingParagraph, SHORT_CHARACTERS } from "./growing-paragraph.js";
import { partsOf, withParts } from "./growing-parts.js";
import { blocks, listItem, MOST_CHARACTERS, rank, tableRow, tokensOf } from "./markdown.js";

/** @typedef {import("./markdown.js").Token} Token */

/**
 * @typedef {object} Drawn A block, and what shows it.
 * @property {Token} token
 * @property {Node[]} nodes
 * @property {GrowingParagraph} [paragraph]
 * @property {import("./growing-parts.js").Parts} [parts]
 */

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
/** Elements within which the end of a text stands. */
const CONTAINERS = "p, ul, ol, li, blockquote, h2, h3, h4, h5, h6, pre, code, table, tbody, tr, td, .code, .prose__table";

export class GrowingProse {
  element = h("div", { class: "prose", data: { growing: "true" } });

  /** Shows the reader that more is to come. */
  #caret = h("span", { class: "caret", "aria-hidden": "true" });
  /** All of the text, also what is not drawn yet. */
  #text = "";
  /** The blocks that more text cannot change. @type {Drawn[]} */
  #closed = [];
  /** Where in the text they end. */
  #closedTo = 0;
  /** Depths of the headings that the next block stands under. @type {number[]} */
  #above = [];
  /** The last block. @type {Drawn | null} */
  #open = null;
  /** @type {Fence | null} */
  #fence = null;

  /**
   * Shows a text that begins with the one shown so far.
   *
   * @param {string} text
   */
  show(text) {
    this.#caret.remove();
    this.#grow(text, true);
    const end = innermost(this.element);
    if (end !== this.element) end.append(this.#caret);
  }

  /**
   * Shows the whole text. What is drawn already stays, as far as markdown reads it in the same way now that its end
   * is known.
   *
   * @param {string} text
   * @param {(text: string) => Node} paint draws it anew
   */
  finish(text, paint) {
    this.#caret.remove();
    delete this.element.dataset.growing;
    if (!text.startsWith(this.#text)) {
      this.element.replaceChildren(paint(text));
      return;
    }
    this.#grow(text, false);
    this.#open?.paragraph?.complete();
    if (text.length > MOST_CHARACTERS) return;
    const tokens = tokensOf(text).filter(isDrawn);
    rank(tokens, []);
    const drawn = this.#open ? [...this.#closed, this.#open] : this.#closed;
    // A definition may have made links of what was drawn before.
    const differs = defines(text) ? 0 : tokens.findIndex((token, at) => !same(token, drawn[at]?.token));
    const kept = differs === -1 ? tokens.length : differs;
    for (const { nodes } of drawn.slice(kept)) remove(nodes);
    this.element.append(...blocks(tokens.slice(kept), 0));
  }

  /**
   * @param {string} text
   * @param {boolean} holds Whether a line that is not decided yet is held back.
   */
  #grow(text, holds) {
    for (let to = this.#text.length + PART_CHARACTERS; to < text.length; to += PART_CHARACTERS) this.#read(text.slice(0, to), true);
    this.#read(text, holds);
  }

  /**
   * @param {string} text
   * @param {boolean} holds
   */
  #read(text, holds) {
    this.#text = text;
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
      this.#draw(this.#text.slice(this.#closedTo), holds);
      return;
    }
    const tokens = this.#continueParagraph(rest, holds) ?? this.#continueParts(rest, holds) ?? tokensIn(rest, holds);
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
      this.#open?.paragraph?.complete();
      this.#close();
    }
    this.#closedTo += raw.length;
    rank([tokens[last]], [...this.#above]);
    this.#show(tokens[last]);
    this.#openFence(tokens[last]);
    this.#openParagraph(tokens[last]);
    this.#openParts(rest.slice(raw.length), tokens[last]);
  }

  /** Shows a block in the place of the open one. @param {Token} token */
  #show(token) {
    const open = this.#open;
    if (open?.paragraph && token.end !== undefined) {
      open.token = token;
      open.paragraph.show(token.end);
      return;
    }
    if (open && (same(open.token, token) || regrown(open, token))) {
      open.token = token;
      return;
    }
    const nodes = blocks(token.type === "several" ? token.tokens : [token], 0);
    if (open) remove(open.nodes);
    this.element.append(...nodes);
    this.#open = { token, nodes };
  }

  #close() {
    if (this.#open) this.#closed.push(this.#open);
    this.#open = null;
    this.#fence = null;
  }

  /** @param {Token} token The last block. */
  #openParagraph({ type, text, tokens }) {
    const open = this.#open;
    if (type !== "paragraph" || !open || open.paragraph || text.length < SHORT_CHARACTERS) return;
    open.paragraph = new GrowingParagraph(/** @type {Element} */ (open.nodes[0]), text, tokens);
  }

  /**
   * Reads of a paragraph only what is not settled.
   *
   * @param {string} rest
   * @param {boolean} holds
   * @returns {Token[] | null} null when all of it has to be read
   */
  #continueParagraph(rest, holds) {
    const open = this.#open;
    const settled = open?.paragraph?.settled;
    if (!open || !settled || !rest.startsWith(settled)) return null;
    const [first, ...others] = tokensIn(STAND_IN + rest.slice(settled.length), holds);
    if (first.type === "paragraph" && first.raw.startsWith(first.text)) {
      const end = first.text.slice(STAND_IN.length);
      return [{ type: "paragraph", raw: settled + first.raw.slice(STAND_IN.length), end }, ...others];
    }
    // It turned out to be a heading, for one.
    open.paragraph = undefined;
    return null;
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
   * @returns {Token[] | null} null when all of it has to be read
   */
  #continueParts(rest, holds) {
    const open = this.#open;
    if (!open?.parts) return null;
    const { lead, to } = open.parts;
    const [first, ...others] = tokensIn(lead + rest.slice(to), holds);
    const token = withParts(open.token, open.parts, rest, first);
    return token && [token, ...others];
  }

  /** @param {Token} token The last block. */
  #openFence(token) {
    const opening = token.type === "code" ? FENCE.exec(token.raw) : null;
    const shown = this.#open?.nodes[0];
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
    const text = this.#text;
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
 * @param {string} text
 * @param {boolean} holds Whether a last line that is not decided yet is left out.
 * @returns {Token[]}
 */
function tokensIn(text, holds) {
  const decided = holds ? text.replace(UNDECIDED, "") : text;
  return decided.trim() ? tokensOf(decided) : [];
}

/** @param {Token} token */
function isDrawn({ type }) {
  return type !== "space" && type !== "def";
}

/** Whether it may define links. @param {string} text */
function defines(text) {
  return /^ {0,3}\[[^\]]+\]:/m.test(text);
}

/**
 * @param {Token} one
 * @param {Token | undefined} other
 */
function same(one, other) {
  if (one.type !== other?.type || ended(one.raw) !== ended(other.raw) || one.level !== other.level) return false;
  return one.codeBlockStyle !== "indented" || one.text === other.text;
}

/**
 * Draws a list or a table again as far as it is new.
 *
 * @param {Drawn} open
 * @param {Token} token
 * @returns {boolean} whether that was possible
 */
function regrown({ token: before, nodes: [element] }, token) {
  if (!(element instanceof Element) || before.type !== token.type) return false;
  if (token.type === "list" && before.ordered === token.ordered && before.start === token.start && before.loose === token.loose) {
    replaceTail(element, before.items, token.items, sameItem, (item) => listItem(item, 0));
    return true;
  }
  const body = token.type === "table" ? element.querySelector("tbody") : null;
  if (!body || !sameRow(before.header, token.header)) return false;
  replaceTail(body, before.rows, token.rows, sameRow, (row) => tableRow("td", row, 0));
  return true;
}

/**
 * Replaces the children from the first on that shows something else now.
 *
 * @param {Element} parent
 * @param {Token[]} before
 * @param {Token[]} now
 * @param {(one: Token, other: Token) => boolean} isSame
 * @param {(one: Token) => Node} draw
 */
function replaceTail(parent, before, now, isSame, draw) {
  const found = now.findIndex((one, at) => at >= before.length || !isSame(before[at], one));
  const kept = found === -1 ? now.length : found;
  while (parent.children.length > kept) parent.lastElementChild?.remove();
  parent.append(...now.slice(kept).map(draw));
}

/** @param {Token} one @param {Token} other */
function sameItem(one, other) {
  return one === other || ended(one.raw) === ended(other.raw) && one.loose === other.loose;
}

/** Without the line ends behind it. @param {string} raw */
function ended(raw) {
  return raw.replace(/\n+$/, "");
}

/** @param {Token[]} one @param {Token[]} other */
function sameRow(one, other) {
  return one === other || one.length === other.length && one.every((cell, at) => cell.text === other[at].text && cell.align === other[at].align);
}

/** @param {Node[]} nodes */
function remove(nodes) {
  for (const node of nodes) /** @type {ChildNode} */ (node).remove();
}

/** The element within which the text ends. @param {Element} element */
function innermost(element) {
  let inner = element;
  while (inner.lastElementChild?.matches(CONTAINERS) && !inner.lastElementChild.nextSibling?.textContent) inner = inner.lastElementChild;
  return inner;
}
