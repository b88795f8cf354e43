/** Deletions that can still be undone, at the foot of the page. */

import { texts } from "../language.js";
import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @param {import("../store.js").Store} store
 * @param {{undo: (id: string) => void, finish: (id: string) => void, pause: (id: string) => void,
 *   run: (id: string) => void}} on
 */
export function mountToasts(store, on) {
  const list = slot("toasts");
  /** @type {Map<string, HTMLElement>} */
  const shown = new Map();
  store.watch(["removals"], () => {
    const held = store.state.removals.filter((one) => !one.sent);
    for (const [id, element] of shown) {
      if (held.some((one) => one.id === id)) continue;
      element.remove();
      shown.delete(id);
    }
    for (const removal of held) {
      if (shown.has(removal.id)) continue;
      const element = toast(removal, on);
      shown.set(removal.id, element);
      list.append(element);
    }
  });
}

/**
 * @param {import("../types.js").Removal} removal
 * @param {Parameters<typeof mountToasts>[1]} on
 */
function toast({ id, title }, on) {
  // The countdown pauses while the pointer or the focus is on the toast.
  const pause = () => on.pause(id);
  const run = () => on.run(id);
  return h(
    "div",
    { class: "toast", data: { testid: "undo-toast" }, onmouseenter: pause, onmouseleave: run, onfocusin: pause, onfocusout: run },
    h("span", { class: "toast__text" }, texts.list.deleted, " ", h("bdi", { class: "toast__title" }, title || texts.page.untitled)),
    h("button", { type: "button", class: "toast__button", data: { testid: "undo" }, onclick: () => restore(id, on.undo) }, texts.list.undo),
    h("button", { type: "button", class: "icon-button", "aria-label": texts.list.deleteNow, title: texts.list.deleteNow, data: { testid: "delete-now" }, onclick: () => on.finish(id) }, icon("cross")),
  );
}

/** The button goes with the toast: who pressed it goes on at what came back. @param {string} id @param {(id: string) => void} undo */
function restore(id, undo) {
  undo(id);
  /** @type {HTMLElement | null} */ (document.querySelector(`[data-conversation-id="${CSS.escape(id)}"] .item__link`))?.focus();
}
