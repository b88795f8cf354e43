/** Where the user writes. */

import { nothingPacked, withPaths } from "../attachments.js";
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
 * @property {(file: File) => Promise<string>} upload
 * @property {() => void} stop
 * @property {() => void} resume
 */

/**
 * @param {import("../store.js").Store} store
 * @param {ComposerActions} on
 * @returns {{focus: () => void}}
 */
export function mountComposer(store, on) {
  const form = slot("composer-form");
  const input = /** @type {HTMLTextAreaElement} */ (slot("composer"));
  const send = /** @type {HTMLButtonElement} */ (slot("send"));
  const stop = /** @type {HTMLButtonElement} */ (slot("stop"));
  const resume = /** @type {HTMLButtonElement} */ (slot("resume"));
  /** @type {Map<string, string>} */
  const drafts = new Map();
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
    const from = shown;
    let packed = nothingPacked();
    if (attachments.items.length > 0) {
      busy = true;
      grow();
      const done = await attachments.pack(on.upload);
      busy = false;
      grow();
      // The text must not be sent into another conversation.
      if (done === null || shown !== from) return;
      packed = done;
    }
    input.value = "";
    const kept = !(await on.say(withPaths(text, packed), packed));
    if (!kept) shelf.sent(attachments);
    else if (shown === from && input.value === "") input.value = text;
    else drafts.set(from ?? "", text);
    grow();
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
    input.focus();
  });
  input.addEventListener("input", grow);
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
      if (shown !== undefined) drafts.set(shown ?? "", input.value);
      input.value = drafts.get(openId ?? "") ?? "";
      shown = openId;
      shelf.show(openId ?? "");
    }
    input.disabled = missing;
    shelf.allow(openId !== null && !missing);
    input.placeholder = missing ? "Open a conversation to write" : openId ? "Write to the agent" : "Write to start a conversation";
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
