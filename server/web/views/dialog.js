/** A modal dialog: heading, close button, body; and what stands in several of them. */

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

/**
 * A bin, and the button that takes its place when it is pressed, and removes.
 *
 * @param {{testid: string, label: string, title: string, sure: string, remove: () => void}} what `label` names the thing
 *   that is removed, `sure` is the text of the second button
 */
export function removal({ testid, label, title, sure: text, remove }) {
  const sure = h("button", { type: "button", class: "button button--danger button--small", hidden: true, data: { testid: `${testid}-sure` }, onclick: remove, onblur: () => ask(false) }, text);
  const bin = h("button", { type: "button", class: "icon-button", "aria-label": label, title, data: { testid }, onclick: () => ask(true) }, icon("bin"));
  /** @param {boolean} asking */
  const ask = (asking) => {
    sure.hidden = !asking;
    bin.hidden = asking;
    if (asking) sure.focus();
  };
  return [bin, sure];
}
