/** Asks for the session key when the server wants one. */

import { slot } from "./dom.js";

/**
 * @param {import("../store.js").Store} store
 * @param {(key: string, remembered: boolean) => void} entered
 */
export function mountKeyForm(store, entered) {
  const dialog = /** @type {HTMLDialogElement} */ (slot("key-dialog"));
  const form = slot("key-form");
  const input = /** @type {HTMLInputElement} */ (slot("key-input"));
  const remember = /** @type {HTMLInputElement} */ (slot("key-remember"));
  const again = slot("key-again");
  let tried = false;
  // Without the key nothing works, so Escape must not close the form.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!key) return;
    tried = true;
    input.value = "";
    entered(key, remember.checked);
  });
  store.watch(["needsKey"], () => {
    if (store.state.needsKey && !dialog.open) {
      again.hidden = !tried;
      dialog.showModal();
      input.focus();
    } else if (!store.state.needsKey) {
      dialog.close();
    }
  });
}
