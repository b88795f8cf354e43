/** Where the user writes. */

import { slot } from "./dom.js";
import { icon } from "./icons.js";

const MOST_HEIGHT_PX = 220;

/**
 * @param {import("../store.js").Store} store
 * @param {{say: (text: string) => boolean, stop: () => void, resume: () => void}} on `say` answers
 *   false when the text is to stay.
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
  /** @type {string | null} */
  let shown = null;

  send.append(icon("send"));
  stop.prepend(icon("halt"));
  resume.prepend(icon("play"));

  const grow = () => {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, MOST_HEIGHT_PX)}px`;
    send.disabled = input.disabled || input.value.trim() === "";
  };
  const submit = () => {
    const text = input.value.trim();
    if (input.disabled || text === "" || !on.say(text)) return;
    input.value = "";
    grow();
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
    input.focus();
  });
  input.addEventListener("input", grow);
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  stop.addEventListener("click", on.stop);
  resume.addEventListener("click", on.resume);

  store.watch(["openId", "missing"], () => {
    const { openId, missing } = store.state;
    if (shown !== openId) {
      if (shown !== null) drafts.set(shown, input.value);
      input.value = drafts.get(openId ?? "") ?? "";
      shown = openId;
    }
    input.disabled = openId === null || missing;
    input.placeholder = input.disabled ? "Open a conversation to write" : "Write to the agent";
    grow();
  });
  store.watch(["agentState", "connection", "openId"], () => {
    const { agentState, connection, openId } = store.state;
    const connected = connection === "connected";
    stop.hidden = agentState !== "running" || !connected;
    const halted = connected && (agentState === "stopped" || agentState === "paused");
    resume.hidden = openId === null || !(halted || connection === "closed");
  });

  return { focus: () => input.focus({ preventScroll: true }) };
}
