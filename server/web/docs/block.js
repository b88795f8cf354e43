/** A block of text with a name and a button that copies it. */

import { h } from "./dom.js";

const TOLD_MS = 1500;

/**
 * @param {string} name
 * @param {string} text
 */
export function exampleBlock(name, text) {
  const button = h("button", { class: "copy", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, TOLD_MS);
  });
  return h(
    "figure",
    { class: "block" },
    h("figcaption", { class: "block__head" }, h("span", {}, name), button),
    h("pre", { class: "block__text", tabindex: 0 }, h("code", {}, text)),
  );
}
