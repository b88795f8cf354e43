/** The list of conversations. */

import { slot } from "./dom.js";
import { icon } from "./icons.js";
import { ItemView } from "./item.js";

const AGE_REFRESH_MS = 30_000;

/**
 * @param {import("../store.js").Store} store
 * @param {import("./item.js").ItemActions & {create: () => void, more: () => void, retry: () => void}} on
 */
export function mountSidebar(store, on) {
  const list = slot("conversation-list");
  const empty = slot("list-empty");
  const failed = slot("list-failed");
  const more = slot("list-more");
  /** @type {Map<string, ItemView>} */
  const views = new Map();

  slot("new-conversation").prepend(icon("plus"));
  slot("new-conversation").addEventListener("click", on.create);
  slot("list-retry").addEventListener("click", on.retry);
  more.addEventListener("click", on.more);
  new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting)) on.more();
  }).observe(more);

  store.watch(["conversations", "openId"], () => {
    const { conversations, openId } = store.state;
    const listed = new Set(conversations.map((info) => info.conversation_id));
    for (const [id, view] of views) {
      if (listed.has(id)) continue;
      view.element.remove();
      views.delete(id);
    }
    /** @type {HTMLElement | null} */
    let previous = null;
    for (const info of conversations) {
      const view = views.get(info.conversation_id) ?? new ItemView(info, on);
      views.set(info.conversation_id, view);
      view.update(info, info.conversation_id === openId);
      // An element that stands right is not moved: moving would take the focus from it.
      /** @type {ChildNode | null} */
      const next = previous ? previous.nextSibling : list.firstChild;
      if (next !== view.element) list.insertBefore(view.element, next);
      previous = view.element;
    }
  });
  store.watch(["conversations", "nextPage", "listStage"], () => {
    const { conversations, nextPage, listStage } = store.state;
    empty.hidden = listStage !== "ready" || conversations.length > 0;
    failed.hidden = listStage !== "failed";
    more.hidden = nextPage === null;
    list.setAttribute("aria-busy", String(listStage === "loading"));
  });
  setInterval(() => {
    for (const view of views.values()) view.refreshAge();
  }, AGE_REFRESH_MS);
}
