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
      { name: "confirmation_mode", label: "Ask before each action", kind: "switch", hint: "Holds for conversations that start from now on, as the two limits do." },
      { name: "max_iterations", label: "Most steps of one task", kind: "whole", least: 1 },
      { name: "max_budget_per_task", label: "Budget of one task, in US dollars", kind: "money", hint: "Empty for no limit." },
    ],
  },
  {
    heading: "Model",
    fields: [
      { name: "llm_model", label: "Model", kind: "text", from: "models" },
      { name: "llm_base_url", label: "Address of the provider", kind: "url", hint: "Empty for the provider's own." },
      { name: "llm_api_key", label: "API key", kind: "key" },
      { name: "search_api_key", label: "Key of the search service", kind: "key" },
      { name: "enable_default_condenser", label: "Condense long conversations", kind: "switch" },
      { name: "condenser_max_size", label: "Condense from this many events", kind: "whole", least: 20 },
    ],
  },
  {
    heading: "You",
    fields: [
      { name: "language", label: "Language", kind: "choice", from: "languages", hint: "Kept for agents; the page speaks English." },
      { name: "git_user_name", label: "Name in commits", kind: "text" },
      { name: "git_user_email", label: "Address in commits", kind: "email" },
      { name: "enable_sound_notifications", label: "A sound when the agent needs you", kind: "switch" },
      { name: "enable_proactive_conversation_starters", label: "Suggestions to begin with", kind: "switch" },
    ],
  },
];

export const LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "no", "tr", "uk", "ar", "ja", "ko-KR", "zh-CN", "zh-TW"];

/**
 * What a control says, as the server takes it; undefined for "no change".
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
