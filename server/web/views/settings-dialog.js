/** The user's settings: what is changed is sent, and nothing else. */

import { chooseLanguage, chosenLanguage, LANGUAGES, texts } from "../language.js";
import { forgetSessionKey, remembersKey } from "../session-key.js";
import { AGENT_LANGUAGES, changeOf, MODEL_FIELDS, SETTING_GROUPS } from "../settings-fields.js";
import { trialText } from "../wording.js";
import { h } from "./dom.js";
import { labelled, makeDialog } from "./dialog.js";
import { toolSection } from "./tool-section.js";

/** @typedef {import("../settings-fields.js").SettingField} SettingField */
/** @typedef {HTMLInputElement | HTMLSelectElement} Control */

/**
 * @param {import("../account.js").Account} account
 * @param {(settings: Record<string, any>) => void} read Called with what the server has.
 * @returns {{open: () => void}}
 */
export function mountSettingsDialog(account, read) {
  const fields = h("div", {});
  const tools = toolSection(account);
  const outcome = h("p", { class: "form__outcome", role: "status", data: { testid: "settings-outcome" } });
  const form = h("form", { id: "settings-form", novalidate: true }, fields);
  // Outside its form, which stands among others in what is scrolled.
  const save = h("button", { class: "button button--strong", type: "submit", form: form.id, data: { testid: "settings-save" } }, texts.dialogs.save);
  const scroll = h("div", { class: "form__scroll" }, form, tools.element);
  const body = h("div", { class: "form" }, scroll, h("div", { class: "dialog__buttons" }, outcome, save));
  const { open, close } = makeDialog("settings-dialog", texts.settings.title, body);
  /** @type {Map<SettingField, Control>} */
  const controls = new Map();
  /** @type {Record<string, any>} */
  let stored = {};

  /** @param {string} text @param {boolean} [bad] */
  const tell = (text, bad = false) => {
    outcome.textContent = text;
    outcome.dataset.bad = String(bad);
  };
  const load = async () => {
    save.disabled = true;
    scroll.setAttribute("aria-busy", "true");
    try {
      const [settings, models, programs] = await Promise.all([account.settings(), account.models(), account.mayRunPrograms()]);
      stored = settings;
      read(stored);
      controls.clear();
      const groups = SETTING_GROUPS.map(({ heading, fields: some }) =>
        h("fieldset", { class: "group" }, h("legend", { class: "group__heading" }, heading),
          ...some.flatMap((field) => [
            row(field, stored, { models, languages: AGENT_LANGUAGES }, controls),
            field.name === "llm_api_key" ? trialRow(account, controls) : null,
          ])),
      );
      fields.replaceChildren(...groups, browserGroup());
      tools.show(settings.mcp_config, programs);
      save.disabled = false;
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), true);
    }
    scroll.removeAttribute("aria-busy");
  };

  form.addEventListener("input", () => tell(""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wrong = [...controls.values()].find((control) => !control.checkValidity());
    if (wrong) {
      wrong.reportValidity();
      return;
    }
    /** @type {Record<string, any>} */
    const change = {};
    for (const [field, control] of controls) {
      const value = changeOf(field, control, stored[field.name]);
      if (value !== undefined) change[field.name] = value;
    }
    if (Object.keys(change).length === 0) return tell(texts.dialogs.noChanges);
    save.disabled = true;
    try {
      await account.changeSettings(change);
      await load();
      tell(texts.dialogs.saved);
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), true);
    }
    save.disabled = false;
  });

  return {
    open() {
      tell("");
      open();
      void load();
    },
    close,
  };
}

/**
 * The button that asks the model of the fields for a word, before they are saved.
 *
 * @param {import("../account.js").Account} account
 * @param {Map<SettingField, Control>} controls
 */
