/** Taking a conversation home: its trajectory, its workspace. */

import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @param {import("../store.js").Store} store
 * @param {{trajectory: (id: string) => Promise<Blob>, workspace: (id: string) => Promise<Blob>}} api
 */
export function mountExportMenu(store, api) {
  const button = /** @type {HTMLButtonElement} */ (slot("export"));
  const menu = slot("export-menu");
  button.append(icon("save"));

  /**
   * @param {(id: string) => Promise<Blob>} read
   * @param {string} ending
   */
  const take = async (read, ending) => {
    const { openId, title } = store.state;
    if (openId === null) return;
    menu.hidePopover();
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
    try {
      hand(await read(openId), `${fileName(title ?? "", openId)}${ending}`);
    } catch (error) {
      store.complain(error);
    }
    button.disabled = false;
    button.removeAttribute("aria-busy");
  };
  slot("export-trajectory").addEventListener("click", () => void take((id) => api.trajectory(id), ".trajectory.json"));
  slot("export-workspace").addEventListener("click", () => void take((id) => api.workspace(id), ".workspace.zip"));
  menu.addEventListener("toggle", () => {
    const open = menu.matches(":popover-open");
    button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    const { bottom, left, right } = button.getBoundingClientRect();
    const beyond = button.matches(":dir(rtl)") ? left : document.documentElement.clientWidth - right;
    menu.style.insetBlockStart = `${bottom + 4}px`;
    menu.style.insetInlineEnd = `${beyond}px`;
  });
  store.watch(["openId", "missing"], () => {
    button.hidden = store.state.openId === null || store.state.missing;
  });
}

/**
 * A file name that every file system accepts.
 *
 * @param {string} title
 * @param {string} id
 */
function fileName(title, id) {
  const words = title.normalize("NFKC").match(/[\p{Letter}\p{Number}]+/gu) ?? [];
  return [words.join("-").slice(0, 60), id.slice(0, 8)].filter(Boolean).join("-");
}

/** Lets the browser save an object. @param {Blob} blob @param {string} name */
export function hand(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  // The browser has to fetch the object first, and does not report when it has.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
