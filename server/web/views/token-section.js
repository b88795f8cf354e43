/** Tokens of git hosts: which are stored, one more, none at all. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { labelled } from "./dialog.js";

/** @type {Record<string, string>} */
const PROVIDERS = {
  github: "GitHub",
  gitlab: "GitLab",
  bitbucket: "Bitbucket",
  azure_devops: "Azure DevOps",
  enterprise_sso: "Enterprise SSO",
};

/**
 * @param {import("../account.js").Account} account
 * @param {(act: () => Promise<unknown>, done: string) => Promise<boolean>} run
 */
export function tokenSection(account, run) {
  const stored = h("p", { class: "row__hint", data: { testid: "tokens" } });
  const provider = h("select", { class: "field", id: "token-provider", data: { testid: "token-provider" } });
  provider.append(...Object.entries(PROVIDERS).map(([name, text]) => new Option(text, name)));
  const host = h("input", { class: "field", id: "token-host", type: "text", maxlength: 253, pattern: "\\S*", autocomplete: "off", spellcheck: "false", data: { testid: "token-host" } });
  const token = h("input", { class: "field", id: "token-value", type: "password", maxlength: 4096, required: true, autocomplete: "new-password", data: { testid: "token-value" } });
  const unset = h("button", { class: "button", type: "button", hidden: true, data: { testid: "tokens-unset" } }, texts.tokens.removeAll);
  const form = h(
    "form",
    { class: "form" },
    h("div", { class: "row-pair" }, labelled(texts.tokens.host, provider), labelled(texts.tokens.hostName, host, texts.tokens.hostHint)),
    labelled(texts.tokens.token, token),
    h("div", { class: "dialog__buttons" }, unset, h("button", { class: "button button--strong", type: "submit", data: { testid: "token-add" } }, texts.tokens.save)),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = token.value;
    token.value = "";
    if (await run(() => account.addToken(provider.value, value, host.value.trim()), texts.tokens.stored(PROVIDERS[provider.value]))) form.reset();
  });
  unset.addEventListener("click", () => void run(() => account.removeTokens(), texts.tokens.removed));

  return {
    element: h("section", { class: "group", "aria-labelledby": "tokens-heading" }, h("h3", { class: "group__heading", id: "tokens-heading" }, texts.tokens.title), stored, form),
    async load() {
      const known = Object.entries(await account.tokens());
      const names = known.map(([name, at]) => `${PROVIDERS[name] ?? name}${at ? ` (${at})` : ""}`);
      stored.textContent = names.length > 0 ? texts.tokens.storedFor(names.join(", ")) : texts.tokens.none;
      unset.hidden = names.length === 0;
    },
  };
}
