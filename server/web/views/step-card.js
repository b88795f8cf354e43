/** Everything else the agent did: pages, tools, other agents, its task list, kinds unknown here. */

import { texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { card } from "./cards.js";
import { h } from "./dom.js";
import { CODE, foldable } from "./fold.js";
import { copyOutput, output } from "./output.js";

/** @typedef {import("../types.js").Entry} Entry */

/** @typedef {keyof typeof texts.taskStates} TaskState */

/** @param {Entry} entry */
export function stepCard(entry) {
  const { action, observation } = entry;
  const args = action?.args ?? {};
  const verb = /** @type {Record<string, string>} */ (texts.deeds)[entry.name] ?? entry.name.replaceAll("_", " ");
  const object = args.url ?? args.name ?? args.agent ?? action?.message ?? observation?.message ?? "";
  const detail = args.browser_actions ?? args.arguments ?? args.inputs ?? observation?.extras?.outputs;
  return card(entry, {
    testid: "step",
    label: verb,
    head: words(verb, revealed(String(object))),
    tool: copyOutput(observation),
    body: [details(detail), output(observation, "step-output")],
  });
}

/** @param {Entry} entry */
export function taskCard(entry) {
  const given = entry.observation?.extras?.task_list ?? entry.action?.args?.task_list;
  const tasks = Array.isArray(given) ? given : [];
  const done = tasks.filter((task) => task?.status === "done").length;
  return card(entry, {
    testid: "tasks",
    label: texts.cards.taskList,
    head: words(texts.cards.tasks, tasks.length > 0 ? texts.cards.tasksDone(done, tasks.length) : texts.cards.noTasks),
    outcome: "",
    body: [tasks.length > 0 ? h("ol", { class: "tasks" }, ...tasks.map(taskItem)) : output(entry.observation, "step-output")],
  });
}

/** @param {any} task */
function taskItem(task) {
  const status = /** @type {TaskState} */ (task?.status in texts.taskStates ? task.status : "todo");
  const notes = String(task?.notes ?? "");
  return h(
    "li",
    { class: "task", data: { status } },
    h("span", { class: "task__mark", role: "img", "aria-label": texts.taskStates[status] }),
    h("span", { class: "task__title", dir: "auto" }, String(task?.title ?? task?.content ?? "")),
    status === "in_progress" ? h("span", { class: "task__state", "aria-hidden": "true" }, texts.taskStates[status]) : null,
    notes ? h("span", { class: "task__notes", dir: "auto" }, notes) : null,
  );
}

/**
 * @param {string} verb
 * @param {string} object
 */
function words(verb, object) {
  return h("div", { class: "card__words" }, h("span", { class: "card__verb" }, verb), " ", h("span", { class: "card__path", dir: "auto" }, object));
}

/** @param {unknown} detail */
function details(detail) {
  if (detail === undefined || detail === null || detail === "") return null;
  const text = typeof detail === "string" ? detail : JSON.stringify(detail, null, 2);
  if (text === "{}" || text === "[]") return null;
  return foldable(h("pre", { class: "card__output", dir: "ltr" }), text, (shown) => new Text(shown), CODE);
}
