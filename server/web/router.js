/** Addresses: the base is the front page, `conversations/{id}` below it a conversation. */

import { BASE, located } from "./base.js";

/** @returns {string | null} id of the conversation the address names */
export function addressedId() {
  if (!location.pathname.startsWith(BASE)) return null;
  const match = /^conversations\/([^/]+)\/?$/.exec(location.pathname.slice(BASE.length));
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1];
  }
}

/** @param {string | null} id */
export function addressOf(id) {
  return located(id === null ? "/" : `/conversations/${encodeURIComponent(id)}`);
}

export class Router {
  /** @param {(id: string | null) => void} arrived */
  constructor(arrived) {
    this.arrived = arrived;
    addEventListener("popstate", () => arrived(addressedId()));
    settle();
    document.addEventListener("click", (event) => this.#follow(event));
  }

  /** @param {string | null} id */
  go(id) {
    if (location.pathname !== addressOf(id)) history.pushState(null, "", addressOf(id));
    this.arrived(id);
  }

  /**
   * Links inside the page change the view; with a modifier key the browser handles them.
   *
   * @param {MouseEvent} event
   */
  #follow(event) {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const target = event.target instanceof Element ? event.target.closest("a[data-route]") : null;
    if (!(target instanceof HTMLAnchorElement)) return;
    event.preventDefault();
    this.go(target.dataset.route || null);
  }
}

/** Relative addresses would mean others as soon as the page's own address changes. */
function settle() {
  const named = /** @type {NodeListOf<HTMLAnchorElement | HTMLLinkElement>} */ (
    document.querySelectorAll("a[data-route], link[rel='icon']")
  );
  // An address that is read is always absolute.
  for (const element of named) element.href = `${element.href}`;
}
