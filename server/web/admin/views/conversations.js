/** Conversations of all users: search, endless pages, what may be done. */

import { h } from "../../views/dom.js";
import { button, free, labelled, panel, table } from "../parts.js";
import { money, moment, ownerName, whole } from "../wording.js";
import { closingText, stateOf } from "./overview.js";

/** @param {import("../parts.js").Tools} tools */
export function conversations(tools) {
  const title = h("input", { class: "field", id: "find-title", type: "search", placeholder: "Part of a title", data: { testid: "find-title" } });
  const owner = h("input", { class: "field", id: "find-owner", type: "search", placeholder: "Anyone", data: { testid: "find-owner" } });
  const list = h("div", { data: { testid: "conversations" } });
  const more = button("Older conversations", () => load(false), { hidden: true, data: { testid: "more" } });
  /** @type {any[]} */
  let found = [];
  let next = "";
  let asked = 0;

  /** @param {boolean} anew */
  async function load(anew) {
    const turn = ++asked;
    const query = { title: title.value, owner: owner.value, page_id: anew ? "" : next, limit: "50" };
    const page = await tools.attempt(() => tools.api.get("conversations", query));
    if (!page || turn !== asked) return;
    found = anew ? page.results : [...found, ...page.results];
    next = page.next_page_id ?? "";
    more.hidden = !next;
    draw();
  }

  function draw() {
    list.replaceChildren(table(
      "Conversations",
      ["Conversation", "Owner", "Loop", "Watching", "Tokens", "Cost", "Last updated", ""],
      found.map((one) => ({ id: one.record.conversation_id, cells: cells(one) })),
      title.value || owner.value ? "No conversation matches." : "No conversations yet.",
      new Set([3, 4, 5]),
    ));
  }

  /** @param {any} one */
  function cells(one) {
    const { record } = one;
    const name = record.title || `Conversation ${record.conversation_id.slice(0, 5)}`;
    const close = one.status === "STOPPED" ? "" : button("Close loop", () => closeLoop(record.conversation_id), { "aria-label": `Close loop of ${name}` });
    return [
      h("div", { class: "named" }, h("span", { dir: "auto" }, name), h("code", {}, record.conversation_id)),
      free(ownerName(record.user_id)), stateOf(one), whole(one.connections), whole(record.total_tokens),
      money(record.accumulated_cost), moment(record.last_updated_at ?? record.created_at), close,
    ];
  }

  /** @param {string} id */
  async function closeLoop(id) {
    const sure = await tools.confirm("Close this loop?", closingText(id), "Close loop");
    if (sure && await tools.attempt(() => tools.api.post(`loops/${encodeURIComponent(id)}/close`))) await load(true);
  }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let soon;
  for (const field of [title, owner]) {
    field.addEventListener("input", () => {
      clearTimeout(soon);
      soon = setTimeout(() => load(true), 250);
    });
  }
  load(true);
  return [panel("Conversations", [labelled("Title", title), labelled("Owner", owner)], list, h("div", { class: "panel__foot" }, more))];
}
