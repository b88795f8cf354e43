/** Formulas as MathML. The library that reads TeX is loaded when the first formula is shown. */

import { h } from "./dom.js";

/** Longer ones stay as they were written. */
const MOST_CHARACTERS = 2_000;
/** How often macros may be expanded in one. */
const MOST_EXPANSIONS = 500;
/** In em and in pt. */
const LARGEST = [20, 200];
const MOST_KEPT = 200;
const NAMESPACE = "http://www.w3.org/1998/Math/MathML";
const DELIMITERS = /^(\$\$|\\\[|\\\(|\$)([^]*?)(?:\$\$|\\\]|\\\)|\$)$/;

const ELEMENTS = new Set([
  "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded", "mphantom",
  "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd",
  "menclose",
]);
const ATTRIBUTES = new Set([
  "accent", "accentunder", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence", "form",
  "height", "largeop", "linethickness", "lspace", "mathcolor", "mathbackground", "mathsize", "mathvariant", "maxsize",
  "minsize", "movablelimits", "notation", "rowalign", "rowlines", "rowspacing", "rspace", "scriptlevel", "separator",
  "stretchy", "symmetric", "voffset", "width",
]);

/** @type {any} */
let library = null;
/** @type {Promise<void> | null} */
let loading = null;
/** What formulas look like that were drawn before, oldest first. @type {Map<string, Element>} */
const drawn = new Map();

/**
 * A formula, as it was written until it can be drawn.
 *
 * @param {"p" | "span"} tag
 * @param {string} raw with its delimiters
 */
export function formula(tag, raw) {
  const element = h(tag, { class: "formula", dir: "ltr" }, raw);
  if (library) draw(element, raw);
  else if (raw.length <= MOST_CHARACTERS) load().then(() => library && draw(element, raw));
  return element;
}

function load() {
  loading ??= import("../vendor/temml.js").then(
    (module) => {
      library = module.default;
    },
    () => {
      // It could not be loaded: formulas stay as they were written, and the next one tries again.
      loading = null;
    },
  );
  return loading;
}

/** @param {HTMLElement} element @param {string} raw */
function draw(element, raw) {
  const known = drawn.get(raw) ?? drawing(raw);
  if (!known) return;
  drawn.delete(raw);
  drawn.set(raw, known);
  if (drawn.size > MOST_KEPT) drawn.delete(/** @type {string} */ (drawn.keys().next().value));
  element.dataset.drawn = "true";
  element.replaceChildren(known.cloneNode(true));
}

/**
 * @param {string} raw
 * @returns {Element | null} null for what is no formula
 */
function drawing(raw) {
  const [, opening, text] = DELIMITERS.exec(raw) ?? [];
  if (text === undefined || raw.length > MOST_CHARACTERS) return null;
  const options = { displayMode: opening === "$$" || opening === "\\[", throwOnError: true, maxExpand: MOST_EXPANSIONS, maxSize: LARGEST };
  try {
    const [node] = nodes(library.__renderToMathMLTree(text, options));
    return node instanceof Element ? node : null;
  } catch {
    // Not TeX, or what is not shown here: it stays as it was written.
    return null;
  }
}

/**
 * Builds what the library found of the elements and attributes known here: it can make others, such as links.
 *
 * @param {any} found
 * @returns {Node[]}
 */
function nodes(found) {
  if (typeof found.text === "string" && found.type === undefined) return [new Text(found.text)];
  const children = found.children.flatMap(nodes);
  if (found.type === undefined) return children;
  if (!ELEMENTS.has(found.type)) throw new RangeError(found.type);
  const element = /** @type {MathMLElement} */ (document.createElementNS(NAMESPACE, found.type));
  for (const [name, value] of Object.entries(found.attributes)) {
    if (ATTRIBUTES.has(name)) element.setAttribute(name, String(value));
  }
  Object.assign(element.style, found.style);
  if (found.classes.length > 0) element.setAttribute("class", found.classes.filter(Boolean).join(" "));
  element.append(...children);
  return [element];
}
