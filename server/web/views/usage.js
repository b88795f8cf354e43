/** Cost and tokens in the head, and where they went in a panel below. */

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
    button.replaceChildren(
      h("span", {}, costText(usage.cost)),
      " ",
      h("span", { class: "usage__tokens" }, `${tokenText(tokens)} tokens`),
    );
    button.setAttribute("aria-label", `${costText(usage.cost)} ${tokenText(tokens)} tokens, show details`);
    slot("usage-rows").replaceChildren(...rows(usage).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  });
}

/**
 * @param {Usage} usage
 * @returns {[string, string][]}
 */
function rows(usage) {
  /** @type {[string, string][]} */
  const all = [["Cost", `$${usage.cost.toFixed(usage.cost < 1 ? 4 : 2)}`]];
  if (usage.budget !== null) all.push(["Budget", `$${usage.budget.toFixed(2)}`]);
  all.push(["Tokens sent", usage.prompt.toLocaleString("en")], ["Tokens received", usage.completion.toLocaleString("en")]);
  if (usage.cached > 0) all.push(["Read from the cache", usage.cached.toLocaleString("en")]);
  if (usage.window > 0) all.push(["Context in use", `${tokenText(usage.turn)} of ${tokenText(usage.window)}`]);
  if (usage.model) all.push(["Model", usage.model]);
  return all;
}
