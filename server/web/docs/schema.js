/** Schemas as tables of fields that fold open. */

import { h } from "./dom.js";
import { prose, words } from "./prose.js";

/** @typedef {Record<string, any>} Schema */

const MAX_DEPTH = 8;
const BOUNDS = [
  ["minimum", "at least"],
  ["maximum", "at most"],
  ["exclusiveMinimum", "more than"],
  ["minLength", "characters, at least"],
  ["maxLength", "characters, at most"],
  ["minItems", "items, at least"],
  ["maxItems", "items, at most"],
  ["pattern", "fits"],
];

/** What schemas refer to. */
export class Components {
  /** @param {Record<string, Schema>} schemas */
  constructor(schemas) {
    this.schemas = schemas;
  }

  /**
   * The schema, with a reference resolved and `allOf` merged.
   *
   * @param {Schema} schema
   * @returns {Schema}
   */
  whole(schema) {
    let found = schema;
    while (found.$ref) {
      const { $ref, ...beside } = found;
      found = { ...this.schemas[$ref.split("/").pop()], ...beside };
    }
    if (!found.allOf) return found;
    const parts = found.allOf.map((/** @type {Schema} */ part) => this.whole(part));
    return {
      ...found,
      type: "object",
      properties: Object.assign({}, ...parts.map((/** @type {Schema} */ one) => one.properties)),
      required: parts.flatMap((/** @type {Schema} */ one) => one.required ?? []),
    };
  }

  /**
   * The type as text.
   *
   * @param {Schema} schema
   * @returns {string}
   */
  words(schema) {
    const found = this.whole(schema);
    if ("const" in found) return JSON.stringify(found.const);
    if (found.enum) return found.enum.map((/** @type {any} */ one) => JSON.stringify(one)).join(" | ");
    const choices = found.anyOf ?? found.oneOf;
    if (choices) {
      // A blank parameter counts as absent, so null need not be mentioned.
      const told = choices.filter((/** @type {Schema} */ one) => one.const !== "");
      return told.map((/** @type {Schema} */ one) => this.named(one)).join(" | ");
    }
    if (found.type === "array") return `list of ${found.items ? this.named(found.items) : "anything"}`;
    if (found.type === "object" && found.additionalProperties instanceof Object) {
      return `object of ${this.named(found.additionalProperties)}`;
    }
    return [found.format, found.type ?? "anything"].filter(Boolean).join(" ");
  }

  /** @param {Schema} schema */
  named(schema) {
    const found = this.whole(schema);
    return schema.$ref && found.properties ? schema.$ref.split("/").pop() : this.words(schema);
  }

  /**
   * The schemas of nested objects, to be shown below.
   *
   * @param {Schema} schema
   * @returns {Schema[]}
   */
  inside(schema) {
    const found = this.whole(schema);
    if (found.properties) return [found];
    const inner = found.anyOf ?? found.oneOf ?? [found.items, found.additionalProperties];
    return inner
      .filter((/** @type {any} */ one) => one instanceof Object)
      .flatMap((/** @type {Schema} */ one) => this.inside(one));
  }
}

/**
 * @param {Schema} schema
 * @param {Components} components
 */
export function schemaPart(schema, components, depth = 0) {
  const box = h("div", { class: "schema" });
  if (depth === 0) box.append(h("p", { class: "schema__words" }, components.named(schema)));
  if (depth > MAX_DEPTH) return box;
  const objects = components.inside(schema);
  if (objects.length > 8) {
    box.append(h("p", { class: "quiet" }, "Each kind is shown with its fields under the socket's oh_event."));
    return box;
  }
  for (const found of objects) {
    if (found.description) box.append(prose(found.description, "quiet"));
    const list = h("dl", { class: "fields" });
    for (const [name, one] of Object.entries(found.properties)) {
      list.append(...fieldParts(name, one, (found.required ?? []).includes(name), components, depth));
    }
    box.append(list);
  }
  return box;
}

/**
 * @param {string} name
 * @param {Schema} schema
 * @param {boolean} needed
 * @param {Components} components
 * @param {number} depth
 */
export function fieldParts(name, schema, needed, components, depth) {
  const found = components.whole(schema);
  const about = [found.description, ...boundsOf(found)].filter(Boolean).join(" ");
  const term = h(
    "dt",
    { class: "fields__name" },
    h("code", {}, name),
    needed ? h("span", { class: "needed" }, "required") : null,
  );
  const told = h("dd", { class: "fields__told" }, h("span", { class: "type" }, components.named(schema)));
  if (about) told.append(h("span", { class: "fields__about" }, ...words(about)));
  if (components.inside(schema).some((one) => Object.keys(one.properties).length)) {
    const fold = h("details", { class: "inner" }, h("summary", {}, "fields"));
    // Built when opened, since kinds refer to each other many times.
    fold.addEventListener("toggle", () => {
      if (fold.open && fold.childElementCount === 1) {
        fold.append(schemaPart(schema, components, depth + 1));
      }
    });
    told.append(fold);
  }
  return [term, told];
}

/** @param {Schema} schema */
function boundsOf(schema) {
  const choices = (schema.anyOf ?? []).filter((/** @type {Schema} */ one) => one.type);
  const inner = choices.length ? { ...schema, ...choices[0] } : schema;
  const told = BOUNDS.filter(([name]) => inner[name] !== undefined && inner[name] !== 0).map(
    ([name, words]) => `${words} ${inner[name]}`,
  );
  if (schema.default !== undefined && schema.default !== null && schema.default !== "") {
    told.push(`default ${JSON.stringify(schema.default)}`);
  }
  return told.length ? [`(${told.join(", ")})`] : [];
}
