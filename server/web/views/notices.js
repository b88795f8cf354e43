/** Troubles, one banner of each kind, above the transcript. */

import { texts } from "../language.js";
import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {"connection" | "agent" | "server" | "request"} Kind */

/** @type {Record<Kind, string>} */
const KINDS = /** @type {Kind[]} */ (["connection", "agent", "server", "request"]);

/** @param {import("../store.js").Store} store */
export function mountNotices(store) {
  const list = slot("notices");
  store.watch(["notices", "reached"], () => {
    // While the server is unreachable, a banner across the page says so.
    const shown = KINDS.filter((kind) => store.state.notices[kind] && (kind !== "connection" || store.state.reached));
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
    h("strong", { class: "notice__label" }, texts.notices[kind]),
    h("span", { class: "notice__text", dir: "auto" }, text),
    h("button", { type: "button", class: "icon-button", "aria-label": texts.notices.dismiss, onclick: dismiss }, icon("cross")),
  );
}
