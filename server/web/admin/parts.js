/** What every part of the page is built of. */

import { h, slot } from "../views/dom.js";

/** @typedef {import("./api.js").AdminApi} AdminApi */
/**
 * The tools of a part: API calls, a confirmation dialog, a way to show failures.
 *
 * @typedef {{api: AdminApi, confirm: (heading: string, text: string, yes: string) => Promise<boolean>,
 *   attempt: <T>(work: () => Promise<T>) => Promise<T | undefined>}} Tools
 */

/**
 * @param {string} title
 * @param {(Node | null)[]} tools
 * @param {...Node} children
 */
export function panel(title, tools, ...children) {
  const head = h("div", { class: "panel__head" }, h("h2", { class: "panel__title" }, title), ...tools);
  return h("section", { class: "panel" }, head, ...children);
}

/**
 * A table that becomes cards on narrow screens.
 *
 * @param {string} label
 * @param {string[]} columns
 * @param {{cells: (Node | string)[], id?: string}[]} rows
 * @param {string} empty what is said instead of no rows
 * @param {Set<number>} [numbers] columns of numbers
 */
export function table(label, columns, rows, empty, numbers = new Set()) {
  if (!rows.length) return h("p", { class: "nothing" }, empty);
  const head = columns.map((name, place) => h("th", { scope: "col", class: numbers.has(place) ? "number" : null },
    name || h("span", { class: "unseen" }, "Actions")));
  const body = rows.map((row) =>
    h("tr", { data: { id: row.id } }, ...row.cells.map((cell, place) =>
      h("td", { class: numbers.has(place) ? "number" : null, data: { column: columns[place] } }, cell))));
  return h("table", { class: "table", "aria-label": label },
    h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body));
}

/**
 * A text of any length, which may break within words; other cells break between words only.
 *
 * @param {string} text
 */
export function free(text) {
  return h("span", { class: "free", dir: "auto" }, text);
}

/**
 * @param {string} text
 * @param {(event: Event) => void} onclick
 * @param {Record<string, any>} [props]
 */
export function button(text, onclick, props = {}) {
  return h("button", { class: "button", type: "button", onclick, ...props }, text);
}

/**
 * @param {string} label
 * @param {HTMLElement} control whose id the label names
 */
export function labelled(label, control) {
  return h("div", { class: "labelled" }, h("label", { class: "labelled__text", for: control.id }, label), control);
}

/**
 * Asks for confirmation; Escape means no.
 *
 * @param {string} heading
 * @param {string} text
 * @param {string} yes
 * @returns {Promise<boolean>}
 */
export function confirmed(heading, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (slot("confirm-dialog"));
  slot("confirm-heading").textContent = heading;
  slot("confirm-text").textContent = text;
  slot("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
