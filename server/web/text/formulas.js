/** Formulas in TeX, which markdown would take apart: their backslashes, stars and underlines are no marks. */

const PAIRS = [["\\(", "\\)"], ["\\[", "\\]"], ["$$", "$$"]];
/**
 * A formula between single dollars, not an amount or a variable, that contains characters which markdown
 * would interpret; other text needs no protection.
 */
const SINGLE = String.raw`\$(?=[^\n$\u0060]*[\\^_{}])(?![\s$])(?:\\.|[^\\$\n\u0060])+(?<!\s)\$(?![\w$])`;
const SINGLE_HERE = new RegExp(SINGLE, "y");
const SINGLE_ANYWHERE = new RegExp(String.raw`(?<![\w\\$])${SINGLE}`);
const DISPLAYED = /^ {0,3}(?=\\\[|\$\$)/gm;
const REST_OF_LINE = /[ \t]*(?:\n|$)/y;
const BLANK_LINE = /\n[ \t]*\n/;

/** What the parser calls where a formula could begin, and to find that place; tokens hold nothing but `raw`. */
export const formulas = {
  inline: [(/** @type {string} */ source) => token(formulaAt(paragraphOf(source), 0))],
  startInline: [firstFormula],
  block: [displayedFormula],
  startBlock: [firstDisplayed],
};

/** @param {string} raw */
function token(raw) {
  return raw ? { type: "formula", raw } : undefined;
}

/** @param {string} source */
function displayedFormula(source) {
  const paragraph = paragraphOf(source);
  const indent = /^ {0,3}/.exec(paragraph)?.[0] ?? "";
  const raw = displayedAt(paragraph, indent.length);
  return token(raw && indent + raw);
}

/** @param {string} source */
function firstFormula(source) {
  const paragraph = paragraphOf(source);
  const starts = PAIRS.map(([opening]) => paragraph.indexOf(opening));
  starts.push(paragraph.search(SINGLE_ANYWHERE));
  const found = starts.filter((start) => start !== -1 && formulaAt(paragraph, start));
  return found.length > 0 ? Math.min(...found) : undefined;
}

/** @param {string} source */
function firstDisplayed(source) {
  const paragraph = paragraphOf(source);
  for (const { index, 0: indent } of paragraph.matchAll(DISPLAYED)) {
    if (displayedAt(paragraph, index + indent.length)) return index;
  }
  return undefined;
}

/** No formula goes beyond a blank line, and no search has to. @param {string} source */
function paragraphOf(source) {
  const end = source.search(BLANK_LINE);
  return end === -1 ? source : source.slice(0, end);
}

/**
 * @param {string} paragraph
 * @param {number} from
 * @returns {string} the formula that begins there, "" for none
 */
function formulaAt(paragraph, from) {
  const pair = PAIRS.find(([opening]) => paragraph.startsWith(opening, from));
  const end = pair ? paragraph.indexOf(pair[1], from + 2) : -1;
  if (end !== -1) return paragraph.slice(from, end + 2);
  SINGLE_HERE.lastIndex = from;
  return SINGLE_HERE.exec(paragraph)?.[0] ?? "";
}

/**
 * @param {string} paragraph
 * @param {number} from
 * @returns {string} the formula that begins there and has its lines for itself, "" for none
 */
function displayedAt(paragraph, from) {
  const raw = paragraph.startsWith("\\(", from) ? "" : formulaAt(paragraph, from);
  REST_OF_LINE.lastIndex = from + raw.length;
  const rest = raw ? REST_OF_LINE.exec(paragraph) : null;
  return rest ? raw + rest[0] : "";
}
