/** What a conversation has cost so far, as the newest event with metrics says. */

import { locale } from "./language.js";

/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Usage} Usage */

/** Made when first needed: the first formatter of a page takes its time. @type {Intl.NumberFormat | undefined} */
let compact;

/**
 * @param {Event} event
 * @returns {Usage | null} null when the event carries no metrics
 */
export function usageOf(event) {
  const metrics = event.llm_metrics;
  if (!metrics || typeof metrics !== "object") return null;
  const tokens = metrics.accumulated_token_usage ?? {};
  return {
    cost: numberOf(metrics.accumulated_cost),
    isPriced: metrics.priced !== false,
    budget: metrics.max_budget_per_task === null ? null : numberOf(metrics.max_budget_per_task),
    model: String(tokens.model ?? ""),
    prompt: numberOf(tokens.prompt_tokens),
    completion: numberOf(tokens.completion_tokens),
    cached: numberOf(tokens.cache_read_tokens),
    turn: numberOf(tokens.per_turn_token),
    window: numberOf(tokens.context_window),
  };
}

/** Amounts below a cent keep the digits that tell them from nothing. @param {number} usd */
export function costText(usd) {
  if (usd > 0 && usd < 0.0001) return "<$0.0001";
  return `$${usd.toFixed(usd > 0 && usd < 0.1 ? 4 : 2)}`;
}

/** @param {number} count */
export function tokenText(count) {
  compact ??= new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
  return compact.format(count);
}

/** @param {unknown} value */
function numberOf(value) {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}
