/** Who did what to the server. */

import { h } from "../../views/dom.js";
import { button, labelled, panel, table } from "../parts.js";
import { moment, whole } from "../wording.js";

/** @param {import("../parts.js").Tools} tools */
export function audit(tools) {
  const only = h("select", { class: "field", id: "audit-kind", data: { testid: "audit-kind" } },
    h("option", { value: "" }, "Everything"), h("option", { value: "true" }, "Actions only"));
  const list = h("div", { data: { testid: "audit" } });
  const more = button("Older entries", () => load(false), { hidden: true });
  /** @type {any[]} */
  let found = [];
  let before = "";

  /** @param {boolean} anew */
  async function load(anew) {
    const query = { only_acts: only.value, before: anew ? "" : before, limit: "100" };
    const page = await tools.attempt(() => tools.api.get("audit", query));
    if (!page) return;
    found = anew ? page.results : [...found, ...page.results];
    before = page.next_before ? String(page.next_before) : "";
    more.hidden = !before;
    const columns = ["Time", "Actor", "Address", "Action", "Target", "Outcome", "Count"];
    const rows = found.map((one) => ({
      id: String(one.id),
      cells: [
        moment(one.at), h("code", {}, one.who), one.client ?? "–", one.action, one.target ? h("code", {}, one.target) : "–",
        h("span", { class: one.outcome === "done" ? "" : "behind" }, one.outcome.replaceAll("_", " ")), whole(one.count),
      ],
    }));
    list.replaceChildren(table("Audit", columns, rows, "No entries yet.", new Set([6])));
  }

  only.addEventListener("change", () => load(true));
  load(true);
  const again = button("Refresh", () => load(true));
  return [panel("Audit", [labelled("Show", only), again], list, h("div", { class: "panel__foot" }, more))];
}
