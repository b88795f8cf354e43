/** Work that nobody waits for: it comes after the first look at the page, when the browser is idle. */

/** So long a browser that does not say when it is idle is left alone. */
const PAUSE_MS = 200;
/** After so long, first for the page and then for the browser, the work is done anyway. */
const MOST_MS = 2_000;

/** @type {() => void} */
let shown = () => {};
/** @type {Promise<void>} */
const firstLook = new Promise((resolve) => {
  shown = resolve;
  setTimeout(resolve, MOST_MS);
});

/** Says that the page shows what it was opened for. */
export function showsAll() {
  shown();
}

/** Resolves when the page shows what it was opened for, and the browser has nothing else to do. @returns {Promise<void>} */
export async function idle() {
  await firstLook;
  await new Promise((resolve) => {
    if (typeof requestIdleCallback === "function") requestIdleCallback(resolve, { timeout: MOST_MS });
    else setTimeout(resolve, PAUSE_MS);
  });
}
