/** What was said: the places in all conversations that have the words of the search, below the list. */

import { ApiError } from "../http.js";
import { texts } from "../language.js";
import { addressOf } from "../router.js";
import { h, slot } from "./dom.js";

/** A shorter text is looked for in titles only. */
const LEAST_LETTERS = 2;

/**
 * @param {import("../store.js").Store} store
 * @param {import("../api.js").Api} api
 * @param {(id: string, eventId: number) => void} go
 */
export function mountFound(store, api, go) {
  const section = slot("found");
  const list = slot("found-list");
  const status = slot("found-status");
  const more = slot("found-more");
  let asked = 0;
  let offered = true;
  /** @type {string | null} */
  let cursor = null;

  const look = async () => {
    const { text, since } = store.state.filter;
    const mine = ++asked;
    const first = cursor === null;
    if (!offered || text.length < LEAST_LETTERS) return clear();
    let page;
    try {
      page = await api.search(text, { since, cursor });
    } catch (error) {
      if (mine !== asked) return;
      if (error instanceof ApiError && error.status === 501) offered = false;
      return clear();
    }
    if (mine !== asked) return;
    cursor = page.next_cursor;
    // Titles are what the list above shows.
    const rows = page.results.filter((one) => one.event_id !== null).map((one) => row(one, go));
    if (first) list.replaceChildren(...rows);
    else list.append(...rows);
    section.hidden = list.childElementCount === 0 && cursor === null;
    more.hidden = cursor === null;
    status.textContent = section.hidden ? "" : texts.list.saidCount(list.childElementCount, cursor !== null);
  };
  const clear = () => {
    section.hidden = true;
    status.textContent = "";
    list.replaceChildren();
  };
  more.addEventListener("click", () => void look());
  store.watch(["filter"], () => {
    cursor = null;
    void look();
  });
}

/** @param {import("../types.js").Found} found @param {(id: string, eventId: number) => void} go */
function row(found, go) {
  const { conversation_id: id, event_id: eventId, title, snippet } = found;
  return h(
    "li",
    {},
    h(
      "a",
      {
        class: "found__link",
        href: addressOf(id),
        data: { route: id, testid: "found-result", event: String(eventId) },
        // Before the router, which opens the conversation.
        onclick: () => go(id, Number(eventId)),
      },
      h("span", { class: "found__title", dir: "auto" }, title),
      h("span", { class: "found__text", dir: "auto" }, ...snippet.map(({ text, found: hit }) => (hit ? h("mark", {}, text) : document.createTextNode(text)))),
    ),
  );
}
