/** Texts of the documents: what stands between backquotes is code. */

import { h } from "./dom.js";

/**
 * @param {string} text
 * @param {string} [name]  its class
 */
export function prose(text, name = "prose") {
  return h("p", { class: name }, ...words(text));
}

/**
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function words(text) {
  return text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}
