/** Says that the server does not let this person in, in the server's words. */

import { slot } from "./dom.js";

/** @param {import("../store.js").Store} store */
export function mountRefusal(store) {
  const dialog = /** @type {HTMLDialogElement} */ (slot("refusal-dialog"));
  // Without access nothing works, so Escape must not close it.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  slot("refusal-retry").addEventListener("click", () => location.reload());
  store.watch(["refusal"], () => {
    slot("refusal-text").textContent = store.state.refusal;
    if (store.state.refusal && !dialog.open) dialog.showModal();
  });
}
