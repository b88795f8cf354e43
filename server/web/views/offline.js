/** Says across the page that the server does not answer. */

import { texts } from "../language.js";
import { slot } from "./dom.js";

/**
 * @param {import("../store.js").Store} store
 * @param {() => void} retry
 */
export function mountOffline(store, retry) {
  const banner = slot("offline");
  slot("offline-retry").addEventListener("click", retry);
  store.watch(["reached"], () => {
    banner.hidden = store.state.reached;
    slot("offline-text").textContent = navigator.onLine
      ? texts.connection.silent
      : texts.connection.offline;
  });
}
