/** The question whether the agent may do what it wants to do. */

import { deed } from "../wording.js";
import { slot } from "./dom.js";

const MOST_CHARACTERS = 600;

/**
 * @param {import("../store.js").Store} store
 * @param {{confirm: () => void, reject: () => void}} on
 */
export function mountConfirmation(store, on) {
  const panel = slot("confirmation");
  const confirm = /** @type {HTMLButtonElement} */ (slot("confirm"));
  const reject = /** @type {HTMLButtonElement} */ (slot("reject"));
  confirm.addEventListener("click", on.confirm);
  reject.addEventListener("click", on.reject);
  store.watch(["agentState", "awaiting", "connection"], () => {
    const { agentState, awaiting, connection } = store.state;
    panel.hidden = agentState !== "awaiting_user_confirmation";
    const { verb, object } = deed(awaiting?.action ?? null);
    slot("confirmation-verb").textContent = `The agent asks to ${verb}`;
    slot("confirmation-object").textContent =
      object.length > MOST_CHARACTERS ? `${object.slice(0, MOST_CHARACTERS)} …` : object;
    confirm.disabled = reject.disabled = connection !== "connected";
  });
}
