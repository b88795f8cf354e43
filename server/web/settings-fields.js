/** The settings the page offers, each of which the server or an agent goes by: how it is asked for, what it means. */

import { texts } from "./language.js";

/**
 * @typedef {object} SettingField
 * @property {string} name As the server calls it.
 * @property {string} label
 * @property {"text" | "url" | "email" | "whole" | "money" | "switch" | "choice" | "key"} kind
 * @property {string} [hint]
 * @property {number} [least]
 * @property {"models" | "languages"} [from] Where the choices come from.
 *
 * @typedef {{heading: string, fields: SettingField[]}} SettingGroup
 */

/** @type {SettingGroup[]} */
export const SETTING_GROUPS = [
  {
    heading: texts.groups.agent,
    fields: [
      { name: "confirmation_mode", label: texts.fields.confirmation_mode, kind: "switch", hint: texts.fieldHints.confirmation_mode },
      { name: "max_iterations", label: texts.fields.max_iterations, kind: "whole", least: 1 },
      { name: "max_budget_per_task", label: texts.fields.max_budget_per_task, kind: "money", hint: texts.fieldHints.max_budget_per_task },
      { name: "turn_seconds", label: texts.fields.turn_seconds, kind: "whole", least: 1, hint: texts.fieldHints.turn_seconds },
    ],
  },
  {
    heading: texts.groups.model,
    fields: [
      { name: "llm_model", label: texts.fields.llm_model, kind: "text", from: "models", hint: texts.fieldHints.llm_model },
      { name: "llm_base_url", label: texts.fields.llm_base_url, kind: "url", hint: texts.fieldHints.llm_base_url },
      { name: "llm_api_key", label: texts.fields.llm_api_key, kind: "key" },
    ],
  },
  {
    heading: texts.groups.you,
    fields: [
      { name: "language", label: texts.fields.language, kind: "choice", from: "languages", hint: texts.fieldHints.language },
      { name: "git_user_name", label: texts.fields.git_user_name, kind: "text", hint: texts.fieldHints.git_user_name },
      { name: "git_user_email", label: texts.fields.git_user_email, kind: "email" },
      { name: "enable_sound_notifications", label: texts.fields.enable_sound_notifications, kind: "switch" },
    ],
  },
];

/** The fields that a trial of the model sends. */
export const MODEL_FIELDS = ["llm_model", "llm_base_url", "llm_api_key"];

/** Those that the server lets agents be asked for. */
export const AGENT_LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "no", "tr", "uk", "ar", "ja", "ko-KR", "zh-CN", "zh-TW"];

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
