/** The page's keys: one table, which the dialog shows and the page obeys. */

import { texts } from "./language.js";

/**
 * @typedef {object} Shortcut
 * @property {string[][]} keys Alternatives, each as the caps to press together.
 * @property {string} does
 * @property {string} [act] What the page does; the others belong to the part that has the focus.
 * @property {(event: KeyboardEvent) => boolean} [hit]
 */

/** @param {KeyboardEvent} event */
const command = (event) => (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
/** @param {KeyboardEvent} event */
const alone = (event) => !event.ctrlKey && !event.metaKey && !event.altKey && !isWriting(event.target);
/** @param {KeyboardEvent} event */
const option = (event) => event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey;

/** @type {Shortcut[]} */
export const SHORTCUTS = [
  { keys: [["Ctrl", "K"], ["⌘", "K"]], does: texts.shortcuts.search, act: "search", hit: (event) => command(event) && event.key.toLowerCase() === "k" },
  { keys: [["Alt", "N"]], does: texts.shortcuts.create, act: "create", hit: (event) => option(event) && event.code === "KeyN" },
  { keys: [["Alt", "M"]], does: texts.shortcuts.write, act: "write", hit: (event) => option(event) && event.code === "KeyM" },
  { keys: [["Alt", "A"]], does: texts.shortcuts.answer, act: "answer", hit: (event) => option(event) && event.code === "KeyA" },
  { keys: [["Ctrl", ","], ["⌘", ","]], does: texts.shortcuts.settings, act: "settings", hit: (event) => command(event) && event.key === "," },
  { keys: [["?"]], does: texts.shortcuts.help, act: "help", hit: (event) => alone(event) && event.key === "?" },
  { keys: [["↓"], ["↑"]], does: texts.shortcuts.next },
  { keys: [["Home"], ["End"]], does: texts.shortcuts.ends },
  { keys: [["F2"]], does: texts.shortcuts.rename },
  { keys: [["Delete"]], does: texts.shortcuts.delete },
  { keys: [["Enter"]], does: texts.shortcuts.send },
  { keys: [["Shift", "Enter"]], does: texts.shortcuts.newLine },
  { keys: [["Esc"]], does: texts.shortcuts.stop },
  { keys: [["Esc"]], does: texts.shortcuts.cancel },
];

/** @param {Record<string, () => void>} acts by the table's names */
export function listenForShortcuts(acts) {
  addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const found = SHORTCUTS.find((one) => one.hit?.(event));
    if (!found?.act) return;
    event.preventDefault();
    acts[found.act]?.();
  });
}

/** @param {EventTarget | null} target */
function isWriting(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}
