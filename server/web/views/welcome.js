/** What stands in the place of a transcript: the front page, and an address that leads nowhere. */

import { texts } from "../language.js";
import { h, slot } from "./dom.js";

/** @typedef {import("../types.js").Example} Example */

/** So many of the agent's examples stand below the composer, too. */
const HINTS = 3;

/**
 * @param {import("../store.js").Store} store
 * @param {(text: string) => void} begin
 */
export function mountWelcome(store, begin) {
  store.watch(["examples"], () => {
    const { examples } = store.state;
    slot("beginnings").replaceChildren(...examples.map((one) => beginning(one, begin)));
    slot("beginnings").hidden = examples.length === 0;
    slot("composer-examples").replaceChildren(...hints(examples));
  });
  store.watch(["connection", "agentState"], () => {
    // When the agent is ready, all events have arrived; the style sheet checks whether there are none.
    slot("blank").hidden = store.state.connection !== "connected" || store.state.agentState !== "awaiting_user_input";
  });
  store.watch(["openId", "missing"], () => {
    const { openId, missing } = store.state;
    slot("welcome").hidden = openId !== null || missing;
    slot("composer-examples").hidden = openId === null;
    slot("missing").hidden = !missing;
    slot("composer-hint").hidden = missing;
    slot("sheet").hidden = openId === null || missing;
  });
}

/** @param {Example} example @param {(text: string) => void} begin */
function beginning({ title, message }, begin) {
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "beginning", data: { testid: "beginning" }, onclick: () => begin(message) },
      h("span", { class: "beginning__label", dir: "auto" }, title),
      h("code", { class: "beginning__text", dir: "auto" }, message),
    ),
  );
}

/** The first line of a few. @param {Example[]} examples @returns {(string | HTMLElement)[]} */
function hints(examples) {
  const lines = examples.slice(0, HINTS).map((one) => h("code", { dir: "auto" }, one.message.split("\n")[0]));
  return lines.flatMap((line, place) => [place === 0 ? `${texts.welcome.try} ` : " · ", line]);
}
