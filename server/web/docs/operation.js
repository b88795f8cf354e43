/** One address and method: parameters, body, answers, and a line to try it with. */

import { located } from "./base.js";
import { h } from "./dom.js";
import { exampleBlock } from "./block.js";
import { prose, words } from "./prose.js";
import { fieldParts, schemaPart } from "./schema.js";

/**
 * @param {import("./entries.js").Entry} entry
 * @param {import("./schema.js").Components} components
 */
export function operationPart(entry, components) {
  const operation = entry.body;
  const part = h(
    "details",
    { class: "entry", id: entry.id, data: { testid: "entry" } },
    h(
      "summary",
      { class: "entry__head" },
      h("span", { class: `mark mark--${entry.mark.toLowerCase()}` }, entry.mark),
      h("code", { class: "entry__title" }, entry.title),
      h("span", { class: "entry__about" }, ...words(operation.summary)),
    ),
  );
  whenOpened(part, () => body(operation, components));
  return part;
}

/**
 * Fills a section when it is opened for the first time.
 *
 * @param {HTMLDetailsElement} part
 * @param {() => Node[]} fill
 */
export function whenOpened(part, fill) {
  part.addEventListener("toggle", () => {
    if (part.open && part.childElementCount === 1) {
      part.append(h("div", { class: "entry__body" }, ...fill()));
    }
  });
}

/**
 * @param {any} operation
 * @param {import("./schema.js").Components} components
 * @returns {Node[]}
 */
function body(operation, components) {
  const parts = [];
  if (operation.description) parts.push(prose(operation.description));
  if (operation.security.length) {
    parts.push(h("p", { class: "quiet" }, "Requires the session key in X-Session-API-Key."));
  }
  parts.push(exampleBlock("Try it", curlLine(operation)));
  if (operation.parameters.length) {
    const list = h("dl", { class: "fields" });
    for (const one of operation.parameters) {
      const schema = { description: one.description, ...one.schema };
      const [term, told] = fieldParts(one.name, schema, one.required === true, components, 0);
      term.append(h("span", { class: "where" }, one.in));
      list.append(term, told);
    }
    parts.push(h("h3", {}, "Parameters"), list);
  }
  if (operation.requestBody) {
    const [type, content] = Object.entries(operation.requestBody.content)[0];
    parts.push(h("h3", {}, "Body ", h("code", { class: "quiet" }, type)));
    parts.push(schemaPart(content.schema, components));
  }
  parts.push(h("h3", {}, "Responses"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    parts.push(answerPart(status, answer, components));
  }
  return parts;
}

/**
 * @param {string} status
 * @param {any} answer
 * @param {import("./schema.js").Components} components
 */
function answerPart(status, answer, components) {
  const causes = answer.description.split("\n").map((/** @type {string} */ line) => line.replace(/^- /, ""));
  const about = causes.length > 1 ? `${causes[0]}, and ${causes.length - 1} more` : causes[0];
  const part = h(
    "details",
    { class: "answer" },
    h(
      "summary",
      {},
      h("span", { class: `status status--${status[0]}` }, status),
      h("span", {}, ...words(about)),
    ),
  );
  whenOpened(part, () => answerBody(causes, answer, components));
  return part;
}

/**
 * @param {string[]} causes
 * @param {any} answer
 * @param {import("./schema.js").Components} components
 */
function answerBody(causes, answer, components) {
  const parts = [];
  if (causes.length > 1) {
    parts.push(h("ul", { class: "causes" }, ...causes.map((cause) => h("li", {}, ...words(cause)))));
  }
  for (const [type, content] of Object.entries(answer.content ?? {})) {
    parts.push(h("p", { class: "quiet" }, type), schemaPart(content.schema, components));
    if ("example" in content) parts.push(exampleBlock("Example", json(content.example)));
    for (const [code, one] of Object.entries(content.examples ?? {})) {
      parts.push(exampleBlock(code, json(one.value)));
    }
  }
  return parts;
}

/** @param {any} value */
function json(value) {
  return JSON.stringify(value, null, 2);
}

/** @param {any} operation */
function curlLine(operation) {
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (/** @type {string} */ _, /** @type {string} */ name) =>
    name === "conversation_id" ? "$CONVERSATION" : name.toUpperCase(),
  );
  const query = operation.parameters
    .filter((/** @type {any} */ one) => one.in === "query" && one.required)
    .map((/** @type {any} */ one) => `${one.name}=...`);
  const address = `${location.origin}${located(path)}${query.length ? `?${query.join("&")}` : ""}`;
  const lines = [`curl -sS${operation.method === "get" ? "" : ` -X ${operation.method.toUpperCase()}`} "${address}"`];
  if (operation.security.length) lines.push('-H "X-Session-API-Key: $KEY"');
  if (operation.requestBody) {
    const [type, content] = Object.entries(operation.requestBody.content)[0];
    if (type === "multipart/form-data") lines.push("-F files=@notes.txt");
    else {
      const text = JSON.stringify(trimmed(content.example)).replaceAll("'", "'\\''");
      lines.push(`-H "Content-Type: ${type}"`, `-d '${text}'`);
    }
  }
  return lines.join(" \\\n  ");
}

/**
 * The example without fields that only illustrate the schema.
 *
 * @param {any} example
 */
function trimmed(example) {
  if (!(example instanceof Object) || Array.isArray(example)) return example;
  return Object.fromEntries(Object.entries(example).slice(0, 4));
}
