/** What people and agents say: messages and thoughts. */

import { copyButton } from "./copy.js";
import { h } from "./dom.js";
import { CODE, foldable, MESSAGE } from "./fold.js";
import { markdown } from "./markdown.js";

/**
 * The text of a message, also used for pending messages.
 *
 * @param {string} text
 * @param {HTMLElement} [watched] shows it already
 */
export function prose(text, watched) {
  return foldable(watched ?? h("div", { class: "prose" }), text, markdown, MESSAGE, watched !== undefined);
}

/**
 * A message with a button that copies its source.
 *
 * @param {string} text
 * @param {HTMLElement} [watched] shows it already
 */
export function spoken(text, watched) {
  return spokenFrame(prose(text, watched), text ? copyButton("Copy the message", () => text, "copy-message") : null);
}

/** @param {...(Node | null)} children */
export function spokenFrame(...children) {
  return h("div", { class: "spoken" }, ...children);
}

/**
 * @param {string} text
 * @param {HTMLElement} [watched] shows it already
 */
export function thought(text, watched) {
  const block = watched ?? h("p", { class: "thought__text", dir: "auto" });
  return thoughtFrame(foldable(block, text, (shown) => new Text(shown), CODE, watched !== undefined));
}

/** @param {Node} text */
export function thoughtFrame(text) {
  return h("div", { class: "thought", data: { testid: "thought" } }, h("span", { class: "thought__label" }, "Thought"), text);
}
