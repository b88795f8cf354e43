/** Where the user writes. */

import { nothingPacked, withPaths } from "../attachments.js";
import { texts } from "../language.js";
import { mountAttachments } from "./attachments.js";
import { slot } from "./dom.js";
import { icon } from "./icons.js";
import { softKeyboard } from "./soft-keyboard.js";

const MOST_HEIGHT_PX = 220;

/** @typedef {import("../attachments.js").Packed} Packed */

/**
 * @typedef {object} ComposerActions
 * @property {(text: string, packed: Packed) => boolean | Promise<boolean>} say False when the
 *   text must stay.
 * @property {(id: string | null, file: File) => Promise<string>} upload Into a conversation, or into the one that a
 *   message of the front page begins.
 * @property {() => void} stop
 * @property {() => void} resume
 */

/**
 * @param {import("../store.js").Store} store
 * @param {import("../drafts.js").Drafts} drafts
 * @param {ComposerActions} on
 * @returns {{focus: () => void}}
 */
export function mountComposer(store, drafts, on) {
  const form = slot("composer-form");
  const input = /** @type {HTMLTextAreaElement} */ (slot("composer"));
  const send = /** @type {HTMLButtonElement} */ (slot("send"));
  const stop = /** @type {HTMLButtonElement} */ (slot("stop"));
  const resume = /** @type {HTMLButtonElement} */ (slot("resume"));
  /** @type {string | null | undefined} */
  let shown;
  let busy = false;

  send.append(icon("send"));
  stop.prepend(icon("halt"));
  resume.prepend(icon("play"));

  const grow = () => {
    input.style.height = "auto";
    // Measured only if there is text: it makes the browser lay out the whole page at once.
    if (input.value) input.style.height = `${Math.min(input.scrollHeight, MOST_HEIGHT_PX)}px`;
    const blank = input.value.trim() === "" && shelf.current().items.length === 0;
    send.disabled = input.disabled || busy || blank;
    send.hidden = blank && !stop.hidden;
  };
  const shelf = mountAttachments(() => grow());
  let width = 0;
  // Buttons come beside it and phones are turned: its lines break elsewhere then.
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    grow();
  }).observe(input);
  const submit = async () => {
    if (send.disabled) return;
    const text = input.value.trim();
    const attachments = shelf.current();
    const from = shown ?? null;
    let packed = nothingPacked();
    if (attachments.items.length > 0) {
      busy = true;
      grow();
      const done = await attachments.pack((file) => on.upload(from, file));
      busy = false;
      grow();
      // The text must not be sent into another conversation.
      if (done === null || shown !== from) return;
      packed = done;
    }
    input.value = "";
    const isTaken = await on.say(withPaths(text, packed), packed);
    const isBlank = shown !== from || input.value === "";
    if (isTaken) shelf.sent(attachments);
    if (isTaken && isBlank) drafts.set(from ?? "", "");
    else if (isBlank && shown === from) input.value = text;
    grow();
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
    input.focus();
  });
  input.addEventListener("input", () => {
    drafts.set(shown ?? "", input.value);
    grow();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || softKeyboard.matches) return;
    event.preventDefault();
    void submit();
  });
  stop.addEventListener("click", on.stop);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing || event.defaultPrevented || stop.hidden) return;
    const isElsewhere = event.target !== document.body && !(event.target instanceof Element && event.target.closest("#main"));
    if (isElsewhere || document.querySelector("dialog[open], :popover-open")) return;
    event.preventDefault();
    on.stop();
  });
  resume.addEventListener("click", on.resume);

  store.watch(["openId", "missing"], () => {
    const { openId, missing } = store.state;
    if (shown !== openId) {
      input.value = drafts.of(openId ?? "");
      shown = openId;
      shelf.show(openId ?? "");
    }
    input.disabled = missing;
    shelf.allow(!missing);
    input.placeholder = missing ? texts.composer.hintMissing : openId ? texts.composer.hint : texts.composer.hintFirst;
    grow();
  });
  store.watch(["agentState", "connection", "openId", "sent"], () => {
    const { agentState, connection, openId, sent } = store.state;
    const connected = connection === "connected";
    const focused = document.activeElement;
    stop.hidden = !(agentState === "running" || sent) || !connected;
    grow();
    const halted = connected && (agentState === "stopped" || agentState === "paused");
    resume.hidden = openId === null || !(halted || connection === "closed");
    // A removed button would take the focus with it.
    if ((stop.hidden && focused === stop) || (resume.hidden && focused === resume)) input.focus({ preventScroll: true });
  });

  return { focus: () => input.focus({ preventScroll: true }) };
}
