/** Colours of code. The library that reads code is loaded when the first comes near, and the browser is idle. */

import { idle } from "../idle.js";
import { h } from "./dom.js";

/** Longer code stays plain: reading this much takes some 20 ms. */
const MOST_CHARACTERS = 20_000;
const BUDGET_MS = 6;

/** What the library tells apart, and as what it is shown; everything else is plain. @type {Record<string, string>} */
const LOOKS = {
  keyword: "keyword",
  operator: "keyword",
  literal: "value",
  number: "value",
  symbol: "value",
  string: "string",
  regexp: "string",
  char: "string",
  quote: "comment",
  comment: "comment",
  doctag: "comment",
  title: "name",
  section: "name",
  name: "name",
  tag: "name",
  "selector-tag": "name",
  type: "type",
  class: "type",
  built_in: "type",
  "selector-class": "type",
  "selector-id": "type",
  attr: "attribute",
  attribute: "attribute",
  property: "attribute",
  variable: "attribute",
  "template-variable": "attribute",
  meta: "meta",
  link: "string",
  addition: "addition",
  deletion: "deletion",
};

/** What waits for its colours. @type {HTMLElement[]} */
const queue = [];

const near = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      if (queue.push(/** @type {HTMLElement} */ (target)) === 1) void work();
    }
  },
  // Known to newer browsers; in others code gets its colours when it is in sight.
  /** @type {IntersectionObserverInit} */ ({ scrollMargin: "100%" }),
);

/** Colours code when it comes near; what is not in the document by then stays plain. @param {HTMLElement} code */
export function colour(code) {
  if ((code.textContent ?? "").length <= MOST_CHARACTERS) near.observe(code);
}

async function work() {
  await idle();
  let library;
  try {
    library = (await import("../vendor/highlight.min.js")).default;
  } catch {
    // It could not be loaded: code stays plain, and the next one tries again.
    queue.length = 0;
    return;
  }
  let begun = performance.now();
  for (let code = queue[0]; code; queue.shift(), [code] = queue) {
    if (code.isConnected) paint(code, library);
    if (performance.now() - begun < BUDGET_MS) continue;
    await new Promise((resolve) => setTimeout(resolve));
    begun = performance.now();
  }
}

/**
 * @param {HTMLElement} code
 * @param {any} library
 */
function paint(code, library) {
  const text = code.textContent ?? "";
  const language = code.dataset.language ?? "";
  if (!library.getLanguage(language)) return;
  const { _emitter: found, errorRaised } = library.highlight(text, { language, ignoreIllegals: true });
  if (errorRaised) return;
  const fragment = document.createDocumentFragment();
  fragment.append(...nodes(found.root.children));
  if (fragment.textContent === text) code.replaceChildren(fragment);
}

/**
 * @param {(string | {scope?: string, children: any[]})[]} found
 * @returns {(string | Node)[]}
 */
function nodes(found) {
  return found.flatMap((one) => {
    if (typeof one === "string") return [one];
    const children = nodes(one.children);
    const look = LOOKS[(one.scope ?? "").split(".")[0]];
    return look ? [h("span", { class: `code-${look}` }, ...children)] : children;
  });
}
