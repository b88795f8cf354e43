/** What the first look at the page does without: loaded once it has shown its list, or when it is needed before. */

import { idle } from "./idle.js";
import { texts } from "./language.js";

/** @typedef {typeof import("./dialogs.js")} Dialogs */
/** @typedef {typeof import("./conversation-parts.js")} ConversationParts */

/** What a conversation is shown with. Raises an error with a text for people. @returns {Promise<ConversationParts>} */
export async function conversationParts() {
  try {
    return await import("./conversation-parts.js");
  } catch {
    throw new Error(texts.requests.notLoaded);
  }
}

/**
 * A dialog that is loaded and built when it is first opened.
 *
 * @template {any[]} T
 * @param {(dialogs: Dialogs) => {open: (...what: T) => void}} make
 * @param {(error: Error) => void} failed Called when it cannot be loaded; it is tried again when it is opened again.
 */
export function whenOpened(make, failed) {
  /** @type {{open: (...what: T) => void} | undefined} */
  let made;
  return {
    /** @param {T} what */
    async open(...what) {
      let dialogs;
      try {
        dialogs = await import("./dialogs.js");
      } catch {
        return failed(new Error(texts.requests.notLoaded));
      }
      made ??= make(dialogs);
      made.open(...what);
    },
  };
}

/** Loads all of it as soon as the browser has nothing else to do, so that nobody waits for it. */
export async function loadWhenIdle() {
  await idle();
  // If it fails, whoever opens one is told.
  await Promise.allSettled([import("./conversation-parts.js"), import("./dialogs.js")]);
}
