/** The user's secrets: named values. They go to the server and are never shown again. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { labelled, makeDialog, removal } from "./dialog.js";
import { tokenSection } from "./token-section.js";

/** @typedef {import("../account.js").SecretInfo} SecretInfo */

/**
 * @param {import("../account.js").Account} account
 * @returns {{open: () => void}}
 */
export function mountSecretsDialog(account) {
  const list = h("ul", { class: "secrets", data: { testid: "secrets" } });
  const empty = h("p", { class: "row__hint" }, texts.secrets.none);
  const outcome = h("p", { class: "form__outcome", role: "status", data: { testid: "secrets-outcome" } });
  const name = h("input", { class: "field field--mono", id: "secret-name", type: "text", maxlength: 128, pattern: "[A-Za-z0-9_.\\-]+", title: texts.secrets.pattern, required: true, autocomplete: "off", spellcheck: "false", data: { testid: "secret-name" } });
  const value = h("input", { class: "field", id: "secret-value", type: "password", maxlength: 65536, required: true, autocomplete: "new-password", data: { testid: "secret-value" } });
  const description = h("input", { class: "field", id: "secret-description", type: "text", maxlength: 1000, autocomplete: "off", data: { testid: "secret-description" } });
  const form = h(
    "form",
    { class: "form" },
    h("h3", { class: "group__heading" }, texts.secrets.add),
    h("div", { class: "row-pair" }, labelled(texts.secrets.name, name), labelled(texts.secrets.value, value)),
    labelled(texts.secrets.description, description, texts.secrets.descriptionHint),
    h("div", { class: "dialog__buttons" }, h("button", { class: "button button--strong", type: "submit", data: { testid: "secret-add" } }, texts.secrets.addIt)),
  );

  /** @param {string} text @param {boolean} [bad] */
  const tell = (text, bad = false) => {
    outcome.textContent = text;
    outcome.dataset.bad = String(bad);
  };
  const load = async () => {
    const secrets = await account.secrets();
    list.replaceChildren(...secrets.map((secret) => row(secret, { change, remove })));
    empty.hidden = secrets.length > 0;
  };
  /** Does it, reads the list again, says how it went. @param {() => Promise<unknown>} act @param {string} done */
  const run = async (act, done) => {
    try {
      await act();
      await load();
      await tokens.load();
      tell(done);
      return true;
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), true);
      return false;
    }
  };
  /** @param {string} before @param {SecretInfo} facts */
  const change = (before, facts) => run(() => account.changeSecret(before, facts), texts.secrets.changed(facts.name));
  /** @param {string} gone */
  const remove = (gone) => run(() => account.removeSecret(gone), texts.secrets.deleted(gone));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const secret = { name: name.value.trim(), value: value.value, description: description.value.trim() };
    value.value = "";
    if (await run(() => account.addSecret(secret), texts.secrets.added(secret.name))) form.reset();
    name.focus();
  });
  const tokens = tokenSection(account, run);
  const body = h("div", { class: "form__scroll" }, h("section", { class: "group", "aria-label": texts.secrets.title }, list, empty, form), tokens.element);
  const { dialog, open } = makeDialog("secrets-dialog", texts.secrets.title, body, outcome);
  dialog.addEventListener("close", () => form.reset());

  return {
    open() {
      tell("");
      open();
      void run(async () => {}, "");
    },
  };
}

/**
 * @param {SecretInfo} secret
 * @param {{change: (before: string, facts: SecretInfo) => Promise<boolean>, remove: (name: string) => void}} on
 */
function row(secret, on) {
  const element = h("li", { class: "secret", data: { testid: "secret", name: secret.name } });
  const show = () => {
    element.replaceChildren(
      h("span", { class: "secret__text" }, h("code", { class: "secret__name" }, secret.name), h("span", { class: "row__hint", dir: "auto" }, secret.description)),
      h("button", { type: "button", class: "icon-button", "aria-label": texts.secrets.changeIt(secret.name), title: texts.secrets.change, data: { testid: "secret-change" }, onclick: edit }, icon("pencil")),
      ...removal({ testid: "secret-delete", label: texts.secrets.deleteIt(secret.name), title: texts.secrets.delete, sure: texts.secrets.deleteSure, remove: () => on.remove(secret.name) }),
    );
  };
  const edit = () => {
    const name = h("input", { class: "field field--mono", type: "text", maxlength: 128, pattern: "[A-Za-z0-9_.\\-]+", required: true, "aria-label": texts.secrets.name, data: { testid: "secret-new-name" } });
    const description = h("input", { class: "field", type: "text", maxlength: 1000, "aria-label": texts.secrets.description, data: { testid: "secret-new-description" } });
    name.value = secret.name;
    description.value = secret.description ?? "";
    const form = h("form", { class: "secret__form" }, name, description, h("button", { class: "button button--small", type: "submit", data: { testid: "secret-keep" } }, texts.dialogs.save));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void on.change(secret.name, { name: name.value.trim(), description: description.value.trim() });
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      show();
    });
    element.replaceChildren(form);
    name.focus();
  };
  show();
  return element;
}
