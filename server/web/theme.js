/** Light, dark or as the system says; theme-boot.js applies it. */

/** @typedef {"system" | "light" | "dark"} Theme */

const SLOT = "parley.theme";

/** @returns {Theme} */
export function readTheme() {
  try {
    const kept = localStorage.getItem(SLOT);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

/** Takes effect at once, in the other tabs too. @param {Theme} theme */
export function saveTheme(theme) {
  try {
    if (theme === "system") localStorage.removeItem(SLOT);
    else localStorage.setItem(SLOT, theme);
  } catch {
    // Storage is forbidden: the choice cannot be stored.
  }
  dispatchEvent(new Event("parley:theme"));
}
