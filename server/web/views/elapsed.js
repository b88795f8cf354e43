/** How long what is carried out has taken so far: one clock for all cards, which stands while the agent rests. */

import { durationText } from "../clock.js";
import { h, slot } from "./dom.js";

const STEP_MS = 1_000;
/** States in which an action may be under way. */
const WORKING = new Set(["loading", "running", "awaiting_user_confirmation", "user_confirmed", "user_rejected"]);

/** The time since a moment, which goes on. @param {number} sinceMs */
export function elapsed(sinceMs) {
  return h("span", { class: "card__time", data: { since: String(sinceMs), testid: "elapsed" } }, textOf(sinceMs));
}

/** @param {import("../store.js").Store} store */
export function mountElapsed(store) {
  const entries = slot("entries");
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let clock;
  const step = () => {
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (entries.querySelectorAll("[data-since]"))) one.textContent = textOf(Number(one.dataset.since));
  };
  store.watch(["agentState", "connection"], () => {
    const { agentState, connection } = store.state;
    const works = WORKING.has(agentState) && connection === "connected";
    entries.dataset.works = String(works);
    clearInterval(clock);
    if (!works) return;
    step();
    clock = setInterval(step, STEP_MS);
  });
}

/** @param {number} sinceMs */
function textOf(sinceMs) {
  const seconds = Math.floor((Date.now() - sinceMs) / 1_000);
  return seconds >= 1 ? ` ${durationText(seconds * 1_000)}` : "";
}
