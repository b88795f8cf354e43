/**
 * The path prefix of the server: `/`, or one that a proxy has added. The server writes it into each page,
 * relative to the page's own address.
 */

const told = document.documentElement.dataset.base ?? "/";

/** A path with a slash at its end. Read before the page changes its address. */
export const BASE = new URL(told, document.baseURI).pathname;

/**
 * The path in the browser for the server's `path`.
 *
 * @param {string} path begins with a slash
 */
export function located(path) {
  return BASE + path.slice(1);
}

/**
 * A key for the browser's storage, which servers below one origin share.
 *
 * @param {string} name
 */
export function slotName(name) {
  return BASE === "/" ? name : `${name}@${BASE}`;
}
