/** Texts for the server's constants and for the agent's actions. */

/** @typedef {import("./types.js").Event} Event */

/** @type {Record<string, string>} */
const AGENT_STATES = {
  init: "Starting",
  loading: "Starting",
  running: "Working",
  awaiting_user_input: "Ready",
  paused: "Paused",
  stopped: "Stopped",
  finished: "Finished",
  rejected: "Declined",
  error: "Error",
  awaiting_user_confirmation: "Needs your answer",
  user_confirmed: "Approved",
  user_rejected: "Rejected",
  rate_limited: "Rate limited",
  waiting: "Waiting",
};

/** @type {Record<string, string>} */
const REASONS = {
  CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE: "The model's rate limit was reached; the agent has stopped.",
  AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED: "Not carried out: the agent was stopped.",
  AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_ERROR: "Not carried out: the agent ran into an error.",
  STATUS$ERROR_RUNTIME_DISCONNECTED: "The runtime disconnected.",
  STATUS$ERROR_LLM_AUTHENTICATION: "The model provider did not accept the API key.",
  STATUS$ERROR_LLM_SERVICE_UNAVAILABLE: "The model provider is not available.",
  STATUS$ERROR_LLM_INTERNAL_SERVER_ERROR: "The model provider failed.",
  STATUS$ERROR_LLM_OUT_OF_CREDITS: "The model provider reports that your credit is used up.",
  STATUS$ERROR_LLM_CONTENT_POLICY_VIOLATION: "The model provider refused the content.",
};

export const WAITS_FOR_SLOT =
  "Waiting for a free agent. Your other conversations are using all agents; this one continues when one of them finishes or is stopped.";
/** An acknowledgement gives no reason for the wait: the server may also be about to stop. */
export const WAITS_WITH_MESSAGE = "Waiting for a free agent. Your message is saved and will be answered as soon as an agent is free.";

/** @type {Record<string, string>} */
const CONNECTIONS = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Connected",
  reconnecting: "Reconnecting",
  closed: "Disconnected",
};

/** @type {Record<string, string>} */
const STATUSES = {
  STATUS$BUILDING_RUNTIME: "Building the runtime",
  STATUS$STARTING_RUNTIME: "Starting the runtime",
  STATUS$SETTING_UP_WORKSPACE: "Setting up the workspace",
  STATUS$SETTING_UP_GIT_HOOKS: "Setting up git hooks",
};

/** @type {Record<string, string>} */
const INTERRUPTIONS = {
  stopped: "Stopped",
  message: "Interrupted by your message",
  crashed: "Cut off by a crash",
  timed_out: "Out of time",
  failed: "Failed",
};

/** Why a text is not whole. @param {string} why */
export function interruptionText(why) {
  return INTERRUPTIONS[why] ?? "Not whole";
}

/** @param {string} state */
export function agentStateText(state) {
  return AGENT_STATES[state] ?? state.replaceAll("_", " ");
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
  if (connection === "connected" && polls) return "Connected by polling";
  return CONNECTIONS[connection] ?? connection;
}

/**
 * The text of a reason: the server sends a text, or one of the protocol's constants.
 *
 * @param {string} reason
 */
export function reasonText(reason) {
  return REASONS[reason] ?? (reason || "Something went wrong; the server gave no reason.");
}

/** @param {Event} observation */
export function isRateLimit(observation) {
  return observation.extras?.error_id === "CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE";
}

/** @param {Event} update */
export function statusText(update) {
  return update.message || STATUSES[String(update.id)] || "";
}

/** @param {string} source */
export function speakerText(source) {
  if (source === "user") return "You";
  return source === "agent" ? "Agent" : "Server";
}

/**
 * An action that needs confirmation: what it would do, and on which object.
 *
 * @param {Event | null} action
 * @returns {{verb: string, object: string}}
 */
export function confirmedStep(action) {
  const args = action?.args ?? {};
  switch (action?.action) {
    case "run":
      return { verb: "run this command", object: args.command ?? "" };
    case "run_ipython":
      return { verb: "run this code", object: args.code ?? "" };
    case "read":
    case "write":
    case "edit":
      return { verb: `${action.action} this file`, object: args.path ?? "" };
    case "browse":
      return { verb: "open this page", object: args.url ?? "" };
    case "call_tool_mcp":
      return { verb: "call this tool", object: args.name ?? "" };
    default:
      return { verb: "do the next step", object: action?.message || action?.action || "" };
  }
}

/** @type {Record<string, string>} */
const DEEDS = {
  run: "run commands",
  run_ipython: "run Python code",
  read: "read files",
  write: "write files",
  edit: "edit files",
  browse: "open pages",
  browse_interactive: "act on pages",
  call_tool_mcp: "call tools",
  delegate: "delegate tasks",
};

/** What actions of a kind do. @param {string} kind */
export function deedText(kind) {
  return DEEDS[kind] ?? `take the step “${kind.replaceAll("_", " ")}”`;
}

/**
 * Who decided about an action.
 *
 * @param {import("./types.js").Decided} decided
 */
export function decisionText({ approved, by }) {
  const what = approved ? "approved" : "rejected";
  if (by === "you") return `You ${what} it`;
  return `${approved ? "Approved" : "Rejected"}${by === "elsewhere" ? " elsewhere" : ""}`;
}

/** The assessed risk of an action, "" if it was not assessed. @param {unknown} risk */
export function riskText(risk) {
  return typeof risk === "number" ? (["Low risk", "Medium risk", "High risk"][risk] ?? "") : "";
}
