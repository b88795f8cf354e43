/** What the agent thinks: one line, the whole text on demand, also while it is written. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { foldable } from "./fold.js";

/** So much of a line is shown. */
const MOST_GIST_CHARACTERS = 200;
/** @type {import("./fold.js").Limits} */
const WHOLE = { lines: 300, characters: 20_000, lastLines: 0, lastCharacters: 0 };

export class Reasoning {
  #label = h("span", { class: "thought__label" }, texts.transcript.thinking);
  #gist = h("span", { class: "thought__gist", dir: "auto" });
  #text = "";
  /** What shows all of it, once it was asked for. @type {Text | null} */
  #growing = null;
  #isDone = false;

  constructor() {
    this.element = h("details", { class: "thought", data: { testid: "thought" } }, h("summary", { class: "thought__line" }, this.#label, this.#gist));
    this.element.addEventListener("toggle", () => this.#open(), { once: true });
  }

  /** Shows a text that begins with the one shown so far. @param {string} text */
  show(text) {
    this.#growing?.appendData(text.slice(this.#text.length));
    this.#text = text;
    this.#gist.textContent = lineOf(text.slice(-MOST_GIST_CHARACTERS).trimEnd().split("\n").at(-1) ?? "");
  }

  /** Says that the agent does something else now. */
  rest() {
    this.#label.textContent = texts.transcript.thought;
  }

  /** Shows the whole text. @param {string} text */
  finish(text) {
    this.#text = text;
    this.#isDone = true;
    this.rest();
    this.#gist.textContent = lineOf(text.trimStart());
    if (this.#growing) this.#growing.data = text;
  }

  #open() {
    const block = h("p", { class: "thought__text", dir: "auto" });
    if (this.#isDone) {
      this.element.append(foldable(block, this.#text, (shown) => new Text(shown), WHOLE));
      return;
    }
    this.#growing = new Text(this.#text);
    block.append(this.#growing);
    this.element.append(block);
  }
}

/** @param {string} text */
function lineOf(text) {
  return text.split("\n", 1)[0].slice(0, MOST_GIST_CHARACTERS);
}

/**
 * @param {string} text
 * @param {HTMLElement} [watched] shows it already
 */
export function reasoning(text, watched) {
  if (watched) return watched;
  const made = new Reasoning();
  made.finish(text);
  return made.element;
}
