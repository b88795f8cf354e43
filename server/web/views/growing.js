/** A message that is being written, as markdown: its blocks as they grow, and a caret at their end. */

import { finishCode } from "./code-block.js";
import { h } from "./dom.js";
import { GrowingBlocks } from "./growing-blocks.js";
import { blockTokensOf, MOST_CHARACTERS } from "./markdown.js";

/** Elements within which the end of a text stands. */
const CONTAINERS = ["p", "ul", "ol", "li", "blockquote", "h2", "h3", "h4", "h5", "h6", "pre", "code", "table", "tbody", "tr", "td", ".code", ".prose__table"].join();

export class GrowingProse {
  element = h("div", { class: "prose", data: { growing: "true" } });

  /** Shows the reader that more is to come. */
  #caret = h("span", { class: "caret", "aria-hidden": "true" });
  #blocks = new GrowingBlocks(this.element);

  /**
   * Shows a text that begins with the one shown so far.
   *
   * @param {string} text
   */
  show(text) {
    this.#caret.remove();
    this.#blocks.grow(text, true);
    const end = innermost(this.element);
    if (end !== this.element) end.append(this.#caret);
  }

  /**
   * Shows the whole text. What is drawn already stays, as far as markdown reads it in the same way now that its end
   * is known.
   *
   * @param {string} text
   * @param {(text: string) => Node} paint draws it anew
   */
  finish(text, paint) {
    this.#caret.remove();
    delete this.element.dataset.growing;
    if (text.startsWith(this.#blocks.text)) {
      this.#blocks.grow(text, false);
      this.#blocks.complete();
      if (text.length <= MOST_CHARACTERS) this.#blocks.settle(blockTokensOf(text));
    } else {
      this.element.replaceChildren(paint(text));
    }
    finishCode(this.element);
  }
}

/** The element within which the text ends. @param {Element} element */
function innermost(element) {
  let inner = element;
  while (inner.lastElementChild?.matches(CONTAINERS) && !inner.lastElementChild.nextSibling?.textContent) inner = inner.lastElementChild;
  return inner;
}
