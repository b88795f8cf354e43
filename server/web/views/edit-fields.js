/** The arguments of an action as fields of a form, and what a person has changed in them. */

import { texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { labelled } from "./dialog.js";
import { h } from "./dom.js";

/** @typedef {import("../types.js").Entry} Entry */

/**
 * @typedef {object} Field
 * @property {string} label
 * @property {HTMLTextAreaElement} area
 * @property {HTMLElement} element
 * @property {string} before What it showed at first.
 * @property {() => Record<string, unknown>} read The arguments as they are now. Raises SyntaxError.
 */

/** Arguments that are the agent's or the server's to set. */
const FIXED = new Set(["confirmation_state", "security_risk", "thought"]);
const INDENT = 2;
const MOST_ROWS = 12;
/** Characters of a line in the form, about. */
const LINE_CHARACTERS = 60;

/** Whether a person may change it: what the agent carries out by itself has a cause. @param {Entry} entry */
export function isEditable({ action }) {
  return (action?.cause ?? null) === null && Object.keys(action?.args ?? {}).some((name) => !FIXED.has(name));
}

/**
 * A field for each text and each list, and one for everything else.
 *
 * @param {Record<string, unknown>} args
 * @returns {Field[]}
 */
export function fieldsOf(args) {
  /** @type {Field[]} */
  const fields = [];
  /** @type {Record<string, unknown>} */
  const rest = {};
  for (const [name, value] of Object.entries(args)) {
    if (FIXED.has(name)) continue;
    if (typeof value === "string" && value !== "") fields.push(textField(name, value));
    else if (isFilled(value)) fields.push(jsonField(wordsOf(name), value, (read) => ({ [name]: read })));
    else rest[name] = value;
  }
  if (Object.keys(rest).length === 0) return fields;
  const other = jsonField(texts.editing.rest, rest, members);
  // What is seldom changed stays folded, unless there is nothing else.
  if (fields.length > 0) {
    other.element.querySelector("label")?.classList.add("unseen");
    other.element = h("details", { class: "edit__rest" }, h("summary", { class: "edit__more" }, texts.editing.rest), other.element);
  }
  return [...fields, other];
}

/**
 * The arguments that are not as they were.
 *
 * @param {Field[]} fields
 * @param {Record<string, unknown>} args as they were
 * @returns {Record<string, unknown>} Raises SyntaxError, of which the `cause` is the field that cannot be read.
 */
export function changesIn(fields, args) {
  /** @type {Record<string, unknown>} */
  const changes = {};
  for (const field of fields) {
    if (field.area.value === field.before) continue;
    try {
      for (const [name, value] of Object.entries(field.read())) {
        if (JSON.stringify(value) !== JSON.stringify(args[name])) changes[name] = value;
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw new SyntaxError(error.message, { cause: field });
    }
  }
  return changes;
}

/** @param {string} name @param {string} value @returns {Field} */
function textField(name, value) {
  // The browser gives back other line ends.
  const field = fieldOf(wordsOf(name), value, (text) => ({ [name]: value.includes("\r\n") ? text.replaceAll("\n", "\r\n") : text }));
  const hidden = h("p", { class: "row__hint edit__hidden", id: `${field.area.id}-hint`, hidden: true, data: { testid: "edit-hidden" } });
  field.area.setAttribute("aria-describedby", hidden.id);
  const spell = () => {
    const text = field.area.value;
    hidden.hidden = revealed(text) === text;
    hidden.textContent = hidden.hidden ? "" : texts.editing.hidden(revealed(text));
  };
  field.area.addEventListener("input", spell);
  field.element.append(hidden);
  spell();
  return field;
}

/**
 * @param {string} label
 * @param {unknown} value
 * @param {(read: any) => Record<string, unknown>} argumentsIn
 */
function jsonField(label, value, argumentsIn) {
  return fieldOf(label, JSON.stringify(value, null, INDENT), (text) => argumentsIn(JSON.parse(text)), texts.editing.asJson);
}

/**
 * @param {string} label
 * @param {string} value
 * @param {(text: string) => Record<string, unknown>} read
 * @param {string} [hint]
 * @returns {Field}
 */
function fieldOf(label, value, read, hint) {
  const lines = value.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / LINE_CHARACTERS), 0);
  const area = h("textarea", {
    class: "field field--tall field--mono edit__area",
    id: `edit-${label.replaceAll(/\W/g, "-")}`,
    dir: "ltr",
    rows: Math.min(lines, MOST_ROWS),
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    data: { testid: "edit-field", label },
  });
  area.value = value;
  return { label, area, element: labelled(label, area, hint), before: area.value, read: () => read(area.value) };
}

/** @param {unknown} read @returns {Record<string, unknown>} */
function members(read) {
  if (read === null || typeof read !== "object" || Array.isArray(read)) throw new SyntaxError(texts.editing.noObject);
  return /** @type {Record<string, unknown>} */ (read);
}

/** Whether it is a list or an object with something in it. @param {unknown} value */
function isFilled(value) {
  return value !== null && typeof value === "object" && Object.keys(value).length > 0;
}

/** @param {string} name */
function wordsOf(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
