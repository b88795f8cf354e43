/**
 * A diagram that code in a message describes, drawn when somebody asks for it. The library that draws it needs more than
 * the page allows, so it runs in a frame without rights: it is told the source, and tells its height.
 */

import { located } from "../base.js";
import { texts } from "../language.js";
import { h } from "./dom.js";

const MOST_CHARACTERS = 50_000;
const MOST_HEIGHT_PX = 1_600;
/** How long the drawing may take, with the loading of the library. */
const PATIENCE_MS = 20_000;

/** @param {HTMLElement} code has the source */
export function diagramButton(code) {
  const button = h("button", { type: "button", class: "link code__diagram", "aria-pressed": "false", data: { testid: "diagram-toggle" } }, texts.prose.diagram);
  const source = /** @type {HTMLElement} */ (code.parentElement);
  /** @type {HTMLElement | null} */
  let shown = null;
  button.addEventListener("click", () => {
    shown?.remove();
    source.hidden = false;
    shown = shown ? null : diagram(code.textContent ?? "", source);
    if (shown) source.before(shown);
    button.setAttribute("aria-pressed", String(shown !== null));
  });
  return button;
}

/**
 * @param {string} text
 * @param {HTMLElement} source is hidden when the diagram is drawn
 */
function diagram(text, source) {
  const trouble = h("p", { class: "diagram__trouble", role: "status", data: { testid: "diagram-trouble" }, hidden: true });
  const frame = h("iframe", {
    class: "diagram__frame",
    title: texts.prose.diagram,
    sandbox: "allow-scripts",
    referrerpolicy: "no-referrer",
    src: located("/assets/diagram/index.html"),
    data: { testid: "diagram" },
  });
  /** Says why there is no diagram; the source stays. @param {string} why */
  const fail = (why) => {
    frame.remove();
    trouble.textContent = texts.prose.noDiagram(why);
    trouble.hidden = false;
  };
  const late = setTimeout(() => fail(texts.prose.tooSlow), PATIENCE_MS);
  const { port1: own, port2: other } = new MessageChannel();
  own.onmessage = ({ data }) => {
    clearTimeout(late);
    if (typeof data?.height !== "number") return fail(String(data?.trouble ?? ""));
    source.hidden = true;
    frame.style.height = `${Math.min(Math.ceil(data.height), MOST_HEIGHT_PX)}px`;
  };
  // The frame has no origin that could be named.
  const order = { source: text, theme: document.documentElement.dataset.theme };
  frame.addEventListener("load", () => frame.contentWindow?.postMessage(order, "*", [other]), { once: true });
  const element = h("div", { class: "diagram" }, trouble, frame);
  if (text.length > MOST_CHARACTERS) {
    clearTimeout(late);
    fail(texts.prose.tooLong);
  }
  return element;
}
