/** The button in the head of a conversation that opens its files. */

import { slot } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @param {import("../store.js").Store} store
 * @param {() => void} open
 */
export function mountFilesButton(store, open) {
  const button = slot("open-files");
  button.append(icon("folder"));
  button.addEventListener("click", open);
  store.watch(["openId", "missing"], () => {
    button.hidden = store.state.openId === null || store.state.missing;
  });
}
