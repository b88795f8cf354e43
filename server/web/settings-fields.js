/** The settings the page offers: which field, how it is asked for, what it means. */

/**
 * @typedef {object} SettingField
 * @property {string} name As the server calls it.
 * @property {string} label
 * @property {"text" | "url" | "email" | "whole" | "money" | "switch" | "choice" | "key"} kind
 * @property {string} [hint]
 * @property {number} [least]
 * @property {"agents" | "models" | "languages"} [from] Where the choices come from.
 *
 * @typedef {{heading: string, fields: SettingField[]}} SettingGroup
 */

/** @type {SettingGroup[]} */
export const SETTING_GROUPS = [
  {
    heading: "Agent",
    fields: [
      { name: "agent", label: "Agent", kind: "choice", from: "agents" },
      { name: "confirmation_mode", label: "Ask before each action", kind: "switch", hint: "Applies, like the limits below, to agents that start after the change." },
      { name: "max_iterations", label: "Step limit per task", kind: "whole", least: 1 },
      { name: "max_budget_per_task", label: "Budget per task, in US dollars", kind: "money", hint: "Leave empty for no limit." },
      { name: "turn_seconds", label: "Time limit per turn, in seconds", kind: "whole", least: 1, hint: "Time in which the agent waits for you or for an action does not count." },
    ],
  },
  {
    heading: "Model",
    fields: [
      { name: "llm_model", label: "Model", kind: "text", from: "models", hint: "As its provider names it: gpt-5-mini, anthropic:claude-sonnet-4-5, ollama/qwen3." },
      { name: "llm_base_url", label: "Provider URL", kind: "url", hint: "Leave empty for the provider's own; for any other endpoint that speaks as OpenAI's does, its address up to /v1." },
      { name: "llm_api_key", label: "API key", kind: "key" },
      { name: "search_api_key", label: "API key of the search service", kind: "key" },
      { name: "enable_default_condenser", label: "Condense long conversations", kind: "switch" },
      { name: "condenser_max_size", label: "Condense after this many events", kind: "whole", least: 20 },
    ],
  },
  {
    heading: "You",
    fields: [
      { name: "language", label: "Language", kind: "choice", from: "languages", hint: "For agents; this page is in English." },
      { name: "git_user_name", label: "Name in commits", kind: "text" },
      { name: "git_user_email", label: "Email in commits", kind: "email" },
      { name: "enable_sound_notifications", label: "Play a sound when the agent needs you", kind: "switch" },
      { name: "enable_proactive_conversation_starters", label: "Suggest ways to start", kind: "switch" },
    ],
  },
];

/** The fields that a trial of the model sends. */
export const MODEL_FIELDS = ["llm_model", "llm_base_url", "llm_api_key"];

export const LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "no", "tr", "uk", "ar", "ja", "ko-KR", "zh-CN", "zh-TW"];

/**
 * The value of a control in the form of the API; undefined for "no change".
 *
 * @param {SettingField} field
 * @param {HTMLInputElement | HTMLSelectElement} control
 * @param {any} stored
 */
export function changeOf(field, control, stored) {
  if (field.kind === "switch") {
    const { checked } = /** @type {HTMLInputElement} */ (control);
    return checked === Boolean(stored) ? undefined : checked;
  }
  const text = control.value.trim();
  if (field.kind === "key") return text || undefined;
  if (text === String(stored ?? "")) return undefined;
  if (field.kind === "whole" || field.kind === "money") return text === "" ? null : Number(text);
  // Null would leave the model and its address as they are.
  return text === "" && !field.name.startsWith("llm_") ? null : text;
}
