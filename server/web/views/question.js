/** What a person decides about an action, on its card: the question, and the decision. */

import { hourOf } from "../clock.js";
import { confirmedStep, decisionText, riskText } from "../wording.js";
import { h } from "./dom.js";

/** @typedef {import("../types.js").Entry} Entry */

/** The server takes no longer one. */
const MOST_REASON_CHARACTERS = 2_000;

/**
 * The question whether the agent may do it. What is written as a reason stays with the entry.
 *
 * @param {Entry} entry
 * @param {string} whatId of the element that shows what will run
 */
export function question(entry, whatId) {
  const id = `question-${entry.id}`;
  const reason = h("input", {
    class: "field field--small question__reason",
    type: "text",
    maxlength: MOST_REASON_CHARACTERS,
    autocomplete: "off",
    placeholder: "Reason to reject",
    "aria-label": "Reason for rejecting it",
    data: { testid: "reason" },
    oninput: () => (entry.reason = reason.value),
  });
  reason.value = entry.reason ?? "";
  const about = { "aria-describedby": `${id} ${whatId}` };
  const answers = entry.expired
    ? [h("button", { type: "button", class: "button", ...about, data: { testid: "renew", act: "renew" } }, "Ask again")]
    : [
        reason,
        h("button", { type: "submit", class: "button", ...about, data: { testid: "reject", act: "reject" } }, "Reject"),
        h("button", { type: "button", class: "button button--strong", ...about, data: { testid: "approve", act: "approve" } }, "Approve"),
      ];
  return h(
    "form",
    { class: "question", "aria-labelledby": id, data: { testid: "question", question: String(entry.id) } },
    h("p", { class: "question__text", id }, questionText(entry), " ", riskMark(entry)),
    h("div", { class: "question__answers" }, ...answers),
  );
}

/** @param {Entry} entry */
export function questionText(entry) {
  return `May the agent ${confirmedStep(entry.action).verb}?${entry.expired ? " The time to answer is over." : ""}`;
}

/** @param {Entry} entry */
export function riskMark(entry) {
  const risk = entry.action?.args?.security_risk;
  const text = riskText(risk);
  return text ? h("span", { class: "risk", data: { risk: String(risk) } }, text) : null;
}

/**
 * Who decided, and when, as far as it is known.
 *
 * @param {Entry} entry
 * @returns {HTMLElement | null} null for what nobody was asked about
 */
export function decision({ action, decided }) {
  if (!decided) return null;
  const changes = action?.edited_by === undefined ? "" : ", with changes,";
  const when = decided.at ? ` at ${hourOf(decided.at)}` : "";
  return h("p", { class: "question question--over", data: { testid: "decision" } }, `${decisionText(decided)}${changes}${when}`);
}
