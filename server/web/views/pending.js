/** Messages under way, shown below the transcript until the log shows them back. */

import { texts } from "../language.js";
import { h, slot } from "./dom.js";
import { prose } from "./prose.js";

/** @typedef {import("../types.js").Pending} Pending */

/**
 * @param {import("../store.js").Store} store
 * @param {{retry: (clientId: string) => void, discard: (clientId: string) => void}} on
 */
export function mountPending(store, on) {
  const list = slot("pending");
  store.watch(["pending", "connection"], () => {
    const offline = store.state.connection !== "connected";
    list.replaceChildren(...store.state.pending.map((pending) => bubble(pending, offline, on)));
  });
}

/**
 * @param {Pending} pending
 * @param {boolean} offline
 * @param {{retry: (clientId: string) => void, discard: (clientId: string) => void}} on
 */
function bubble(pending, offline, on) {
  const { event, stage, reason } = pending;
  const words = {
    waiting: offline ? texts.pending.waiting : texts.pending.sending,
    sending: texts.pending.sending,
    stored: texts.pending.stored,
    queued: texts.pending.queued,
    failed: texts.pending.failed(reason ?? ""),
  };
  const id = event.client_id;
  return h(
    "article",
    { class: "entry", data: { testid: "pending-message", kind: "message", source: "user", stage } },
    h("header", { class: "entry__margin" }, h("span", { class: "entry__who" }, texts.transcript.you)),
    h(
      "div",
      { class: "entry__body" },
      prose(String(event.args.content)),
      h(
        "p",
        { class: "pending__stage" },
        words[stage],
        stage === "failed" ? h("button", { type: "button", class: "link", onclick: () => on.retry(id) }, texts.page.tryAgain) : null,
        stage === "failed" ? h("button", { type: "button", class: "link", onclick: () => on.discard(id) }, texts.pending.discard) : null,
      ),
    ),
  );
}
