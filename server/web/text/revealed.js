/** Characters that hide or reorder others, spelled out. */

const HIDING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * For texts that a person decides on or relies on, such as a command: hidden characters become visible.
 *
 * @param {string} text
 */
export function revealed(text) {
  return text.replace(HIDING, (character) => `⟨U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}
