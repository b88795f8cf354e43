/** What the agent did: commands, files, pages, tools. */

import { reasonText } from "../wording.js";
import { h } from "./dom.js";
import { foldable } from "./fold.js";

/** @typedef {import("../types.js").Entry} Entry */
/** @typedef {import("../types.js").Event} Event */

const MOST_DIFF_LINES = 400;

/** @type {Record<string, string>} */
const VERBS = {
  read: "Read",
  write: "Wrote",
  edit: "Edited",
  browse: "Opened",
  browse_interactive: "Used the page",
  call_tool_mcp: "Called",
  delegate: "Delegated to",
  task_tracking: "Task list",
};

/** @param {Entry} entry */
export function commandCard(entry) {
  const args = entry.action?.args ?? entry.observation?.extras ?? {};
  const isShell = entry.name === "run";
  return card(
    entry,
    "command",
    h("div", { class: "card__line" }, h("span", { class: "card__prompt", "aria-hidden": "true" }, isShell ? "$" : "py"),
      foldable("pre", { class: "card__code" }, String(args.command ?? args.code ?? ""))),
    verdict(entry),
    output(entry, "command-output"),
  );
}

/** @param {Entry} entry */
export function fileCard(entry) {
  const args = entry.action?.args ?? entry.observation?.extras ?? {};
  return card(
    entry,
    "file",
    h("div", { class: "card__line" }, h("span", { class: "card__verb" }, VERBS[entry.name] ?? entry.name),
      h("code", { class: "card__path" }, String(args.path ?? ""))),
    verdict(entry),
    fileBody(entry),
  );
}

/** @param {Entry} entry */
export function otherCard(entry) {
  const { action, observation } = entry;
  const args = action?.args ?? {};
  const object = args.url ?? args.name ?? args.agent ?? "";
  const answered = observation !== null || entry.name in VERBS;
  const detail = args.arguments ?? args.inputs ?? args.task_list;
  return card(
    entry,
    "step",
    h("div", { class: "card__line" }, h("span", { class: "card__verb" }, VERBS[entry.name] ?? entry.name.replaceAll("_", " ")),
      h("span", { class: "card__path" }, String(object || action?.message || observation?.message || ""))),
    answered ? verdict(entry) : null,
    detail ? foldable("pre", { class: "card__output" }, JSON.stringify(detail, null, 2)) : null,
    output(entry, "step-output"),
  );
}

/**
 * @param {Entry} entry
 * @param {string} testid
 * @param {...(Node | null)} parts
 */
function card(entry, testid, ...parts) {
  const thought = String(entry.action?.args?.thought ?? "");
  return h(
    "div",
    {},
    thought ? h("p", { class: "thought", dir: "auto" }, thought) : null,
    h("section", { class: "card", data: { testid, stage: stageOf(entry) }, "aria-label": entry.name }, ...parts),
  );
}

/** @param {Entry} entry */
function stageOf({ action, observation }) {
  if (action?.args?.confirmation_state === "awaiting_confirmation" && !observation) return "asking";
  if (action?.args?.confirmation_state === "rejected" || observation?.observation === "user_rejected") return "rejected";
  if (!observation) return "running";
  if (observation.observation === "error" || observation.success === false) return "failed";
  return "done";
}

/** @param {Entry} entry */
function verdict(entry) {
  const stage = stageOf(entry);
  const code = entry.observation?.extras?.metadata?.exit_code;
  const texts = {
    asking: "waits for your answer",
    rejected: "rejected",
    running: "running",
    failed: typeof code === "number" ? `exit ${code}` : "failed",
    done: typeof code === "number" ? `exit ${code}` : "done",
  };
  return h("span", { class: "card__verdict", data: { stage } }, texts[stage]);
}

/**
 * @param {Entry} entry
 * @param {string} testid
 */
function output({ observation }, testid) {
  if (!observation) return null;
  const text = observation.observation === "error" ? errorText(observation) : String(observation.content ?? "");
  if (!text) return observation.observation === "run" ? h("p", { class: "card__empty", data: { testid } }, "no output") : null;
  return foldable("pre", { class: "card__output", data: { testid }, tabindex: "0", dir: "ltr" }, text);
}

/** @param {Entry} entry */
function fileBody(entry) {
  const { action, observation } = entry;
  if (observation?.observation === "error" || observation?.observation === "user_rejected") return output(entry, "file-output");
  const diff = observation?.extras?.diff;
  if (typeof diff === "string" && diff) return diffBlock(diff);
  const text = entry.name === "read" ? observation?.content : (action?.args?.content || action?.args?.file_text || observation?.content);
  return text ? foldable("pre", { class: "card__output", data: { testid: "file-output" }, tabindex: "0" }, String(text)) : null;
}

/** @param {string} diff */
function diffBlock(diff) {
  const lines = diff.split("\n");
  const block = h("pre", { class: "card__output diff", data: { testid: "file-output" }, tabindex: "0" });
  for (const line of lines.slice(0, MOST_DIFF_LINES)) {
    const sign = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "same";
    block.append(h("span", { class: "diff__line", data: { sign } }, `${line}\n`));
  }
  if (lines.length > MOST_DIFF_LINES) block.append(`and ${lines.length - MOST_DIFF_LINES} more lines`);
  return block;
}

/** The text of an error observation. @param {Event} observation */
export function errorText(observation) {
  return observation.content || observation.message || reasonText(String(observation.extras?.error_id ?? ""));
}
