/** What stands in the place of a transcript: the front page, and an address that leads nowhere. */

import { h, slot } from "./dom.js";

/** @type {[string, string][]} */
const BEGINNINGS = [
  ["/run echo hello > note.txt\n/run ls", "Run two commands in a fresh workspace"],
  ["/write plan.md First, listen.\n/read plan.md", "Write a file and read it back"],
  ["/slow 6 700", "Watch six answers arrive one by one"],
  ["/ask What should I look at first?", "Let the agent ask you something"],
];

/**
 * @param {import("../store.js").Store} store
 * @param {(text: string) => void} begin
 */
export function mountWelcome(store, begin) {
  slot("beginnings").append(
    ...BEGINNINGS.map(([text, label]) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "beginning", data: { testid: "beginning" }, onclick: () => begin(text) },
          h("span", { class: "beginning__label" }, label),
          h("code", { class: "beginning__text" }, text),
        ),
      ),
    ),
  );
  store.watch(["connection", "agentState"], () => {
    // By the time the agent is ready, what there is has come; the style sheet looks whether it is nothing.
    slot("blank").hidden = store.state.connection !== "connected" || store.state.agentState !== "awaiting_user_input";
  });
  store.watch(["openId", "missing"], () => {
    const { openId, missing } = store.state;
    slot("welcome").hidden = openId !== null || missing;
    slot("missing").hidden = !missing;
    slot("sheet").hidden = openId === null || missing;
  });
}
