/** Draws a part anew without taking away what is under a person's finger. */

import { takeListeners } from "../views/dom.js";

/**
 * Makes the children of `parent` equal to `fresh`. Existing elements stay, with the focus, and take over
 * the listeners of the new ones; elements with a `data-id` are matched by it, all others by their
 * position.
 *
 * @param {Element} parent
 * @param {Node[]} fresh built by `h`, whose listeners can be moved
 */
export function redraw(parent, fresh) {
  const known = new Map();
  for (const child of parent.childNodes) if (idOf(child)) known.set(idOf(child), child);
  fresh.forEach((node, place) => {
    const there = parent.childNodes[place] ?? null;
    const id = idOf(node);
    const kept = id ? known.get(id) : there;
    // Of elements with the same id only the first is matched.
    known.delete(id);
    if (!kept || kept.nodeName !== node.nodeName || idOf(kept) !== id) {
      parent.insertBefore(node, there);
      return;
    }
    if (kept !== there) parent.insertBefore(kept, there);
    become(kept, node);
  });
  while (parent.childNodes.length > fresh.length) parent.lastChild?.remove();
}

/**
 * @param {Node} kept
 * @param {Node} fresh of the same name
 */
function become(kept, fresh) {
  if (!(kept instanceof Element) || !(fresh instanceof Element)) {
    if (kept.nodeValue !== fresh.nodeValue) kept.nodeValue = fresh.nodeValue;
    return;
  }
  takeListeners(kept, fresh);
  for (const name of kept.getAttributeNames()) if (!fresh.hasAttribute(name)) kept.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (kept.getAttribute(name) !== value) kept.setAttribute(name, value);
  redraw(kept, [...fresh.childNodes]);
}

/** @param {Node} node */
function idOf(node) {
  return node instanceof HTMLElement ? node.dataset.id ?? "" : "";
}
