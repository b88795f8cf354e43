/** A command or a piece of code, and what it printed. */

import { texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { card } from "./cards.js";
import { h } from "./dom.js";
import { CODE, foldable } from "./fold.js";
import { copyOutput, output } from "./output.js";

/** @param {import("../types.js").Entry} entry */
export function commandCard(entry) {
  const { action, observation } = entry;
  const args = action?.args ?? observation?.extras ?? {};
  const isShell = entry.name === "run";
  const text = revealed(String(args.command ?? args.code ?? ""));
  const code = h("pre", { class: "card__code", dir: "ltr" });
  return card(entry, {
    testid: "command",
    label: isShell ? texts.cards.command : texts.cards.python,
    head: h(
      "div",
      { class: "card__command" },
      promptOf(entry.name),
      foldable(code, text, (shown) => new Text(shown), CODE),
    ),
    tool: copyOutput(observation),
    body: [output(observation, "command-output")],
  });
}

/** What stands before a command. @param {string} kind */
export function promptOf(kind) {
  return h("span", { class: "card__prompt", "aria-hidden": "true" }, kind === "run" ? "$" : "py");
}
