/** Buttons that put a text on the clipboard. */

import { texts } from "../language.js";
import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 1_600;

/**
 * @param {string} label What it copies, such as "Copy the code".
 * @param {() => string} read
 * @param {string} [testid]
 */
export function copyButton(label, read, testid = "copy") {
  const button = h("button", { type: "button", class: "icon-button copy", "aria-label": label, title: label, data: { testid } }, icon("copy"));
  let timer = 0;
  button.addEventListener("click", async () => {
    const done = await copied(read());
    clearTimeout(timer);
    button.dataset.outcome = done ? "done" : "failed";
    button.replaceChildren(icon(done ? "tick" : "cross"));
    slot("announcer").textContent = done ? texts.prose.copied : texts.prose.notCopied;
    timer = setTimeout(() => {
      delete button.dataset.outcome;
      button.replaceChildren(icon("copy"));
    }, SHOWN_MS);
  });
  return button;
}

/**
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Away from localhost and HTTPS there is no clipboard object; the old command still works.
    return copiedBySelection(text);
  }
}

/** @param {string} text */
function copiedBySelection(text) {
  const field = h("textarea", { class: "unseen", "aria-hidden": "true", readonly: true });
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}
