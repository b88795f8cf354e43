/** What a command, a tool or a failure printed. */

import { texts } from "../language.js";
import { plainOf, runsOf } from "../text/ansi.js";
import { answered, errorText } from "./cards.js";
import { copyButton } from "./copy.js";
import { h } from "./dom.js";
import { foldable, OUTPUT } from "./fold.js";

/** @typedef {import("../types.js").Event} Event */

/**
 * @param {Event | null} observation
 * @param {string} testid
 * @returns {HTMLElement | null} null when there is nothing to show
 */
export function output(observation, testid) {
  const text = printed(observation);
  if (text) return outputBlock(text, testid, !answered(observation));
  return observation?.observation === "run" ? h("p", { class: "card__empty", data: { testid } }, texts.cards.noOutput) : null;
}

/**
 * @param {string} text
 * @param {string} testid
 * @param {boolean} [bad] whether it says what went wrong
 */
export function outputBlock(text, testid, bad = false) {
  const block = h("pre", { class: "card__output", data: { testid, bad: bad ? "true" : undefined }, dir: "ltr" });
  return foldable(block, text, coloured, OUTPUT);
}

/**
 * @param {Event | null} observation
 * @returns {HTMLButtonElement | null}
 */
export function copyOutput(observation) {
  const text = printed(observation);
  return text ? copyButton(texts.cards.copyOutput, () => plainOf(text), "copy-output") : null;
}

/** @param {Event | null} observation */
function printed(observation) {
  if (!observation) return "";
  return answered(observation) ? String(observation.content ?? "") : errorText(observation);
}

/** @param {string} text */
function coloured(text) {
  const result = document.createDocumentFragment();
  for (const run of runsOf(text)) {
    result.append(run.look ? h("span", { class: run.look }, run.text) : run.text);
  }
  return result;
}
