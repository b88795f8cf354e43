/** What was used: bars by day, sums by day, model or user, and the same as CSV. */

import { h } from "../../views/dom.js";
import { barChart } from "../charts.js";
import { button, free, labelled, panel, table } from "../parts.js";
import { money, ownerName, roundMoney, whole } from "../wording.js";

const DAY_MS = 86_400_000;
const MEASURES = { cost: "Cost", tokens: "Tokens", events: "Events" };
const GROUPS = { day: "Day", model: "Model", user: "User" };

/** @param {import("../parts.js").Tools} tools */
export function usage(tools) {
  const today = Date.now();
  const since = dateField("since", new Date(today - 29 * DAY_MS));
  const until = dateField("until", new Date(today));
  const measure = choice("measure", MEASURES);
  const group = choice("group", GROUPS);
  const body = h("div", { data: { testid: "usage" } });
  /** @type {any} */
  let answer = null;

  const query = () => ({ since: since.value, until: until.value });

  async function load() {
    answer = (await tools.attempt(() => tools.api.get("usage", query()))) ?? answer;
    if (answer) draw();
  }

  function draw() {
    const lines = answer.results;
    const days = summed(lines, (line) => line.day);
    const groups = { day: (line) => line.day, model: (line) => line.model || "no model", user: (line) => ownerName(line.user_id) };
    const sums = summed(lines, groups[group.value]);
    const of = { cost: (sum) => sum.cost, tokens: (sum) => sum.prompt + sum.completion, events: (sum) => sum.events }[measure.value];
    const shown = measure.value === "cost" ? roundMoney : whole;
    const bars = span(since.value, until.value, days).map((day) => {
      const value = days.has(day) ? of(days.get(day)) : 0;
      return { name: day, value, shown: shown(value) };
    });
    const all = [...days.values()].reduce((sum, one) => sum + of(one), 0);
    const columns = [GROUPS[group.value], "Events", "Prompt tokens", "Completion tokens", "Cost"];
    const rows = [...sums].map(([name, sum]) => ({ cells: [free(name), whole(sum.events), whole(sum.prompt), whole(sum.completion), money(sum.cost)] }));
    body.replaceChildren(
      h("div", { class: "tile tile--wide", data: { testid: "usage-chart" } },
        h("h3", { class: "tile__title" }, `${MEASURES[measure.value]} per day`),
        h("p", { class: "tile__now" }, shown(all)),
        barChart(bars, `${MEASURES[measure.value]} per day, ${shown(all)} in total`),
        h("div", { class: "axis" }, h("span", {}, bars[0]?.name ?? ""), h("span", {}, bars.at(-1)?.name ?? ""))),
      ...(answer.complete ? [] : [h("p", { class: "nothing" }, "Counting is not complete. Reload in a moment to see all usage.")]),
      ...(answer.truncated ? [h("p", { class: "nothing" }, "Not all lines are shown. Choose a shorter period.")] : []),
      table(`Usage by ${group.value}`, columns, rows, "No usage in this period.", new Set([1, 2, 3, 4])),
    );
  }

  async function download() {
    const file = await tools.attempt(() => tools.api.file("usage", { ...query(), format: "csv" }));
    if (!file) return;
    const address = URL.createObjectURL(file);
    const name = `usage-${since.value}-${until.value}.csv`;
    h("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  for (const field of [since, until]) field.addEventListener("change", load);
  for (const field of [measure, group]) field.addEventListener("change", () => answer && draw());
  load();
  const fields = [labelled("From", since), labelled("To", until), labelled("Show", measure), labelled("By", group)];
  const csv = button("Download CSV", download, { data: { testid: "csv" } });
  return [panel("Usage", [...fields, csv], body)];
}

/**
 * @param {any[]} lines
 * @param {(line: any) => string} key
 */
function summed(lines, key) {
  /** @type {Map<string, {events: number, prompt: number, completion: number, cost: number}>} */
  const sums = new Map();
  for (const line of lines) {
    const sum = sums.get(key(line)) ?? { events: 0, prompt: 0, completion: 0, cost: 0 };
    sum.events += line.events;
    sum.prompt += line.prompt_tokens;
    sum.completion += line.completion_tokens;
    sum.cost += line.cost;
    sums.set(key(line), sum);
  }
  return sums;
}

/**
 * Every day between the two, so that a day without usage is a gap; only days with usage if the period is open.
 *
 * @param {string} since
 * @param {string} until
 * @param {Map<string, any>} days
 */
function span(since, until, days) {
  const [first, last] = [Date.parse(since), Date.parse(until)];
  const count = (last - first) / DAY_MS + 1;
  if (!(count >= 1 && count <= 400)) return [...days.keys()].sort();
  return Array.from({ length: count }, (_, day) => new Date(first + day * DAY_MS).toISOString().slice(0, 10));
}

/**
 * @param {string} id
 * @param {Date} day
 */
function dateField(id, day) {
  return h("input", { class: "field", id, type: "date", value: day.toISOString().slice(0, 10), data: { testid: id } });
}

/**
 * @param {string} id
 * @param {Record<string, string>} options
 */
function choice(id, options) {
  const made = Object.entries(options).map(([value, text]) => h("option", { value }, text));
  return h("select", { class: "field", id, data: { testid: id } }, ...made);
}
