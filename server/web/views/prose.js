/** What people and agents say: messages and thoughts. */

import { copyButton } from "./copy.js";
import { h } from "./dom.js";
import { CODE, foldable, MESSAGE } from "./fold.js";
import { markdown } from "./markdown.js";

/**
 * The text of a message, also used for pending messages.
 *
 * @param {string} text
 */
export function prose(text) {
  return foldable(h("div", { class: "prose" }), text, markdown, MESSAGE);
}

/**
 * A message with a button that copies its source.
 *
 * @param {string} text
 */
export function spoken(text) {
  return h("div", { class: "spoken" }, prose(text), text ? copyButton("Copy the message", () => text, "copy-message") : null);
}

/** @param {string} text */
export function thought(text) {
  const block = h("p", { class: "thought__text", dir: "auto" });
  return h(
    "div",
    { class: "thought", data: { testid: "thought" } },
    h("span", { class: "thought__label" }, "Thought"),
    foldable(block, text, (shown) => new Text(shown), CODE),
  );
}
