/** The form a conversation begins with. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { labelled, makeDialog } from "./dialog.js";
import { softKeyboard } from "./soft-keyboard.js";

/**
 * @param {{begin: (order: import("../types.js").Order) => Promise<boolean>, trouble: () => string}} on
 *   `begin` resolves to whether it was created, `trouble` returns why it was not.
 * @returns {{open: () => void}}
 */
export function mountNewDialog(on) {
  const message = h("textarea", { class: "field field--tall", id: "new-message", rows: 5, autofocus: true, data: { testid: "new-message" } });
  const repository = h("input", { class: "field", id: "new-repository", type: "text", list: "known-repositories", maxlength: 1000, autocomplete: "off", spellcheck: "false", placeholder: "owner/name", data: { testid: "new-repository" } });
  const branch = h("input", { class: "field", id: "new-branch", type: "text", maxlength: 1000, autocomplete: "off", spellcheck: "false", placeholder: "main", data: { testid: "new-branch" } });
  const start = h("button", { class: "button button--strong", type: "submit", data: { testid: "new-start" } }, texts.begin.start);
  const why = h("p", { class: "form__outcome", role: "alert", hidden: true, data: { testid: "new-trouble", bad: "true" } });
  const form = h(
    "form",
    { class: "form" },
    labelled(texts.begin.message, message, h("span", {}, texts.begin.optional, " ", h("span", { class: "keys-hint" }, texts.begin.keys))),
    h("div", { class: "row-pair" }, labelled(texts.begin.repository, repository, texts.begin.optional), labelled(texts.begin.branch, branch)),
    why,
    h("div", { class: "dialog__buttons" }, h("button", { class: "button", type: "button", onclick: () => close() }, texts.dialogs.cancel), start),
  );
  const { dialog, open, close } = makeDialog("new-dialog", texts.begin.title, form);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    start.disabled = true;
    /** @type {import("../types.js").Order} */
    const order = {};
    if (message.value.trim()) order.initial_user_msg = message.value.trim();
    if (repository.value.trim()) order.repository = repository.value.trim();
    if (repository.value.trim() && branch.value.trim()) order.selected_branch = branch.value.trim();
    const begun = await on.begin(order);
    start.disabled = false;
    why.textContent = begun ? "" : on.trouble();
    why.hidden = why.textContent === "";
    if (!begun) return;
    close();
    form.reset();
  });
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || softKeyboard.matches) return;
    event.preventDefault();
    form.requestSubmit(start);
  });
  const grow = () => {
    message.style.height = "auto";
    message.style.height = `${Math.min(message.scrollHeight + 2, 320)}px`;
  };
  message.addEventListener("input", grow);
  dialog.addEventListener("close", grow);
  return { open };
}
