/** Asks for the admin key when the server wants one. */

import { slot } from "../../views/dom.js";

/**
 * @param {(key: string) => void} entered
 * @returns {() => void} shows the form
 */
export function mountKeyForm(entered) {
  const dialog = /** @type {HTMLDialogElement} */ (slot("key-dialog"));
  const input = /** @type {HTMLInputElement} */ (slot("key-input"));
  const again = slot("key-again");
  let tried = false;
  // Without the key nothing works, so Escape must not close the form.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  slot("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!key) return;
    tried = true;
    input.value = "";
    dialog.close();
    entered(key);
  });
  return () => {
    if (dialog.open) return;
    again.hidden = !tried;
    dialog.showModal();
    input.focus();
  };
}
