/** On a narrow window the sidebar is a drawer over the page. */

import { slot } from "./dom.js";
import { icon } from "./icons.js";

/** @returns {{open: () => void, close: () => void}} */
export function mountDrawer() {
  const sidebar = slot("sidebar");
  const scrim = slot("scrim");
  const main = slot("main");
  const opener = slot("drawer-open");
  const closer = slot("drawer-close");
  const narrow = matchMedia("(max-width: 760px)");
  opener.append(icon("menu"));
  closer.append(icon("cross"));

  /** @param {boolean} open */
  const set = (open) => {
    sidebar.dataset.open = String(open);
    scrim.hidden = !(open && narrow.matches);
    sidebar.inert = narrow.matches && !open;
    main.inert = narrow.matches && open;
    opener.setAttribute("aria-expanded", String(open));
  };
  const close = () => {
    const wasOpen = narrow.matches && sidebar.dataset.open === "true";
    set(false);
    if (wasOpen) opener.focus();
  };
  const reveal = () => {
    if (!narrow.matches) return;
    set(true);
    closer.focus();
  };
  opener.addEventListener("click", reveal);
  closer.addEventListener("click", close);
  scrim.addEventListener("click", close);
  narrow.addEventListener("change", () => set(false));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open], :popover-open")) close();
  });
  set(false);
  return { open: reveal, close };
}
