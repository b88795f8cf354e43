/** The question whether the agent may do what it wants to do: on its card, and in a bar while that is out of sight. */

import { hourOf } from "../clock.js";
import { numberText, texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { confirmedStep, decisionText } from "../wording.js";
import { slot } from "./dom.js";
import { isEditable } from "./edit-fields.js";
import { alwaysBox, questionText, riskMark } from "./question.js";

/** @typedef {import("../types.js").Entry} Entry */

const MOST_CHARACTERS = 2_000;
/** How much of the answers' height counts as being in sight. */
const IN_SIGHT = 0.8;
const ANSWERS = ".question__answers";

/**
 * @param {import("../store.js").Store} store
 * @param {{decide: (id: number, approved: boolean, reason: string) => void, edit: (id: number) => void, renew: (id: number) => void}} on
 * @returns {{focus: () => void}} leads to the question; Escape and an answer lead back
 */
export function mountConfirmation(store, on) {
  const bar = slot("confirmation");
  const scroller = slot("transcript");
  const entries = slot("entries");
  const decided = slot("decided");
  const show = /** @type {HTMLButtonElement} */ (slot("confirmation-show"));
  /** The action that was answered here already. @type {number | undefined} */
  let answeredId;
  /** What had the focus before the question. @type {HTMLElement | null} */
  let before = null;
  /** The question on a card that has the focus; it may be removed. @type {Element | null} */
  let held = null;
  /** The answers on the card of the question that the bar is about. @type {Element | null} */
  let answers = null;
  let inSight = false;
  let filled = "";

  const back = () => {
    held = null;
    (before?.isConnected ? before : slot("composer")).focus({ preventScroll: true });
    before = null;
  };
  const sight = new IntersectionObserver(
    (seen) => {
      const last = seen.findLast(({ target }) => target === answers);
      if (last) inSight = last.isIntersecting && last.intersectionRatio >= IN_SIGHT;
      refresh();
    },
    { root: scroller, threshold: [0, IN_SIGHT, 1] },
  );
  // Where the card is not in the document, it may come with every change of it.
  const changes = new MutationObserver(() => refresh());

  /** @param {Entry | null} awaiting */
  const find = (awaiting) => {
    const found = awaiting && entries.querySelector(`[data-question="${awaiting.id}"] ${ANSWERS}`);
    if (awaiting && !found) changes.observe(entries, { childList: true, subtree: true });
    else changes.disconnect();
    if (found === answers) return;
    sight.disconnect();
    answers = found;
    inSight = found !== null && isWithin(found, scroller);
    if (found) sight.observe(found);
  };
  const refresh = () => {
    const { awaiting, questions, expired, connection } = store.state;
    find(awaiting);
    const unable = connection !== "connected";
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-act=approve], [data-act=reject]"))) {
      const id = Number(button.closest("form")?.dataset.question ?? awaiting?.id);
      button.disabled = unable || id === answeredId;
    }
    const hasFocus = bar.contains(document.activeElement);
    bar.hidden = awaiting === null || inSight;
    const about = `${awaiting?.id} ${questions} ${expired}`;
    if (awaiting && about !== filled) fill(awaiting, questions);
    filled = about;
    show.hidden = answers === null;
    slot("confirmation-renew").hidden = !expired;
    slot("confirmation-reject").hidden = slot("confirmation-approve").hidden = slot("confirmation-always").hidden = expired;
    slot("confirmation-edit").hidden = expired || awaiting === null || !isEditable(awaiting);
    // What is removed would take the focus with it.
    if ((hasFocus && bar.hidden) || (held && !held.isConnected && document.activeElement === document.body)) back();
  };
  /**
   * @param {number} id
   * @param {boolean} approved
   * @param {string} reason
   */
  const answer = (id, approved, reason) => {
    // A second click would answer the next question before it is read.
    answeredId = id;
    back();
    refresh();
    on.decide(id, approved, reason);
  };

  for (const part of [bar, entries]) {
    part.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      if (part === entries && !(event.target instanceof Element && event.target.closest("[data-question]"))) return;
      event.preventDefault();
      back();
    });
  }
  bar.addEventListener("click", (event) => {
    const act = event.target instanceof HTMLElement ? event.target.dataset.act : undefined;
    const { awaiting } = store.state;
    if (act === "renew" && awaiting) on.renew(awaiting.id);
    else if (act === "edit" && awaiting) on.edit(awaiting.id);
    else if (act && awaiting) answer(awaiting.id, act === "approve", "");
  });
  entries.addEventListener("click", (event) => {
    const button = event.target instanceof HTMLElement ? event.target : null;
    const id = Number(button?.closest("form")?.dataset.question);
    if (button?.dataset.act === "approve") answer(id, true, "");
    if (button?.dataset.act === "renew") on.renew(id);
    if (button?.dataset.act === "edit") on.edit(id);
  });
  entries.addEventListener("submit", (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const reason = /** @type {HTMLInputElement} */ (form.elements.namedItem("reason"));
    answer(Number(form.dataset.question), false, reason.value.trim());
  });
  entries.addEventListener("focusin", ({ target, relatedTarget }) => {
    const question = target instanceof Element ? target.closest("[data-question]") : null;
    if (question && !held && relatedTarget instanceof HTMLElement && !relatedTarget.closest("dialog, .confirmation")) before = relatedTarget;
    held = question;
  });
  entries.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget) held = null;
  });
  show.addEventListener("click", () => {
    answers?.closest("article")?.scrollIntoView({ block: "center" });
    focusCard();
  });

  const focusCard = () => {
    const first = /** @type {HTMLElement | null | undefined} */ (answers?.querySelector("[data-act]"));
    first?.focus({ preventScroll: true });
  };

  store.watch(["awaiting", "questions", "expired", "connection", "notices"], () => {
    if (store.state.notices.request || store.state.expired) answeredId = undefined;
    if (store.state.awaiting) decided.textContent = "";
    refresh();
  });
  store.watch(["decided"], () => {
    const by = store.state.decided?.decided;
    if (by) slot("announcer").textContent = decided.textContent = `${decisionText(by)} ${texts.decisions.at(hourOf(by.at))}.`;
  });
  store.watch(["openId", "sent"], () => {
    decided.textContent = "";
  });
  return {
    focus() {
      if (store.state.awaiting === null || store.state.connection !== "connected") return;
      const focused = document.activeElement;
      const isThere = bar.contains(focused) || focused === document.body || focused?.closest("[data-question]");
      if (focused instanceof HTMLElement && !isThere) before = focused;
      if (bar.hidden) focusCard();
      else slot(store.state.expired ? "confirmation-renew" : "confirmation-reject").focus();
    },
  };
}

/**
 * @param {Entry} awaiting
 * @param {number} questions How many there are in all.
 */
function fill(awaiting, questions) {
  const { object: what } = confirmedStep(awaiting.action);
  const text = revealed(what);
  const more = questions > 1 ? ` ${texts.question.more(questions - 1)}` : "";
  slot("confirmation-verb").replaceChildren(`${questionText(awaiting)}${more} `, riskMark(awaiting) ?? "");
  const object = slot("confirmation-object");
  object.textContent = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)} … ${texts.question.cut(numberText(text.length - MOST_CHARACTERS))}` : text;
  object.hidden = text === "";
  slot("confirmation-always").replaceChildren(alwaysBox(awaiting, "bar-always"));
}

/** @param {Element} element @param {Element} scroller */
function isWithin(element, scroller) {
  const { top, bottom } = element.getBoundingClientRect();
  const frame = scroller.getBoundingClientRect();
  return top >= frame.top && bottom <= frame.bottom;
}
