/** A file that was read, written or edited. */

import { numberText, texts } from "../language.js";
import { changesBetween, countChanges, readUnified } from "../text/changes.js";
import { revealed } from "../text/revealed.js";
import { answered, card } from "./cards.js";
import { diffView } from "./diff.js";
import { h } from "./dom.js";
import { copyOutput, output, outputBlock } from "./output.js";

/** @typedef {import("../types.js").Entry} Entry */
/** @typedef {import("../text/changes.js").Line} Line */

/** Longer texts are not compared, they are shown as they came. */
const MOST_CHARACTERS = 400_000;

/** @param {Entry} entry */
export function fileCard(entry) {
  const { action, observation } = entry;
  const path = revealed(String(action?.args?.path ?? observation?.extras?.path ?? ""));
  const done = answered(observation);
  const name = /** @type {"read" | "write" | "edit"} */ (entry.name);
  const verb = done ? texts.deeds[name] : texts.intents[name];
  const failed = observation !== null && !done;
  const lines = failed || entry.name === "read" ? null : changesOf(entry);
  return card(entry, {
    testid: "file",
    label: `${verb} ${path}`,
    head: h("div", { class: "card__words" }, h("span", { class: "card__verb" }, verb), " ", h("code", { class: "card__path" }, path), lines ? tally(lines) : null),
    outcome: entry.name === "read" ? size(String(observation?.content ?? "")) : texts.cards.done,
    tool: entry.name === "read" && done ? copyOutput(observation) : null,
    body: [failed ? output(observation, "file-output") : entry.name === "read" ? reading(entry) : lines ? changed(lines, path) : written(entry)],
  });
}

/**
 * Before the observation arrives, the action says what is to change.
 *
 * @param {Entry} entry
 * @returns {Line[] | null} null when that is not known
 */
function changesOf({ action, observation, name }) {
  const { diff, old_content: old, new_content: fresh } = observation?.extras ?? {};
  if (typeof diff === "string" && diff && diff.length <= MOST_CHARACTERS) return readUnified(diff);
  if (typeof fresh === "string") return between(typeof old === "string" ? old : "", fresh);
  const args = action?.args ?? {};
  if (name === "write") return between("", args.content);
  if (args.command === "create") return between("", args.file_text);
  if (typeof args.new_str === "string") return between(args.old_str ?? "", args.new_str);
  return null;
}

/**
 * @param {unknown} old
 * @param {unknown} fresh
 */
function between(old, fresh) {
  if (typeof old !== "string" || typeof fresh !== "string") return null;
  return old.length + fresh.length <= MOST_CHARACTERS ? changesBetween(old, fresh) : null;
}

/**
 * @param {Line[]} lines
 * @param {string} path
 */
function changed(lines, path) {
  if (lines.length > 0) return diffView(lines, texts.cards.changes(path));
  return h("p", { class: "card__empty" }, texts.cards.noChanges);
}

/** @param {Line[]} lines */
function tally(lines) {
  const { added, removed } = countChanges(lines);
  return h(
    "span",
    { class: "tally", "aria-label": texts.cards.changedLines(added, removed) },
    added ? h("span", { class: "tally__added" }, `+${added}`) : null,
    removed ? h("span", { class: "tally__removed" }, `−${removed}`) : null,
  );
}

/** What was read stays folded: the agent wanted to see it, the reader may. @param {Entry} entry */
function reading({ observation }) {
  const text = String(observation?.content ?? "");
  if (!text) return null;
  const details = h("details", { class: "reading" }, h("summary", { class: "reading__summary" }, texts.cards.showText));
  details.addEventListener(
    "toggle",
    () => details.append(outputBlock(text, "file-output")),
    { once: true },
  );
  return details;
}

/** @param {Entry} entry */
function written({ action, observation }) {
  const text = action?.args?.content || action?.args?.file_text || observation?.content || observation?.extras?.diff;
  return text ? outputBlock(String(text), "file-output") : null;
}

/** @param {string} text */
function size(text) {
  const lines = text === "" ? 0 : text.replace(/\n$/, "").split("\n").length;
  return texts.cards.lines(lines, numberText(lines));
}
