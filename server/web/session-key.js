/** The server's session key, kept for this tab only. */

import { slotName } from "./base.js";

const SLOT = slotName("parley.session-key");

/** @returns {string | null} */
export function readSessionKey() {
  try {
    return sessionStorage.getItem(SLOT);
  } catch {
    return null;
  }
}

/** @param {string} key */
export function saveSessionKey(key) {
  sessionStorage.setItem(SLOT, key);
}
