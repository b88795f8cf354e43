/** What stands before the first entry: how much came earlier. It is read when the reader comes near. */

import { texts } from "../language.js";
import { slot } from "./dom.js";

/** How far above the visible part the reader is waited for. */
const AHEAD = "200% 0px 0px 0px";

/**
 * @param {import("../store.js").Store} store
 * @param {{more: () => void}} on
 */
export function mountEarlier(store, on) {
  const row = slot("earlier");
  const text = slot("earlier-text");
  const retry = slot("earlier-retry");
  const observer = new IntersectionObserver(
    (changes) => {
      const near = changes.at(-1)?.isIntersecting && store.state.earlier.stage === "ready";
      if (near) on.more();
    },
    { root: slot("transcript"), rootMargin: AHEAD },
  );
  retry.addEventListener("click", on.more);
  store.watch(["earlier"], () => {
    const { left, stage } = store.state.earlier;
    row.hidden = left === 0;
    row.dataset.stage = stage;
    text.textContent = stage === "failed" ? texts.transcript.earlierFailed : texts.transcript.earlier(left);
    retry.hidden = stage !== "failed";
    observer.unobserve(row);
    // Observing again reports whether the reader is still near.
    if (left > 0) observer.observe(row);
  });
}