function trialRow(account, controls) {
  const outcome = h("p", { class: "form__outcome", role: "status", data: { testid: "model-trial-outcome" } });
  /** @param {string} text @param {boolean} bad @param {string} [words] the server's own */
  const tell = (text, bad, words = "") => {
    // The server speaks English.
    outcome.replaceChildren(text, ...(words ? [" ", h("span", { class: "form__words", lang: "en" }, words)] : []));
    outcome.dataset.bad = String(bad);
  };
  const button = h("button", { type: "button", class: "button", data: { testid: "model-trial" }, onclick: async () => {
    /** @type {Record<string, string>} */
    const trial = {};
    for (const [field, control] of controls) {
      if (MODEL_FIELDS.includes(field.name) && control.value.trim()) trial[field.name] = control.value.trim();
    }
    button.disabled = true;
    tell(texts.settings.asking, false);
    try {
      const tried = await account.tryModel(trial);
      tell(trialText(tried), !tried.works, tried.message);
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), true);
    }
    button.disabled = false;
  } }, texts.settings.tryModel);
  return h("div", { class: "row row--trial" }, button, outcome);
}

/** What is kept in this browser alone. */
function browserGroup() {
  const select = h("select", { class: "field", id: "page-language", data: { testid: "page-language" }, onchange: () => {
    chooseLanguage(select.value);
    location.reload();
  } });
  select.append(new Option(texts.settings.asBrowser, ""), ...[...LANGUAGES].map(([code, { name }]) => new Option(name, code)));
  select.value = chosenLanguage();
  const forget = h("button", { type: "button", class: "button", data: { testid: "forget-key" }, onclick: () => {
    forgetSessionKey();
    location.reload();
  } }, texts.settings.forgetKey);
  return h(
    "fieldset",
    { class: "group" },
    h("legend", { class: "group__heading" }, texts.settings.browser),
    labelled(texts.settings.pageLanguage, select, texts.settings.reloads),
    remembersKey() ? forget : null,
  );
}

/**
 * @param {SettingField} field
 * @param {Record<string, any>} stored
 * @param {Record<string, string[]>} choices
 * @param {Map<SettingField, Control>} controls
 */
function row(field, stored, choices, controls) {
  const id = `setting-${field.name}`;
  const value = stored[field.name];
  const control = controlOf(field, id, value, choices[field.from ?? ""] ?? []);
  control.dataset.testid = id;
  controls.set(field, control);
  if (field.kind === "switch") {
    return h("div", { class: "row row--switch" }, control, h("label", { for: id }, field.label), field.hint ? h("p", { class: "row__hint" }, field.hint) : null);
  }
  if (field.kind === "key") {
    const hint = stored[`${field.name}_set`] ? texts.settings.keyStored : texts.settings.noKey;
    return labelled(field.label, control, hint);
  }
  const line = labelled(field.label, control, field.hint);
  if (field.kind === "text" && field.from) {
    const options = (choices[field.from] ?? []).map((choice) => new Option("", choice));
    line.append(h("datalist", { id: `${id}-choices` }, ...options));
  }
  return line;
}

/**
 * @param {SettingField} field
 * @param {string} id
 * @param {any} value
 * @param {string[]} choices
 * @returns {Control}
 */
function controlOf(field, id, value, choices) {
  if (field.kind === "choice") {
    const select = h("select", { class: "field", id });
    const known = choices.includes(value ?? "") || !value ? choices : [value, ...choices];
    select.append(...known.map((choice) => new Option(choice, choice)));
    select.value = value ?? "";
    return select;
  }
  if (field.kind === "switch") {
    const box = h("input", { type: "checkbox", role: "switch", class: "switch", id });
    box.checked = Boolean(value);
    return box;
  }
  const number = field.kind === "whole" || field.kind === "money";
  const input = h("input", {
    class: "field",
    id,
    type: number ? "number" : field.kind === "key" ? "password" : field.kind,
    autocomplete: field.kind === "key" ? "new-password" : "off",
    spellcheck: "false",
    maxlength: number ? undefined : field.kind === "key" ? 8192 : 1000,
    min: field.kind === "money" ? "0.01" : field.least,
    step: field.kind === "money" ? "0.01" : number ? "1" : undefined,
    list: field.from ? `${id}-choices` : undefined,
  });
  if (field.kind !== "key") input.value = String(value ?? "");
  return input;
}
