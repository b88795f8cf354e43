/** The frame of everything the agent did: what, on what, how it went. */

import { durationText } from "../clock.js";
import { texts } from "../language.js";
import { reasonText } from "../wording.js";
import { h } from "./dom.js";
import { elapsed } from "./elapsed.js";
import { thought } from "./prose.js";
import { decision, question } from "./question.js";

/** @typedef {import("../types.js").Entry} Entry */
/** @typedef {import("../types.js").Event} Event */

/** Less is not worth mentioning. */
const LEAST_MS = 100;

/** @typedef {"asking" | "approved" | "rejected" | "running" | "failed" | "done"} Stage */

/**
 * @param {Entry} entry
 * @param {object} parts
 * @param {string} parts.testid
 * @param {string} parts.label What a screen reader calls it.
 * @param {Node} parts.head
 * @param {string} [parts.outcome] Instead of the usual word, once it is done.
 * @param {Node | null} [parts.tool]
 * @param {(Node | null)[]} parts.body
 */
export function card(entry, { testid, label, head, outcome, tool = null, body }) {
  const stage = stageOf(entry);
  const why = String(entry.action?.args?.thought || entry.asked?.args?.thought || "");
  const headId = entry.asks ? `asked-${entry.id}` : undefined;
  return h(
    "div",
    { class: "deed" },
    why ? thought(why) : null,
    h(
      "div",
      { class: "card", role: "group", data: { testid, stage }, "aria-label": label },
      h("div", { class: "card__head" }, h("div", { class: "card__line", id: headId }, head), verdict(entry, stage, outcome), tool),
      decision(entry),
      ...body,
      headId ? question(entry, headId) : null,
    ),
  );
}

/**
 * @param {Entry} entry
 * @returns {Stage}
 */
export function stageOf({ action, observation, asks, asked, decided }) {
  if (asks) return "asking";
  if (action?.args?.confirmation_state === "rejected" || observation?.observation === "user_rejected") return "rejected";
  if (!observation && decided && !asked) return decided.approved ? "approved" : "rejected";
  if (!observation) return "running";
  if (observation.observation === "error" || observation.success === false) return "failed";
  return "done";
}

/** Whether there is a text of the file, the page ... and not of a failure. @param {Event | null} observation */
export function answered(observation) {
  return observation !== null && observation.observation !== "error" && observation.observation !== "user_rejected";
}

/** The text of an error observation. @param {Event} observation */
export function errorText(observation) {
  return observation.content || observation.message || reasonText(String(observation.extras?.error_id ?? ""));
}

/**
 * @param {Entry} entry
 * @param {Stage} stage
 * @param {string} [outcome]
 */
function verdict(entry, stage, outcome) {
  const code = entry.observation?.extras?.metadata?.exit_code;
  const words = {
    asking: entry.expired ? texts.cards.expired : texts.cards.needsYou,
    approved: texts.cards.approved,
    rejected: texts.cards.rejected,
    running: texts.cards.running,
    failed: typeof code === "number" ? texts.cards.exit(code) : texts.cards.failed,
    done: outcome ?? (typeof code === "number" ? texts.cards.exit(code) : texts.cards.done),
  };
  const taken = takenMs(entry);
  return h(
    "span",
    { class: "card__verdict", data: { stage } },
    stage === "running" ? h("span", { class: "spinner", "aria-hidden": "true" }) : null,
    words[stage],
    stage === "running" ? elapsed(begunAt(entry)) : null,
    taken >= LEAST_MS && stage !== "rejected" && words[stage] ? h("span", { class: "card__time", data: { testid: "duration" } }, ` · ${durationText(taken)}`) : null,
  );
}

/**
 * When it could begin: an action that somebody was asked about waits for the decision.
 *
 * @param {Entry} entry
 * @returns {number} in ms, NaN when that is not known
 */
function begunAt({ action, decided, at }) {
  const times = [action?.timestamp ?? at, decided?.at ?? ""].map((time) => Date.parse(time)).filter((time) => !Number.isNaN(time));
  return times.length > 0 ? Math.max(...times) : Number.NaN;
}

/** How long it took; NaN as long as that is not known. @param {Entry} entry */
function takenMs(entry) {
  return entry.action && entry.observation ? Date.parse(entry.observation.timestamp ?? "") - begunAt(entry) : Number.NaN;
}
