/** The texts that are being written, at the end of the transcript, until their events take their places. */

import { frame } from "./entries.js";
import { GrowingCard } from "./growing-card.js";
import { GrowingProse } from "./growing.js";
import { markdown } from "./markdown.js";
import { spokenFrame } from "./prose.js";
import { Reasoning } from "./reasoning.js";

/** @typedef {import("../types.js").Event} Event */
/** @typedef {import("../types.js").Partial} Partial */

export class Writing {
  /** @type {import("../partials.js").Held} */
  #held = new Map();
  /** By the ids of their partials. @type {Map<string, WrittenText>} */
  #texts = new Map();
  /** Partials whose events have arrived and are not drawn yet. @type {Set<string>} */
  #ended = new Set();

  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
  }

  clear() {
    this.#held = new Map();
    this.#texts.clear();
    this.#ended.clear();
    this.list.replaceChildren();
  }

  /** Notes what is to be drawn. @param {import("../partials.js").Held} held */
  hold(held) {
    this.#held = held;
  }

  /** The event of a partial will be drawn; until then its text stays. @param {Event} event */
  await(event) {
    if (event.partial !== undefined) this.#ended.add(event.partial);
  }

  /** Draws what is held. @param {string} [before] who speaks in the entry above */
  draw(before) {
    for (const [id, text] of this.#texts) {
      if (!this.#held.has(id) && !this.#ended.has(id)) this.#remove(id, text);
    }
    for (const [id, partial] of this.#held) {
      let text = this.#texts.get(id);
      if (!text) {
        const last = [...this.#texts.values()].at(-1);
        last?.rest?.();
        text = textOf(partial, (last ? "agent" : before) === "agent");
        this.#texts.set(id, text);
        this.list.append(text.element);
      }
      text.show(partial.text);
    }
  }

  /**
   * Removes the text that an event completes.
   *
   * @param {Event} event
   * @returns {HTMLElement | undefined} what showed it, and now shows all of it
   */
  take(event) {
    const id = event.partial ?? "";
    this.#ended.delete(id);
    const text = this.#texts.get(id);
    if (!text) return undefined;
    this.#remove(id, text);
    return text.finish(event);
  }

  /** @param {string} id @param {WrittenText} text */
  #remove(id, text) {
    this.#texts.delete(id);
    text.element.remove();
  }
}

/**
 * @typedef {object} WrittenText
 * @property {HTMLElement} element
 * @property {(text: string) => void} show
 * @property {() => void} [rest] called when another text begins behind it
 * @property {(event: Event) => HTMLElement | undefined} finish
 */

/**
 * @param {Partial} partial
 * @param {boolean} continued
 * @returns {WrittenText}
 */
function textOf({ kind, field }, continued) {
  const data = { testid: "written", kind: kind === "think" ? "thought" : kind, source: "agent", continued: continued ? "true" : undefined };
  /** @param {Node} body */
  const framed = (body) => frame(data, new Date().toISOString(), "", body);
  if (kind === "message") {
    const prose = new GrowingProse();
    return {
      element: framed(spokenFrame(prose.element)),
      show: (text) => prose.show(text),
      finish(event) {
        prose.finish(String(event.args?.[field] ?? ""), markdown);
        return prose.element;
      },
    };
  }
  if (kind === "think") {
    const thoughts = new Reasoning();
    return {
      element: framed(thoughts.element),
      show: (text) => thoughts.show(text),
      rest: () => thoughts.rest(),
      finish(event) {
        thoughts.finish(String(event.args?.[field] ?? ""));
        return thoughts.element;
      },
    };
  }
  const card = new GrowingCard(kind);
  return { element: framed(card.element), show: (text) => card.show(text), finish: () => undefined };
}
