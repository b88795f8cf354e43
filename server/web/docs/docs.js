/** The page: reads both documents, shows their entries, finds what is searched for. */

import { located } from "./base.js";
import { h, slot } from "./dom.js";
import { entriesOf } from "./entries.js";
import { operationPart } from "./operation.js";
import { prose } from "./prose.js";
import { messagePart, socketPart } from "./socket.js";
import { Components } from "./schema.js";

const QUIET_MS = 80;

/**
 * @typedef {import("./entries.js").Entry} Entry
 * @typedef {{entry: Entry, part: HTMLElement, link: HTMLElement}} Shown
 */

/** @param {string} address */
async function documentAt(address) {
  const answer = await fetch(located(address));
  if (!answer.ok) throw new Error(`${address} was answered ${answer.status}`);
  return answer.json();
}

/**
 * @param {Entry} entry
 * @param {Components} components
 */
function partOf(entry, components) {
  if (entry.kind === "operation") return operationPart(entry, components);
  if (entry.kind === "message") return messagePart(entry, components);
  return socketPart(entry, components);
}

/**
 * @param {Entry[]} entries
 * @param {Components} components
 * @param {Node[]} introductions
 * @returns {Shown[]}
 */
function show(entries, components, introductions) {
  const content = slot("content");
  const contents = slot("contents");
  content.replaceChildren(h("h1", { class: "title" }, "API reference"), ...introductions);
  /** @type {Shown[]} */
  const shown = [];
  let group = "";
  for (const entry of entries) {
    if (entry.group !== group) {
      group = entry.group;
      const id = `group-${group.toLowerCase().replaceAll(/\W+/g, "-")}`;
      content.append(h("h2", { class: "group", id }, group));
      contents.append(h("a", { class: "contents__group", href: `#${id}` }, group));
    }
    const part = partOf(entry, components);
    const mark = h("span", { class: `mark mark--${entry.mark.toLowerCase()}` }, entry.mark);
    const link = h("a", { class: "contents__link", href: `#${entry.id}` }, mark, entry.short);
    content.append(part);
    contents.append(link);
    shown.push({ entry, part, link });
  }
  return shown;
}

/** @param {Shown[]} shown */
function search(shown) {
  const field = /** @type {HTMLInputElement} */ (slot("search"));
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { entry, part, link } of shown) {
    const hit = words.every((word) => entry.text.includes(word));
    part.hidden = !hit;
    link.hidden = !hit;
    count += hit ? 1 : 0;
  }
  hideEmptyGroups(slot("content"), "group");
  hideEmptyGroups(slot("contents"), "contents__group");
  const note = count ? "" : "No matches. Search for a part of a path, a field or a description.";
  slot("found").textContent = words.length ? `${count} of ${shown.length}` : `${shown.length} entries`;
  slot("content").dataset.empty = note;
}

/**
 * @param {HTMLElement} parent
 * @param {string} name
 */
function hideEmptyGroups(parent, name) {
  /** @type {HTMLElement | null} */
  let head = null;
  for (const child of /** @type {HTMLCollectionOf<HTMLElement>} */ (parent.children)) {
    if (child.classList.contains(name)) {
      head = child;
      head.hidden = true;
    } else if (head && !child.hidden) head.hidden = false;
  }
}

function openTheLinked() {
  const part = document.getElementById(location.hash.slice(1));
  if (part instanceof HTMLDetailsElement) {
    part.open = true;
    part.hidden = false;
  }
  part?.scrollIntoView();
}

async function begin() {
  const content = slot("content");
  try {
    const [rest, socket] = await Promise.all([
      documentAt("/openapi.json"),
      documentAt("/asyncapi.json"),
    ]);
    const schemas = { ...socket.components.schemas, ...rest.components.schemas };
    const shown = show(entriesOf(rest, socket), new Components(schemas), [
      prose(rest.info.description),
      prose(socket.info.description),
    ]);
    /** @type {number | undefined} */
    let waiting;
    slot("search").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => search(shown), QUIET_MS);
    });
    addEventListener("hashchange", openTheLinked);
    search(shown);
    openTheLinked();
  } catch (error) {
    slot("note").textContent = `The descriptions could not be loaded: ${error}. Reload to try again.`;
  }
  content.ariaBusy = "false";
}

addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== slot("search")) {
    event.preventDefault();
    slot("search").focus();
  }
});
begin();
