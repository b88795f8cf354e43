/** Texts for the server's constants and for the agent's actions. */

import { texts } from "./language.js";

/** @typedef {import("./types.js").Event} Event */

/** Why a text is not whole. @param {string} why */
export function interruptionText(why) {
  return table(texts.interruptions)[why] ?? texts.transcript.cutOff;
}

/** @param {string} state */
export function agentStateText(state) {
  return table(texts.states)[state] ?? state.replaceAll("_", " ");
}

/**
 * The agent's state to show: an agent without a slot is waiting, whatever its log says.
 *
 * @param {{agentState: string, waits: string}} state
 */
export function shownState({ agentState, waits }) {
  return waits ? "waiting" : agentState;
}

/**
 * @param {string} connection
 * @param {boolean} polls whether the connection uses polling
 */
export function connectionText(connection, polls) {
  if (connection === "connected" && polls) return texts.connection.byPolling;
  return table(texts.connections)[connection] ?? connection;
}

/**
 * The text of a reason: the server sends a text, or one of the protocol's constants.
 *
 * @param {string} reason
 */
export function reasonText(reason) {
  return table(texts.reasons)[reason] ?? (reason || texts.requests.noReason);
}

/**
 * What came of a trial of the model, without the server's own words.
 *
 * @param {{works: boolean, reason: string | null}} outcome
 */
export function trialText({ works, reason }) {
  return works ? texts.settings.works : (table(texts.reasons)[reason ?? ""] ?? texts.settings.worksNot);
}

/** @param {Event} observation */
export function isRateLimit(observation) {
  return observation.extras?.error_id === "CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE";
}

/** @param {Event} update */
export function statusText(update) {
  return update.message || table(texts.statuses)[String(update.id)] || "";
}

/** @param {string} source */
export function speakerText(source) {
  if (source === "user") return texts.transcript.you;
  return source === "agent" ? texts.transcript.agent : texts.transcript.server;
}

/**
 * An action that needs confirmation: what it would do, and on which object.
 *
 * @param {Event | null} action
 * @returns {{verb: string, object: string}}
 */
export function confirmedStep(action) {
  const args = action?.args ?? {};
  const verb = table(texts.steps)[action?.action ?? ""] ?? texts.steps.other;
  switch (action?.action) {
    case "run":
      return { verb, object: args.command ?? "" };
    case "run_ipython":
      return { verb, object: args.code ?? "" };
    case "read":
    case "write":
    case "edit":
      return { verb, object: args.path ?? "" };
    case "browse":
      return { verb, object: args.url ?? "" };
    case "call_tool_mcp":
      return { verb, object: args.name ?? "" };
    default:
      return { verb, object: action?.message || action?.action || "" };
  }
}

/** What actions of a kind do. @param {string} kind */
export function deedText(kind) {
  return table(texts.kinds)[kind] ?? texts.question.otherKind(kind.replaceAll("_", " "));
}

/**
 * Who decided about an action.
 *
 * @param {import("./types.js").Decided} decided
 */
export function decisionText({ approved, by }) {
  if (by === "you") return approved ? texts.decisions.youApproved : texts.decisions.youRejected;
  if (by === "elsewhere") return approved ? texts.decisions.approvedElsewhere : texts.decisions.rejectedElsewhere;
  return approved ? texts.decisions.approved : texts.decisions.rejected;
}

/** The assessed risk of an action, "" if it was not assessed. @param {unknown} risk */
export function riskText(risk) {
  return typeof risk === "number" ? ([texts.question.lowRisk, texts.question.mediumRisk, texts.question.highRisk][risk] ?? "") : "";
}

/** A group of texts by what the server calls them, of which it may have more. @param {Record<string, string>} group */
function table(group) {
  return /** @type {Record<string, string | undefined>} */ (group);
}
