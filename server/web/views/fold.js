/** Long text, cut until somebody asks for all of it. */

import { h } from "./dom.js";

const MOST_LINES = 14;
const MOST_CHARACTERS = 1_600;

/**
 * Only the beginning of a long text is put into the document, so that a megabyte of output costs
 * nothing until it is opened.
 *
 * @param {"pre" | "div"} tag
 * @param {Record<string, import("./dom.js").Prop>} props
 * @param {string} text
 * @param {number} [lines]
 * @param {number} [characters]
 * @returns {HTMLElement}
 */
export function foldable(tag, props, text, lines = MOST_LINES, characters = MOST_CHARACTERS) {
  const head = beginning(text, lines, characters);
  const block = h(tag, props, head);
  if (head.length === text.length) return block;
  const size = measure(text);
  const button = h("button", { type: "button", class: "fold__button", "aria-expanded": "false" }, `Show all ${size}`);
  const wrapper = h("div", { class: "fold", data: { folded: "true" } }, block, button);
  button.addEventListener("click", () => {
    const open = wrapper.dataset.folded === "true";
    wrapper.dataset.folded = String(!open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Show less" : `Show all ${size}`;
    block.textContent = open ? text : head;
  });
  return wrapper;
}

/**
 * @param {string} text
 * @param {number} lines
 * @param {number} characters
 */
function beginning(text, lines, characters) {
  let end = -1;
  for (let line = 0; line < lines; line += 1) {
    end = text.indexOf("\n", end + 1);
    if (end === -1) break;
  }
  const byLines = end === -1 ? text : text.slice(0, end);
  // A few more lines are cheaper to read than a button.
  const kept = text.length - byLines.length < 160 && text.length <= characters ? text : byLines;
  return kept.length > characters * 1.25 ? kept.slice(0, characters) : kept;
}

/** @param {string} text */
function measure(text) {
  const lines = text.split("\n").length;
  if (lines > MOST_LINES) return `${lines.toLocaleString("en")} lines`;
  return `${text.length.toLocaleString("en")} characters`;
}
