/** One block that is being written. Of its parts (items, cells, blocks within) those that did not change stay. */

import { GrowingText } from "./growing-text.js";
import { blocks, isDrawn, listItem, MOST_DEPTH, sourceOf, tableCell, tableRow } from "./markdown.js";

/** @typedef {import("./markdown.js").Token} Token */

/**
 * @typedef {object} Inner The parts of a block.
 * @property {Token[]} tokens
 * @property {number} depth
 * @property {Element | null} element shows them, and nothing else
 * @property {(token: Token) => Node[]} draw
 */

/** @type {WeakMap<Token[], Token>} */
const ROWS = new WeakMap();

export class GrowingBlock {
  /** Another token that is the same. @type {Token} */
  again;

  #depth;
  /** @type {Node[]} */
  #nodes;
  /** @type {GrowingBlock[] | null} */
  #parts = null;
  /** @type {GrowingText | null} */
  #text = null;

  /**
   * @param {Token} token
   * @param {Node[]} nodes what shows it
   * @param {number} depth how many quotes and lists it stands in
   */
  constructor(token, nodes, depth) {
    this.token = token;
    this.again = token;
    this.#nodes = nodes;
    this.#depth = depth;
  }

  /** What shows it. @returns {Node[]} */
  get nodes() {
    return this.#text && this.token.type === "text" ? this.#text.nodes : this.#nodes;
  }

  /** The beginning of its text that more text cannot change, "" for none. */
  get settled() {
    return this.#text?.settled ?? "";
  }

  /**
   * Shows a token in the place of its own: of what both have, nothing is drawn again.
   *
   * @param {Token} token
   * @returns {boolean} whether that was possible
   */
  grow(token) {
    if (this.#depth > MOST_DEPTH || !isOfOneKind(this.token, token)) return false;
    const isShown = token.tokens && sourceOf(token.tokens) !== undefined ? this.#growText(token) : this.#growParts(token);
    if (isShown) this.token = this.again = token;
    return isShown;
  }

  /** Nothing follows: draws anew what was decided too early. */
  complete() {
    this.#text?.complete();
    for (const part of this.#parts ?? []) part.complete();
  }

  remove() {
    for (const node of this.nodes) /** @type {ChildNode} */ (node).remove();
  }

  /** @param {Token} token */
  #growText(token) {
    // A text that has no element of its own can be added to at the end of its parent.
    if (token.type === "text" && this.nodes.at(-1)?.nextSibling) return false;
    this.#text ??= this.#openText();
    return this.#text?.show(String(sourceOf(token.tokens))) ?? false;
  }

  /** @returns {GrowingText | null} null if it is not known what its text was read from */
  #openText() {
    const { tokens, type } = this.token;
    const source = sourceOf(tokens);
    const [first] = this.#nodes;
    const element = type === "text" ? first?.parentElement : first;
    if (source === undefined || !(element instanceof Element)) return null;
    return new GrowingText(element, type === "text" ? this.#nodes : [...element.childNodes], source, tokens, this.#depth);
  }

  /** @param {Token} token */
  #growParts(token) {
    const { tokens, element, depth, draw } = this.#inner(token);
    this.#parts ??= this.#openParts();
    const parts = this.#parts;
    if (!parts || !element) return false;
    let kept = 0;
    while (kept < parts.length && kept < tokens.length && keeps(parts[kept], tokens[kept])) kept += 1;
    for (const part of parts.splice(kept).reverse()) part.remove();
    if (kept < tokens.length) parts.at(-1)?.complete();
    for (const part of tokens.slice(kept)) {
      const nodes = draw(part);
      element.append(...nodes);
      parts.push(new GrowingBlock(part, nodes, depth));
    }
    return true;
  }

  /** Finds what shows each part. @returns {GrowingBlock[] | null} null if that is not known */
  #openParts() {
    const { tokens, element, depth } = this.#inner(this.token);
    const nodes = [...(element?.childNodes ?? [])];
    const parts = tokens.map((token) => new GrowingBlock(token, nodes.splice(0, nodesOf(token)), depth));
    return nodes.length === 0 && parts.every((part) => part.nodes.length > 0) ? parts : null;
  }

  /** @param {Token} token its own, or one in the place of it @returns {Inner} */
  #inner(token) {
    const [first] = this.#nodes;
    const element = first instanceof Element ? first : null;
    const depth = this.#depth;
    switch (token.type) {
      case "list":
        return { tokens: token.items, depth, element, draw: (item) => [listItem(item, depth)] };
      case "table":
        return { tokens: token.rows.map(rowOf), depth, element: element?.querySelector("tbody") ?? null, draw: (row) => [tableRow("td", row.cells, depth)] };
      case "row":
        return { tokens: token.cells.map(cellOf), depth, element, draw: (cell) => [tableCell("td", cell, depth)] };
      case "list_item":
      case "blockquote":
        return { tokens: token.tokens.filter(isDrawn), depth: depth + 1, element, draw: (block) => blocks([block], depth + 1) };
      default:
        return { tokens: [], depth, element: null, draw: () => [] };
    }
  }
}

/**
 * Whether two blocks look the same.
 *
 * @param {Token} one
 * @param {Token | undefined} other
 */
export function isSame(one, other) {
  if (one === other) return true;
  if (one.type !== other?.type || one.level !== other.level || one.loose !== other.loose || ended(one.raw) !== ended(other.raw)) return false;
  return one.codeBlockStyle !== "indented" || one.text === other.text;
}

/**
 * Whether a part can stay, as it is or with what is new of it.
 *
 * @param {GrowingBlock} part
 * @param {Token} token
 */
function keeps(part, token) {
  if (part.again !== token && !isSame(part.token, token)) return part.grow(token);
  part.again = token;
  return true;
}

/**
 * Whether the one may have become the other by more text, so that both have the same element.
 *
 * @param {Token} one
 * @param {Token} other
 */
function isOfOneKind(one, other) {
  if (one.type !== other.type) return false;
  switch (one.type) {
    case "paragraph":
    case "text":
    case "blockquote":
      return true;
    case "heading":
      return one.level === other.level && one.depth === other.depth;
    case "list":
      return one.ordered === other.ordered && one.start === other.start && one.loose === other.loose;
    case "list_item":
      return one.loose === other.loose && one.task === other.task && one.checked === other.checked;
    case "table":
      return one.header.every((/** @type {Token} */ cell, /** @type {number} */ at) => isSame(cellOf(cell), cellOf(other.header[at] ?? cell)));
    case "row":
      return one.cells.length === other.cells.length;
    case "cell":
      return one.align === other.align;
    default:
      return false;
  }
}

/** A row as a block: of the parser's own kinds it is none. @param {Token[]} cells @returns {Token} */
function rowOf(cells) {
  const row = ROWS.get(cells) ?? { type: "row", raw: cells.map(({ text }) => text).join("|"), cells };
  ROWS.set(cells, row);
  return row;
}

/** @param {Token} cell @returns {Token} */
function cellOf(cell) {
  return { ...cell, type: "cell", raw: `${cell.align} ${cell.text}` };
}

/** How many nodes show a block. @param {Token} token */
function nodesOf({ type, tokens }) {
  return type === "text" && tokens ? tokens.length : 1;
}

/** Without the line ends behind it. @param {string} raw */
function ended(raw) {
  let end = raw.length;
  while (raw[end - 1] === "\n") end -= 1;
  return raw.slice(0, end);
}
