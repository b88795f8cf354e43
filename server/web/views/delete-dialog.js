/** Asks before a conversation is deleted. */

import { slot } from "./dom.js";

/**
 * @param {string} title
 * @returns {Promise<boolean>} whether to delete
 */
export function askToDelete(title) {
  const dialog = /** @type {HTMLDialogElement} */ (slot("delete-dialog"));
  slot("delete-title").textContent = title;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true });
  });
}
