/** What people and agents say: messages and thoughts. */

import { texts } from "../language.js";
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
  return spokenFrame(prose(text, watched), text ? copyButton(texts.prose.copyMessage, () => text, "copy-message") : null);
}

/** @param {...(Node | null)} children */
export function spokenFrame(...children) {
  return h("div", { class: "spoken" }, ...children);
}

/** What the agent says of an action. @param {string} text */
export function thought(text) {
  const block = h("p", { class: "thought__text", dir: "auto" });
  const shown = foldable(block, text, (part) => new Text(part), CODE);
  return h("div", { class: "thought", data: { testid: "thought" } }, h("span", { class: "thought__label" }, texts.transcript.thought), shown);
}
