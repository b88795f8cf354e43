/** The question whether the agent may do what it wants to do. */

import { revealed } from "../text/revealed.js";
import { confirmedStep, riskText } from "../wording.js";
import { slot } from "./dom.js";

const MOST_CHARACTERS = 2_000;
/** @type {Record<string, string>} */
const DECISIONS = { user_confirmed: "Confirmed", user_rejected: "Rejected" };

/**
 * @param {import("../store.js").Store} store
 * @param {{confirm: () => void, reject: () => void}} on
 * @returns {{focus: () => void}} leads to the question; Escape and an answer lead back
 */
export function mountConfirmation(store, on) {
  const panel = slot("confirmation");
  const object = slot("confirmation-object");
  const thought = slot("confirmation-thought");
  const risk = slot("confirmation-risk");
  const decided = slot("decided");
  const confirm = /** @type {HTMLButtonElement} */ (slot("confirm"));
  const reject = /** @type {HTMLButtonElement} */ (slot("reject"));
  /** The action that was answered already. @type {number | undefined} */
  let answeredId;
  /** Whether a question is shown, and was not answered here. */
  let isOpen = false;
  /** What had the focus before the question. @type {HTMLElement | null} */
  let before = null;
  const back = () => {
    // The buttons are removed, and would take the focus with them.
    (before?.isConnected ? before : slot("composer")).focus({ preventScroll: true });
    before = null;
  };

  const refresh = () => {
    const { agentState, awaiting, connection } = store.state;
    const asked = agentState === "awaiting_user_confirmation";
    const decision = isOpen ? DECISIONS[agentState] : undefined;
    if (decision) slot("announcer").textContent = decided.textContent = `${decision} in another window.`;
    else if (asked) decided.textContent = "";
    isOpen = asked && answeredId === undefined;
    if (!asked) answeredId = undefined;
    panel.hidden = !asked;
    if (!asked) return;
    const { verb, object: what } = confirmedStep(awaiting?.action ?? null);
    const text = revealed(what);
    const args = awaiting?.action?.args ?? {};
    slot("confirmation-verb").textContent = `May the agent ${verb}?`;
    object.textContent = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)} … and ${text.length - MOST_CHARACTERS} more characters` : text;
    object.hidden = text === "";
    thought.textContent = String(args.thought ?? "");
    thought.hidden = !args.thought;
    risk.textContent = riskText(args.security_risk);
    risk.dataset.risk = String(args.security_risk ?? "");
    risk.hidden = risk.textContent === "";
    confirm.disabled = reject.disabled = connection !== "connected" || (awaiting !== null && awaiting.id === answeredId);
  };
  /** @param {() => void} send */
  const answer = (send) => () => {
    // A second click would answer the next question before it is read.
    answeredId = store.state.awaiting?.id;
    refresh();
    isOpen = false;
    send();
    back();
  };
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    back();
  });
  confirm.addEventListener("click", answer(on.confirm));
  reject.addEventListener("click", answer(on.reject));
  store.watch(["agentState", "awaiting", "connection", "notices"], () => {
    if (store.state.notices.request) answeredId = undefined;
    const held = panel.contains(document.activeElement);
    refresh();
    if (held && panel.hidden) back();
  });
  store.watch(["openId", "sent"], () => {
    isOpen = false;
    decided.textContent = "";
    refresh();
  });
  return {
    focus() {
      if (panel.hidden || reject.disabled) return;
      const focused = document.activeElement;
      if (focused instanceof HTMLElement && focused !== document.body && !panel.contains(focused)) before = focused;
      reject.focus();
    },
  };
}
