/** What a person decides about an action, on its card: the question, and the decision. */

import { hourOf } from "../clock.js";
import { texts } from "../language.js";
import { confirmedStep, decisionText, deedText, riskText } from "../wording.js";
import { h } from "./dom.js";
import { isEditable } from "./edit-fields.js";

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
  const about = { "aria-describedby": `${id} ${whatId}` };
  /** @param {string} act @param {string} text @param {Record<string, string>} [props] */
  const button = (act, text, props = {}) =>
    h("button", { type: "button", class: "button", ...about, ...props, data: { testid: act, act } }, text);
  const reason = h("input", {
    class: "field field--small question__reason",
    type: "text",
    name: "reason",
    maxlength: MOST_REASON_CHARACTERS,
    autocomplete: "off",
    placeholder: texts.question.reason,
    "aria-label": texts.question.reasonLabel,
    data: { testid: "reason" },
    oninput: () => (entry.reason = reason.value),
  });
  reason.value = entry.reason ?? "";
  const answers = entry.expired
    ? [button("renew", texts.question.askAgain)]
    : [
        reason,
        button("reject", texts.question.reject, { type: "submit" }),
        isEditable(entry) ? button("edit", texts.question.edit) : null,
        button("approve", texts.question.approve, { class: "button button--strong" }),
      ];
  return h(
    "form",
    // Without a name of its own: there may be many, and each would be a landmark of the page.
    { class: "question", data: { testid: "question", question: String(entry.id) } },
    h("p", { class: "question__text", id }, questionText(entry), " ", riskMark(entry)),
    entry.expired ? null : alwaysBox(entry),
    h("div", { class: "question__answers" }, ...answers),
  );
}

/** @param {Entry} entry */
export function questionText(entry) {
  const { verb } = confirmedStep(entry.action);
  return entry.expired ? `${texts.question.may(verb)} ${texts.question.over}` : texts.question.may(verb);
}

/**
 * Whether later actions of the kind need no answer. All boxes about one entry say the same.
 *
 * @param {Entry} entry
 * @param {string} [testid]
 */
export function alwaysBox(entry, testid = "always") {
  const data = { testid, always: String(entry.id) };
  const box = h("input", { type: "checkbox", class: "always__box", data });
  box.checked = entry.always ?? false;
  box.addEventListener("keydown", (event) => {
    // Browsers send the form then, which would decide.
    if (event.key !== "Enter") return;
    event.preventDefault();
    box.click();
  });
  box.addEventListener("change", () => {
    entry.always = box.checked;
    /** @type {NodeListOf<HTMLInputElement>} */
    const others = document.querySelectorAll(`[data-always="${entry.id}"]`);
    for (const other of others) other.checked = box.checked;
  });
  return h("label", { class: "always" }, box, h("span", {}, texts.question.always(deedText(entry.name))));
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
  const changes = decided.edited || action?.edited_by !== undefined ? texts.decisions.withChanges : "";
  const when = decided.at ? ` ${texts.decisions.at(hourOf(decided.at))}` : "";
  const always = decided.always ? texts.decisions.fromThenOn(deedText(decided.always)) : "";
  return h("p", { class: "question question--over", data: { testid: "decision" } }, `${decisionText(decided)}${changes}${when}${always}`);
}
