/** Code in a message: its language, a button that copies it, its colours, and the diagram that it may describe. */

import { texts } from "../language.js";
import { colour } from "./code-colours.js";
import { copyButton } from "./copy.js";
import { diagramButton } from "./diagram.js";
import { h } from "./dom.js";

/**
 * @param {string} text
 * @param {string} [language]
 */
export function codeBlock(text, language) {
  const name = (language ?? "").trim().split(/\s/)[0];
  const code = h("code", { data: { language: name.toLowerCase() || undefined } }, text);
  return h(
    "div",
    { class: "code", data: { testid: "code" } },
    h("div", { class: "code__head" }, h("span", { class: "code__language" }, name || texts.prose.plain), copyButton(texts.prose.copyCode, () => code.textContent ?? "", "copy-code")),
    h("pre", { class: "code__text", tabindex: "0", dir: "ltr", role: "group", "aria-label": name ? texts.prose.codeIn(name) : texts.prose.code }, code),
  );
}

/** Gives its colours to code that nothing is added to any more. @param {ParentNode} root contains it */
export function finishCode(root) {
  for (const code of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("code[data-language]:not([data-finished])"))) {
    code.dataset.finished = "true";
    if (code.dataset.language === "mermaid") code.closest(".code")?.querySelector(".copy")?.before(diagramButton(code));
    else colour(code);
  }
}
