/** Changes of a file as lines with their numbers. */

import { numberText, texts } from "../language.js";
import { h } from "./dom.js";

/** @typedef {import("../text/changes.js").Line} Line */

const FEW_LINES = 24;
const SPARE_LINES = 6;
/** More than this is not drawn even when asked for: no one reads it here. */
const MOST_LINES = 5_000;

const TAGS = /** @type {const} */ ({ added: "ins", removed: "del", same: "span", gap: "span" });

/**
 * @param {Line[]} lines
 * @param {string} label What a screen reader calls it.
 * @returns {HTMLElement}
 */
export function diffView(lines, label) {
  const body = h("tbody");
  const table = h("table", { class: "diff", "aria-label": label, dir: "ltr", data: { testid: "diff" } }, body);
  const few = lines.length <= FEW_LINES + SPARE_LINES;
  body.append(...lines.slice(0, few ? lines.length : FEW_LINES).map(row));
  if (few) return table;
  const size = texts.fold.lines(numberText(lines.length));
  const button = h("button", { type: "button", class: "fold__button", "aria-expanded": "false", data: { testid: "fold" } }, texts.fold.all(size));
  const wrapper = h("div", { class: "fold", data: { folded: "true" } }, table, button);
  button.addEventListener("click", () => {
    const open = wrapper.dataset.folded === "true";
    wrapper.dataset.folded = String(!open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? texts.fold.less : texts.fold.all(size);
    body.replaceChildren(...lines.slice(0, open ? MOST_LINES : FEW_LINES).map(row));
    if (open && lines.length > MOST_LINES) body.append(row({ sign: "gap", before: null, after: null, text: texts.fold.rest }));
    if (!open) button.scrollIntoView({ block: "nearest" });
  });
  return wrapper;
}

/** @param {Line} line */
function row({ sign, before, after, text }) {
  return h(
    "tr",
    { data: { sign } },
    h("td", { class: "diff__number" }, before),
    h("td", { class: "diff__number" }, after),
    h("td", { class: "diff__text" }, h(TAGS[sign], {}, text)),
  );
}
