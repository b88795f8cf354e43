/** Cost and tokens in the head, and where they went in a panel below. */

import { numberText, texts } from "../language.js";
import { costText, tokenText } from "../usage.js";
import { h, slot } from "./dom.js";

/** @typedef {import("../types.js").Usage} Usage */

/** @param {import("../store.js").Store} store */
export function mountUsage(store) {
  const button = slot("usage");
  const panel = slot("usage-panel");
  store.watch(["usage", "openId"], () => {
    const { usage } = store.state;
    button.hidden = usage === null;
    if (usage === null) return panel.hidePopover();
    const tokens = usage.prompt + usage.completion;
    const cost = hasCost(usage) ? costText(usage.cost) : "";
    button.replaceChildren(
      cost ? h("span", {}, cost) : "",
      " ",
      h("span", { class: cost ? "usage__tokens" : undefined }, texts.usage.tokens(tokenText(tokens))),
    );
    button.setAttribute("aria-label", texts.usage.label(cost, tokenText(tokens)).trim());
    slot("usage-rows").replaceChildren(...rows(usage).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  });
}

/** Whether something can be said of the cost: there are models without a known price. @param {Usage} usage */
function hasCost({ cost, isPriced }) {
  return cost > 0 || isPriced;
}

/**
 * @param {Usage} usage
 * @returns {[string, string][]}
 */
function rows(usage) {
  /** @type {[string, string][]} */
  const all = [[texts.usage.cost, hasCost(usage) ? `$${usage.cost.toFixed(usage.cost < 1 ? 4 : 2)}` : texts.usage.notKnown]];
  if (usage.budget !== null) all.push([texts.usage.budget, `$${usage.budget.toFixed(2)}`]);
  all.push([texts.usage.sent, numberText(usage.prompt)], [texts.usage.received, numberText(usage.completion)]);
  if (usage.cached > 0) all.push([texts.usage.cached, numberText(usage.cached)]);
  if (usage.window > 0) all.push([texts.usage.window, texts.usage.of(tokenText(usage.turn), tokenText(usage.window))]);
  if (usage.model) all.push([texts.usage.model, usage.model]);
  return all;
}
