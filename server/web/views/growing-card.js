/** The card of an action that is being written: what is known of it so far. */

import { texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { h } from "./dom.js";
import { promptOf } from "./command-card.js";

/** Of a longer text the end is shown: a file of a megabyte must not be laid out with each piece. */
const MOST_CHARACTERS = 8_000;
const END_CHARACTERS = 4_000;

export class GrowingCard {
  #shown = new Text();
  /** How much of the text was taken. */
  #taken = 0;

  /** @param {string} kind of the action */
  constructor(kind) {
    const verb = /** @type {Record<string, string>} */ (texts.writes)[kind] ?? texts.writing.other(kind.replaceAll("_", " "));
    const caret = h("span", { class: "caret", "aria-hidden": "true" });
    const isCommand = kind === "run" || kind === "run_ipython";
    const text = h("pre", { class: isCommand ? "card__code" : "card__output", dir: "ltr" }, this.#shown, caret);
    const growing = h("div", { class: "card__growing" }, text);
    const line = isCommand
      ? h("div", { class: "card__command" }, promptOf(kind), growing)
      : h("div", { class: "card__words" }, h("span", { class: "card__verb" }, verb));
    this.element = h(
      "div",
      { class: "card", role: "group", "aria-label": verb, data: { testid: "growing-card" } },
      h(
        "div",
        { class: "card__head" },
        h("div", { class: "card__line" }, line),
        h("span", { class: "card__verdict", data: { stage: "running" } }, h("span", { class: "spinner", "aria-hidden": "true" }), texts.cards.writing),
      ),
      isCommand ? null : growing,
    );
  }

  /** Shows a text that begins with the one shown so far. @param {string} text */
  show(text) {
    this.#shown.appendData(revealed(text.slice(this.#taken)));
    this.#taken = text.length;
    if (this.#shown.length > MOST_CHARACTERS) this.#shown.data = `…${this.#shown.data.slice(-END_CHARACTERS)}`;
  }
}
