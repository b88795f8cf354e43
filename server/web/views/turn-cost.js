/** What a turn has cost, beside the entry that the pointer is on. */

import { texts } from "../language.js";
import { costText, tokenText } from "../usage.js";
import { h, slot } from "./dom.js";

/** @param {(turn: number) => {cost: number, tokens: number} | null} costOf null when it is not known */
export function mountTurnCost(costOf) {
  slot("entries").addEventListener("pointerover", ({ target }) => {
    const entry = target instanceof Element ? /** @type {HTMLElement | null} */ (target.closest("[data-turn]")) : null;
    const margin = entry?.querySelector(".entry__margin");
    if (!margin) return;
    const found = costOf(Number(entry?.dataset.turn));
    const lines = [];
    if (found && found.cost > 0) lines.push(costText(found.cost));
    if (found && found.tokens > 0) lines.push(texts.usage.tokens(tokenText(found.tokens)));
    const shown = margin.querySelector(".entry__cost");
    const text = lines.join("\n");
    if ((shown?.textContent ?? "") === text) return;
    shown?.remove();
    if (text) margin.append(h("span", { class: "entry__cost", title: texts.usage.ofTurn, data: { testid: "turn-cost" } }, text));
  }, { passive: true });
}
