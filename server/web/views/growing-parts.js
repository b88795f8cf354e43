/** A list or a table that is being written: all items and rows but the last are settled, and only that is read again. */

/** @typedef {import("./markdown.js").Token} Token */

/**
 * @typedef {object} Parts
 * @property {"items" | "rows"} field Where the token has them.
 * @property {number} count How many are settled.
 * @property {number} to Where in the text of the block they end.
 * @property {string} lead What stands in their place, so that the rest is read as it is behind them.
 * @property {number} led How many items of its own that has.
 */

const BULLET = /^ {0,3}(?:[*+-]|\d{1,9}[.)])/;
const HEAD = /^.*\n.*\n/;

/**
 * @param {Token} token the last block of a text
 * @returns {Parts | undefined} undefined when all of it is to be read again
 */
export function partsOf(token) {
  const raw = token.raw.trimEnd();
  if (token.type === "table" && token.rows.length > 1) {
    return { field: "rows", count: token.rows.length - 1, to: raw.lastIndexOf("\n") + 1, lead: HEAD.exec(raw)?.[0] ?? "", led: 0 };
  }
  if (token.type !== "list" || token.items.length < 2) return undefined;
  const to = raw.length - token.items.at(-1).raw.trimEnd().length;
  // One blank line between two items has a say in how all of them look.
  const lead = token.loose ? `${BULLET.exec(raw)?.[0]} x\n\n` : "";
  return { field: "items", count: token.items.length - 1, to, lead, led: lead ? 1 : 0 };
}

/**
 * The block with what follows its settled parts.
 *
 * @param {Token} before the block as it was
 * @param {Parts} parts
 * @param {string} text of the block
 * @param {Token | undefined} read what the lead and the rest were read as
 * @returns {Token | null} null when it is something else now
 */
export function withParts(before, { field, count, to, lead, led }, text, read) {
  if (read?.type !== before.type || read.loose !== before.loose) return null;
  const parts = [...before[field].slice(0, count), ...read[field].slice(led)];
  return { ...read, start: before.start, raw: text.slice(0, to) + read.raw.slice(lead.length), [field]: parts };
}
