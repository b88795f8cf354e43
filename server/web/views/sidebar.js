/** The list of conversations. */

import { ASKING } from "../asking.js";
import { texts } from "../language.js";
import { shownState } from "../wording.js";
import { slot } from "./dom.js";
import { icon } from "./icons.js";
import { walkWithKeys } from "./list-keys.js";
import { RowView } from "./row.js";

const AGE_REFRESH_MS = 30_000;
/** The next page is asked for this far before the end is seen. */
const AHEAD = "300px";

/**
 * @param {import("../store.js").Store} store
 * @param {import("./item.js").ItemActions & {
 *   start: (id: string) => void, create: () => void, more: () => void, retry: () => void}} on
 */
export function mountSidebar(store, on) {
  const list = slot("conversation-list");
  const more = slot("list-more");
  /** @type {Map<string, RowView>} */
  const views = new Map();

  slot("new-conversation").prepend(icon("plus"));
  slot("new-conversation").addEventListener("click", on.create);
  slot("list-retry").addEventListener("click", on.retry);
  more.addEventListener("click", on.more);
  const ahead = new IntersectionObserver(
    (seen) => {
      if (seen.some((one) => one.isIntersecting)) on.more();
    },
    { root: slot("list-scroll"), rootMargin: AHEAD },
  );
  const keys = walkWithKeys(list, views);

  store.watch(["conversations", "openId", "unread", "removals", "agentState", "waits", "asking"], () => {
    const { openId, unread, removals, asking } = store.state;
    const agentState = shownState(store.state);
    const away = new Set(removals.map((one) => one.id));
    const conversations = store.state.conversations.filter((info) => !away.has(info.conversation_id));
    const listed = new Set(conversations.map((info) => info.conversation_id));
    const focused = keys.focusedIndex();
    for (const [id, view] of views) {
      if (listed.has(id)) continue;
      view.element.remove();
      views.delete(id);
    }
    /** @type {HTMLElement | null} */
    let previous = null;
    for (const info of conversations) {
      const id = info.conversation_id;
      const view = views.get(id) ?? new RowView(info, on);
      views.set(id, view);
      const current = id === openId;
      view.update(info, { current, unread: unread.has(id) && !current, agentState: current ? agentState : asking.has(id) ? ASKING : "" });
      // An element in the right position is not moved, since moving it would lose the focus.
      /** @type {ChildNode | null} */
      const next = previous ? previous.nextSibling : list.firstChild;
      if (next !== view.element) place(list, view.element, next);
      previous = view.element;
    }
    keys.settle(focused);
  });
  store.watch(["conversations", "removals", "nextPage", "listStage", "filter"], () => showStage(store));
  store.watch(["conversations", "nextPage"], () => {
    // The observer reports only changes: the end may still be visible after a page has arrived.
    ahead.unobserve(more);
    if (store.state.nextPage !== null) ahead.observe(more);
  });
  setInterval(() => {
    for (const view of views.values()) view.refreshAge();
  }, AGE_REFRESH_MS);
  return { focusFirst: keys.focusFirst };
}

/**
 * Moves a row and keeps its focus and a title that is being edited, if the browser can do that.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement} row
 * @param {ChildNode | null} next
 */
function place(list, row, next) {
  if (row.parentElement === list && "moveBefore" in list) /** @type {any} */ (list).moveBefore(row, next);
  else list.insertBefore(row, next);
}

/** @param {import("../store.js").Store} store */
function showStage({ state }) {
  const { conversations, removals, nextPage, listStage, filter } = state;
  const filtered = Object.values(filter).some(Boolean);
  const nothing = conversations.every((info) => removals.some((one) => one.id === info.conversation_id));
  const ready = listStage === "ready" && nextPage === null;
  slot("list-empty").hidden = !(ready && nothing && !filtered);
  slot("list-none").hidden = !(ready && nothing && filtered);
  slot("list-failed").hidden = listStage !== "failed";
  slot("list-loading").hidden = listStage !== "loading" || conversations.length > 0;
  slot("list-more").hidden = nextPage === null || listStage !== "ready";
  slot("conversation-list").setAttribute("aria-busy", String(listStage === "loading"));
  const count = texts.list.found(conversations.length, nextPage !== null);
  slot("list-status").textContent = filtered && listStage === "ready" && !nothing ? count : "";
}
