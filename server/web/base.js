/**
 * Where the server's addresses begin: `/`, or what a proxy has put before them. The server tells it
 * in each page, relative to the page's own address.
 */

const told = document.documentElement.dataset.base ?? "/";

/** A path with a slash at its end. Read before the page changes its address. */
export const BASE = new URL(told, document.baseURI).pathname;

/**
 * The path at which a browser finds what the server calls `path`.
 *
 * @param {string} path begins with a slash
 */
export function located(path) {
  return BASE + path.slice(1);
}

/**
 * A name for what is kept in the browser: servers below one origin share its storage.
 *
 * @param {string} name
 */
export function slotName(name) {
  return BASE === "/" ? name : `${name}@${BASE}`;
}
