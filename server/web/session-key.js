/** The server's session key: kept for this tab, or in this browser where the person wants that. */

import { slotName } from "./base.js";

const SLOT = slotName("parley.session-key");
/** What a browser without storage keeps until the page is left. @type {string | null} */
let held = null;

/** @returns {string | null} */
export function readSessionKey() {
  return held ?? stored("sessionStorage") ?? stored("localStorage");
}

/** Whether other tabs find the key, too. */
export function remembersKey() {
  return stored("localStorage") !== null;
}

/** @param {string} key @param {boolean} remembered */
export function saveSessionKey(key, remembered) {
  forgetSessionKey();
  try {
    window[remembered ? "localStorage" : "sessionStorage"].setItem(SLOT, key);
  } catch {
    held = key;
  }
}

export function forgetSessionKey() {
  held = null;
  try {
    sessionStorage.removeItem(SLOT);
    localStorage.removeItem(SLOT);
  } catch {
    // Without storage there is nothing to remove.
  }
}

/** @param {"localStorage" | "sessionStorage"} where */
function stored(where) {
  try {
    return window[where].getItem(SLOT);
  } catch {
    return null;
  }
}
