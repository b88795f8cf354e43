/** The page's keys: one table, which the dialog shows and the page obeys. */

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
  { keys: [["Ctrl", "K"], ["⌘", "K"]], does: "Search the conversations", act: "search", hit: (event) => command(event) && event.key.toLowerCase() === "k" },
  { keys: [["Alt", "N"]], does: "New conversation", act: "create", hit: (event) => option(event) && event.code === "KeyN" },
  { keys: [["Alt", "M"]], does: "Go to the message field", act: "write", hit: (event) => option(event) && event.code === "KeyM" },
  { keys: [["Alt", "A"]], does: "Go to the agent's question; Esc goes back", act: "answer", hit: (event) => option(event) && event.code === "KeyA" },
  { keys: [["Ctrl", ","], ["⌘", ","]], does: "Settings", act: "settings", hit: (event) => command(event) && event.key === "," },
  { keys: [["?"]], does: "Keyboard shortcuts", act: "help", hit: (event) => alone(event) && event.key === "?" },
  { keys: [["↓"], ["↑"]], does: "In the list: next, previous conversation" },
  { keys: [["Home"], ["End"]], does: "In the list: first, last conversation" },
  { keys: [["F2"]], does: "In the list: rename" },
  { keys: [["Delete"]], does: "In the list: delete (can be undone for a few seconds)" },
  { keys: [["Enter"]], does: "In the message field: send" },
  { keys: [["Shift", "Enter"]], does: "In the message field: new line" },
  { keys: [["Esc"]], does: "In the conversation: stop the agent" },
  { keys: [["Esc"]], does: "Close what is open, cancel editing" },
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
