/** Troubles, one banner of each kind, above the transcript. */

import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {"connection" | "agent" | "server" | "request"} Kind */

/** @type {Record<Kind, string>} */
const LABELS = { connection: "Connection", agent: "Agent", server: "Server", request: "Request failed" };

/** @param {import("../store.js").Store} store */
export function mountNotices(store) {
  const list = slot("notices");
  store.watch(["notices", "reached"], () => {
    const kinds = /** @type {Kind[]} */ (Object.keys(LABELS));
    // While the server is unreachable, a banner across the page says so.
    const shown = kinds.filter((kind) => store.state.notices[kind] && (kind !== "connection" || store.state.reached));
    list.replaceChildren(...shown.map((kind) => banner(kind, store.state.notices[kind] ?? "", () => store.notice(kind, ""))));
  });
}

/**
 * @param {Kind} kind
 * @param {string} text
 * @param {() => void} dismiss
 */
function banner(kind, text, dismiss) {
  return h(
    "div",
    { class: "notice", role: "alert", data: { testid: "error-banner", kind } },
    h("strong", { class: "notice__label" }, LABELS[kind]),
    h("span", { class: "notice__text", dir: "auto" }, text),
    h("button", { type: "button", class: "icon-button", "aria-label": "Dismiss", onclick: dismiss }, icon("cross")),
  );
}
