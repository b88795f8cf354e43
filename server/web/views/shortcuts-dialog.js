/** The table of shortcuts. */

import { texts } from "../language.js";
import { SHORTCUTS } from "../shortcuts.js";
import { h } from "./dom.js";
import { makeDialog } from "./dialog.js";

/** @returns {{open: () => void}} */
export function mountShortcutsDialog() {
  const rows = SHORTCUTS.map(({ keys, does }) =>
    h("div", { class: "keys__row" }, h("dt", { class: "keys__caps" }, ...keys.flatMap(caps)), h("dd", { class: "keys__does" }, does)),
  );
  return makeDialog("shortcuts-dialog", texts.shortcuts.title, h("dl", { class: "keys" }, ...rows));
}

/**
 * @param {string[]} together
 * @param {number} index
 */
function caps(together, index) {
  const pressed = together.map((key) => h("kbd", { class: "cap" }, /** @type {Record<string, string>} */ (texts.caps)[key] ?? key));
  return index > 0 ? [h("span", { class: "keys__or" }, texts.shortcuts.or), ...pressed] : pressed;
}
