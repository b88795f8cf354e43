/** Tool servers in the settings: which are set, one more, one less. Keys are never shown again. */

import { numberText, texts } from "../language.js";
import { KINDS, linesOf, nameOf, variablesOf, withoutServer, withServer } from "../tool-servers.js";
import { labelled, removal } from "./dialog.js";
import { h } from "./dom.js";

/** @typedef {import("../tool-servers.js").Kind} Kind */
/** @typedef {import("../tool-servers.js").ToolConfig} ToolConfig */
/** @typedef {import("../tool-servers.js").ToolServer} ToolServer */

/**
 * @param {import("../account.js").Account} account
 * @returns {{element: HTMLElement, show: (config: ToolConfig, programs: boolean) => void}} `programs` says whether
 *   they may be programs
 */
export function toolSection(account) {
  const list = h("ul", { class: "secrets", "aria-labelledby": "tools-heading", data: { testid: "tools" } });
  const empty = h("p", { class: "row__hint", data: { testid: "tools-none" } }, texts.tools.none);
  const outcome = h("p", { class: "form__outcome", role: "status", id: "tool-outcome", data: { testid: "tool-outcome" } });
  const kind = h("select", { class: "field", id: "tool-kind", data: { testid: "tool-kind" }, onchange: () => choose() });
  const line = { class: "field", autocomplete: "off", spellcheck: "false", maxlength: 4096 };
  const url = h("input", { ...line, id: "tool-url", type: "url", required: true, data: { testid: "tool-url" } });
  const key = h("input", { ...line, id: "tool-key", type: "password", autocomplete: "new-password", data: { testid: "tool-key" } });
  const timeout = h("input", { class: "field", id: "tool-timeout", type: "number", min: 1, max: 3600, step: 1, data: { testid: "tool-timeout" } });
  const name = h("input", { ...line, id: "tool-name", type: "text", required: true, data: { testid: "tool-name" } });
  const command = h("input", { ...line, class: "field field--mono", id: "tool-command", type: "text", required: true, data: { testid: "tool-command" } });
  const args = h("textarea", { class: "field field--mono", id: "tool-args", rows: 2, spellcheck: "false", data: { testid: "tool-args" } });
  const env = h("textarea", { class: "field field--mono", id: "tool-env", rows: 2, spellcheck: "false", autocomplete: "off", data: { testid: "tool-env" } });
  const limit = labelled(texts.tools.timeout, timeout, texts.tools.timeoutHint);
  const web = h("fieldset", { class: "fields" }, labelled(texts.tools.address, url), h("div", { class: "row-pair" }, labelled(texts.tools.key, key, texts.tools.keyHint), limit));
  const program = h(
    "fieldset",
    { class: "fields", hidden: true },
    h("div", { class: "row-pair" }, labelled(texts.tools.name, name), labelled(texts.tools.command, command)),
    h("p", { class: "row__hint" }, texts.tools.programHint),
    labelled(texts.tools.args, args, texts.tools.argsHint),
    labelled(texts.tools.env, env, texts.tools.envHint),
  );
  const onlyWeb = h("p", { class: "row__hint", data: { testid: "tools-only-web" } }, texts.tools.onlyWeb);
  const form = h(
    "form",
    { class: "form" },
    h("h4", { class: "group__heading", id: "tool-add-heading" }, texts.tools.add),
    labelled(texts.tools.kind, kind),
    onlyWeb,
    web,
    program,
    h("div", { class: "dialog__buttons" }, outcome, h("button", { class: "button", type: "submit", data: { testid: "tool-add" } }, texts.tools.addIt)),
  );
  const element = h(
    "section",
    { class: "group", "aria-labelledby": "tools-heading" },
    h("h3", { class: "group__heading", id: "tools-heading" }, texts.tools.title),
    h("p", { class: "row__hint" }, texts.tools.about),
    list,
    empty,
    form,
  );
  let isBusy = false;
  let mayRun = false;

  /** @param {string} text @param {boolean} [bad] */
  const tell = (text, bad = false) => {
    outcome.textContent = text;
    outcome.dataset.bad = String(bad);
  };
  const choose = () => {
    const isProgram = kind.value === "stdio_servers";
    web.hidden = web.disabled = isProgram;
    program.hidden = program.disabled = !isProgram;
    // Only the newer HTTP has one.
    limit.hidden = timeout.disabled = kind.value !== "shttp_servers";
  };
  /** @param {ToolConfig} config @param {boolean} programs */
  const show = (config, programs) => {
    mayRun = programs;
    const servers = KINDS.flatMap((one) => (config?.[one] ?? []).map((server) => row(one, server)));
    list.replaceChildren(...servers);
    empty.hidden = servers.length > 0;
    onlyWeb.hidden = programs;
    const chosen = kind.value;
    kind.replaceChildren(...KINDS.filter((one) => programs || one !== "stdio_servers").map((one) => new Option(texts.toolKinds[one], one)));
    if (chosen) kind.value = chosen;
    if (kind.selectedIndex === -1) kind.selectedIndex = 0;
    choose();
  };
  /**
   * Stores what becomes of the servers that the account has now; another tab may have changed them.
   *
   * @param {(config: ToolConfig) => ToolConfig} change
   * @param {string} done
   */
  const store = async (change, done) => {
    if (isBusy) return false;
    isBusy = true;
    try {
      const { mcp_config: before } = await account.settings();
      await account.changeSettings({ mcp_config: change(before) });
      show((await account.settings()).mcp_config, mayRun);
      tell(done);
      return true;
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error), true);
      return false;
    } finally {
      isBusy = false;
    }
  };

  /** @param {Kind} of @param {ToolServer} server */
  const row = (of, server) => {
    const shown = nameOf(server);
    const remove = async () => {
      if (await store((config) => withoutServer(config, of, server), texts.tools.removed(shown))) kind.focus();
    };
    return h(
      "li",
      { class: "secret", data: { testid: "tool", kind: of } },
      h("span", { class: "secret__text" }, h("code", { class: "secret__name", dir: "ltr" }, shown), h("span", { class: "row__hint", dir: "auto" }, aboutServer(of, server, mayRun))),
      ...removal({ testid: "tool-remove", label: texts.tools.removeIt(shown), title: texts.tools.remove, sure: texts.tools.remove, remove: () => void remove() }),
    );
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const of = /** @type {Kind} */ (kind.value);
    const { variables, wrong } = variablesOf(of === "stdio_servers" ? linesOf(env.value) : []);
    if (wrong !== undefined) {
      tell(texts.tools.noVariable(wrong), true);
      return env.focus();
    }
    /** @type {ToolServer} */
    const server =
      of === "stdio_servers"
        ? { name: name.value.trim(), command: command.value.trim(), args: linesOf(args.value), env: variables }
        : { url: url.value.trim(), ...(key.value ? { api_key: key.value } : {}), ...(of === "shttp_servers" && timeout.value ? { timeout: Number(timeout.value) } : {}) };
    // A key stays in the field no longer than it has to, whatever the server answers.
    key.value = "";
    if (!(await store((config) => withServer(config, of, server), texts.tools.added(nameOf(server))))) return;
    form.reset();
    kind.value = of;
    kind.focus();
  });
  form.addEventListener("input", () => tell(""));
  return { element, show };
}

/**
 * @param {Kind} kind
 * @param {ToolServer} server
 * @param {boolean} mayRun
 */
function aboutServer(kind, { api_key: key, timeout, command, args, env }, mayRun) {
  const said = [texts.toolKinds[kind]];
  if (command) said.push([command, ...(args ?? [])].join(" "));
  if (key) said.push(texts.tools.hasKey);
  if (timeout) said.push(texts.tools.within(numberText(timeout)));
  if (env && Object.keys(env).length > 0) said.push(Object.keys(env).join(", "));
  if (kind === "stdio_servers" && !mayRun) said.push(texts.tools.notPermitted);
  return said.join(" · ");
}
