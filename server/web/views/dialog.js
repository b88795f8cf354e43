/** A modal dialog: heading, close button, body. */

import { texts } from "../language.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

/**
 * The browser keeps the focus inside, closes at Escape and gives the focus back.
 *
 * @param {string} testid
 * @param {string} heading
 * @param {...Node} body
 */
export function makeDialog(testid, heading, ...body) {
  const close = () => dialog.close();
  const dialog = h(
    "dialog",
    { class: "dialog dialog--sheet", "aria-labelledby": `${testid}-heading`, data: { testid } },
    h(
      "div",
      { class: "dialog__head" },
      h("h2", { class: "dialog__title", id: `${testid}-heading` }, heading),
      h("button", { type: "button", class: "icon-button", "aria-label": texts.dialogs.close, data: { testid: `${testid}-close` }, onclick: close }, icon("cross")),
    ),
    ...body,
  );
  /** A press that began inside and ended outside, as when selecting text, does not close. */
  let outside = false;
  dialog.addEventListener("pointerdown", (event) => (outside = event.target === dialog));
  dialog.addEventListener("click", (event) => {
    if (outside && event.target === dialog) close();
  });
  document.body.append(dialog);
  return { dialog, open: () => dialog.open || dialog.showModal(), close };
}

/**
 * A labelled control.
 *
 * @param {string} label
 * @param {HTMLElement} control
 * @param {string | Node} [hint]
 */
export function labelled(label, control, hint) {
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return h(
    "div",
    { class: "row" },
    h("label", { class: "dialog__label", for: control.id }, label),
    control,
    hint ? h("p", { class: "row__hint", id: `${control.id}-hint` }, hint) : null,
  );
}
