/** What the agent may do in this conversation without asking, and how to have it ask again. */

import { texts } from "../language.js";
import { deedText } from "../wording.js";
import { h, slot } from "./dom.js";

/**
 * @param {import("../store.js").Store} store
 * @param {{revoke: (kind: string) => void}} on
 */
export function mountAllowed(store, on) {
  const line = slot("allowed");
  /** @type {readonly string[]} */
  let shown = [];
  store.watch(["allowed"], () => {
    const { allowed } = store.state;
    const hasFocus = line.contains(document.activeElement);
    const ended = shown.filter((kind) => !allowed.includes(kind));
    shown = allowed;
    line.hidden = allowed.length === 0;
    line.replaceChildren(...allowed.map((kind) => item(kind, () => on.revoke(kind))));
    // The button that was pressed is gone.
    if (hasFocus) (line.querySelector("button") ?? slot("composer")).focus({ preventScroll: true });
    if (ended.length > 0 && store.state.openId !== null) slot("announcer").textContent = texts.question.asksAgain(ended.map(deedText).join(", "));
  });
}

/** @param {string} kind @param {() => void} revoke */
function item(kind, revoke) {
  const id = `allowed-${kind}`;
  return h(
    "li",
    { class: "allowed__kind", data: { testid: "allowed-kind", kind } },
    h("span", { id }, texts.question.without(deedText(kind))),
    " ",
    h("button", { type: "button", class: "link", "aria-describedby": id, data: { testid: "revoke" }, onclick: revoke }, texts.question.revoke),
  );
}
