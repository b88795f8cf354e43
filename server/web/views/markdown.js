/** Markdown as elements: a parser makes tokens, and of each kind known here we build a node. */

import { texts } from "../language.js";
import { Lexer } from "../vendor/marked.esm.js";
import { formulas } from "../text/formulas.js";
import { linkAddress } from "../text/links.js";
import { codeBlock, finishCode } from "./code-block.js";
import { h } from "./dom.js";
import { formula } from "./formula.js";

/** @typedef {any} Token What the parser found; `raw` is its source. */

/** The parser takes quadratic time for some texts, at worst 0.5 s for this much. */
export const MOST_CHARACTERS = 20_000;
export const MOST_DEPTH = 24;
const LINE_ENDS = /\r\n|\r/g;
/** What has none of these is one paragraph, whatever the parser would say. */
const MARKS = /[\\$`*_~#<>|[\]\n@]|:\/\/|www\.|^\s*(?:[-+]|\d+[.)])(?:\s|$)|^ {4}|^\t/i;

/** What reads the text of a block that was not drawn yet, by the place for its tokens. @type {WeakMap<Token[], () => void>} */
const UNREAD = new WeakMap();
/** The texts of such blocks. @type {WeakMap<Token[], string>} */
const SOURCES = new WeakMap();

/**
 * Markup cannot pass through it: HTML in the source, URLs of other schemes, images and unknown kinds
 * appear in the result as they were written.
 *
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function markdown(text) {
  const result = document.createDocumentFragment();
  result.append(...blocks(blockTokensOf(text), 0));
  finishCode(result);
  return result;
}

/**
 * The blocks of a text; a text that the parser does not get is one paragraph.
 *
 * @param {string} text
 * @returns {Token[]}
 */
export function tokensOf(text) {
  return parsed(text, (parser) => parser.lex(text)) ?? [{ type: "paragraph", raw: text, text, tokens: plain(text) }];
}

/**
 * The blocks of a text, as above; what stands within them is read when it is drawn.
 *
 * @param {string} text
 * @returns {Token[]}
 */
export function unreadTokensOf(text) {
  const tokens = parsed(text, (parser) => {
    const found = parser.blockTokens(text.replace(LINE_ENDS, "\n"), parser.tokens);
    for (const { src, tokens: place } of parser.inlineQueue) {
      UNREAD.set(place, () => readInto(place, src, parser));
      // A box to tick may stand there already.
      if (place.length === 0) SOURCES.set(place, src);
    }
    return found;
  });
  return tokens ?? [{ type: "paragraph", raw: text, text, tokens: unread(text) }];
}

/**
 * @param {Token[]} place
 * @param {string} text
 * @param {Lexer} parser
 */
function readInto(place, text, parser) {
  const before = place.length;
  try {
    parser.state.inRawBlock = false;
    parser.inlineTokens(text, place);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    place.splice(before, place.length, ...plain(text));
  }
}

/** A place for the tokens of a text within a block, which is read when it is drawn. @param {string} text */
export function unread(text) {
  /** @type {Token[]} */
  const place = [];
  SOURCES.set(place, text);
  UNREAD.set(place, () => place.push(...inlineTokensOf(text)));
  return place;
}

/** The text that is read, or was, as the tokens of that place. @param {Token[]} place @returns {string | undefined} */
export function sourceOf(place) {
  return SOURCES.get(place);
}

/**
 * The blocks of a text that are to be drawn, with the levels of their headings.
 *
 * @param {string} text
 */
export function blockTokensOf(text) {
  const tokens = tokensOf(text).filter(isDrawn);
  rank(tokens, []);
  return tokens;
}

/** Whether a block is to be seen. @param {Token} token */
export function isDrawn({ type }) {
  return type !== "space" && type !== "def";
}

/**
 * What a text within one paragraph consists of.
 *
 * @param {string} text
 * @returns {Token[]}
 */
export function inlineTokensOf(text) {
  return parsed(text, (parser) => parser.inlineTokens(text)) ?? plain(text);
}

/** @param {string} text @returns {Token[]} */
function plain(text) {
  return [{ type: "text", raw: text }];
}

/**
 * @param {string} text
 * @param {(parser: Lexer) => Token[]} parse
 * @returns {Token[] | null} null for a text that the parser does not get
 */
function parsed(text, parse) {
  if (text.length > MOST_CHARACTERS || !MARKS.test(text)) return null;
  try {
    return parse(new Lexer({ gfm: true, breaks: true, extensions: formulas }));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    // Nested too deeply for the parser's stack.
    return null;
  }
}

/**
 * Gives every heading its level on the page: below the conversation's title and without gaps, whatever level
 * the author began with.
 *
 * @param {Token[]} tokens
 * @param {number[]} above Depths of the headings it stands under.
 */
export function rank(tokens, above) {
  for (const token of tokens) {
    if (token.type === "heading") {
      while ((above.at(-1) ?? 0) >= token.depth) above.pop();
      above.push(token.depth);
      token.level = Math.min(above.length + 1, 6);
    } else {
      rank(token.items ?? token.tokens ?? [], above);
    }
  }
}

/** @param {...(Node | string)} children */
function paragraph(...children) {
  return h("p", { dir: "auto" }, ...children);
}

/**
 * @param {Token[]} tokens
 * @param {number} depth
 * @returns {Node[]}
 */
export function blocks(tokens, depth) {
  return tokens.flatMap((token) => block(token, depth));
}

/**
 * @param {Token} token
 * @param {number} depth
 * @returns {Node[]}
 */
function block(token, depth) {
  if (depth > MOST_DEPTH) return [paragraph(token.raw)];
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "paragraph":
      return [paragraph(...inlines(token.tokens, depth))];
    case "text":
      return token.tokens ? inlines(token.tokens, depth) : [new Text(token.raw)];
    case "heading": {
      const level = /** @type {"h2" | "h3" | "h4" | "h5" | "h6"} */ (`h${token.level}`);
      return [h(level, { dir: "auto", data: { depth: String(token.depth) } }, ...inlines(token.tokens, depth))];
    }
    case "code":
      return [codeBlock(token.text, token.lang)];
    case "blockquote":
      return [h("blockquote", { dir: "auto" }, ...blocks(token.tokens, depth + 1))];
    case "hr":
      return [h("hr")];
    case "list":
      return [list(token, depth)];
    case "table":
      return [table(token, depth)];
    case "formula":
      return [formula("p", token.raw.trim())];
    case "checkbox":
      return [checkbox(token.checked)];
    default:
      return [paragraph(token.raw.replace(/\n+$/, ""))];
  }
}

/**
 * @param {Token} token
 * @param {number} depth
 */
function list(token, depth) {
  const items = token.items.map((/** @type {Token} */ item) => listItem(item, depth));
  // The direction is set on the list, since its markers stand in the list's padding.
  if (!token.ordered) return h("ul", { dir: "auto" }, ...items);
  return h("ol", { dir: "auto", start: token.start === 1 ? undefined : Number(token.start) }, ...items);
}

/**
 * @param {Token} item
 * @param {number} depth
 */
export function listItem(item, depth) {
  return h("li", { class: item.task ? "prose__task" : undefined }, ...blocks(item.tokens, depth + 1));
}

/** @param {boolean} checked */
function checkbox(checked) {
  return h("input", { type: "checkbox", disabled: true, checked, "aria-label": checked ? texts.prose.done : texts.prose.notDone });
}

/**
 * @param {Token} token
 * @param {number} depth
 */
function table(token, depth) {
  return h(
    "div",
    { class: "prose__table", tabindex: "0", role: "group", "aria-label": texts.prose.table },
    h(
      "table",
      {},
      h("thead", {}, tableRow("th", token.header, depth)),
      h("tbody", {}, ...token.rows.map((/** @type {Token[]} */ row) => tableRow("td", row, depth))),
    ),
  );
}

/**
 * @param {"th" | "td"} tag
 * @param {Token[]} row
 * @param {number} depth
 */
export function tableRow(tag, row, depth) {
  return h("tr", {}, ...row.map((cell) => tableCell(tag, cell, depth)));
}

/**
 * @param {"th" | "td"} tag
 * @param {Token} cell
 * @param {number} depth
 */
export function tableCell(tag, cell, depth) {
  return h(tag, { dir: "auto", data: { align: cell.align ?? undefined } }, ...inlines(cell.tokens, depth));
}

/**
 * @param {Token[]} tokens
 * @param {number} depth
 * @returns {Node[]}
 */
export function inlines(tokens, depth) {
  UNREAD.get(tokens)?.();
  UNREAD.delete(tokens);
  return tokens.map((token) => inline(token, depth + 1));
}

/**
 * @param {Token} token
 * @param {number} depth
 * @returns {Node}
 */
function inline(token, depth) {
  if (depth > MOST_DEPTH) return new Text(token.raw);
  switch (token.type) {
    case "text":
      return token.tokens ? h("span", {}, ...inlines(token.tokens, depth)) : new Text(token.raw);
    case "formula":
      return formula("span", token.raw);
    case "escape":
      return new Text(token.text);
    case "codespan":
      return h("code", {}, token.text);
    case "br":
      return h("br");
    case "strong":
    case "em":
    case "del":
      return h(/** @type {"strong" | "em" | "del"} */ (token.type), {}, ...inlines(token.tokens, depth));
    case "link":
      return link(token, inlines(token.tokens, depth));
    case "image":
      // Nothing is fetched from another host: the picture is a link.
      return link(token, [new Text(token.text || token.href)]);
    default:
      return new Text(token.raw);
  }
}

/**
 * @param {Token} token
 * @param {Node[]} children
 */
function link(token, children) {
  const address = linkAddress(token.href);
  if (address === null) return new Text(token.raw);
  return h("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank", title: address }, ...children);
}
