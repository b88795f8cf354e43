/** Long text, cut until somebody asks for all of it. */

import { numberText, texts } from "../language.js";
import { h } from "./dom.js";

/**
 * @typedef {object} Limits How much of a text is shown before it is asked for.
 * @property {number} lines At the beginning.
 * @property {number} characters
 * @property {number} lastLines At the end.
 * @property {number} lastCharacters
 */

/** A few more lines are cheaper to read than a button. */
const SPARE_LINES = 4;
const SPARE_CHARACTERS = 400;

/** @type {Limits} */
export const MESSAGE = { lines: 60, characters: 6_000, lastLines: 0, lastCharacters: 0 };
/** @type {Limits} */
export const CODE = { lines: 14, characters: 1_600, lastLines: 0, lastCharacters: 0 };
/** The end of an output tells how it went. @type {Limits} */
export const OUTPUT = { lines: 5, characters: 1_200, lastLines: 3, lastCharacters: 800 };

/**
 * Only the visible part is in the document, so that a megabyte of output costs nothing until it is
 * opened.
 *
 * @param {HTMLElement} block Gets the text.
 * @param {string} text
 * @param {(text: string) => Node} paint
 * @param {Limits} limits
 * @param {boolean} [shown] Whether the block shows all of the text already, which then stays as it is.
 * @returns {HTMLElement} the block, or a wrapper with a button
 */
export function foldable(block, text, paint, limits, shown = false) {
  const cut = cutOf(text, limits);
  if (cut === null) {
    if (!shown) block.append(paint(text));
    return block;
  }
  const button = h("button", { type: "button", class: "fold__button", data: { testid: "fold" } });
  const wrapper = h("div", { class: "fold" }, block);
  const end = /** @type {HTMLElement} */ (block.cloneNode(false));
  end.removeAttribute("data-testid");
  /** @param {boolean} open */
  const mark = (open) => {
    wrapper.dataset.folded = String(!open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? texts.fold.less : texts.fold.all(cut.size);
  };
  /** @param {boolean} open */
  const show = (open) => {
    mark(open);
    block.replaceChildren(paint(open ? text : text.slice(0, cut.headEnd)));
    if (open || cut.tailStart === text.length) end.remove();
    else {
      end.replaceChildren(paint(text.slice(cut.tailStart)));
      wrapper.append(end);
    }
  };
  wrapper.append(button);
  button.addEventListener("click", () => {
    const open = wrapper.dataset.folded === "true";
    show(open);
    // After closing, the button stays in view.
    if (!open) button.scrollIntoView({ block: "nearest" });
  });
  if (shown) mark(true);
  else show(false);
  return wrapper;
}

/**
 * @param {string} text
 * @param {Limits} limits
 * @returns {{headEnd: number, tailStart: number, size: string} | null} null when all of it is shown
 */
function cutOf(text, limits) {
  const lines = countLines(text);
  const few = lines <= limits.lines + limits.lastLines + SPARE_LINES;
  if (few && text.length <= limits.characters + limits.lastCharacters + SPARE_CHARACTERS) return null;
  const headEnd = whole(text, Math.min(endOfLine(text, limits.lines), limits.characters));
  const tailStart = Math.max(headEnd, startOfLastLines(text, limits.lastLines), text.length - limits.lastCharacters);
  const size = few ? texts.fold.characters(numberText(text.length)) : texts.fold.lines(numberText(lines));
  return { headEnd, tailStart: whole(text, tailStart), size };
}

/** @param {string} text */
function countLines(text) {
  let lines = 1;
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines;
}

/**
 * @param {string} text
 * @param {number} lines
 */
function endOfLine(text, lines) {
  let end = -1;
  for (let line = 0; line < lines; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end === -1) return text.length;
  }
  return end;
}

/**
 * @param {string} text
 * @param {number} lines
 */
function startOfLastLines(text, lines) {
  let start = text.length + 1;
  for (let line = 0; line < lines; line += 1) {
    start = text.lastIndexOf("\n", start - 2) + 1;
    if (start === 0) return 0;
  }
  return Math.min(start, text.length);
}

/**
 * Moves a cut off the middle of a character of two units.
 *
 * @param {string} text
 * @param {number} at
 */
function whole(text, at) {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit <= 0xdfff ? at + 1 : at;
}
