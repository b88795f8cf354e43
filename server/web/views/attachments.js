/** Attachments of the message being written: button, drop, paste, previews. */

import { Attachments, sizeText } from "../attachments.js";
import { texts } from "../language.js";
import { h, slot } from "./dom.js";
import { icon } from "./icons.js";

/**
 * @typedef {object} Shelf
 * @property {() => Attachments} current Those of the open conversation.
 * @property {(key: string) => void} show The attachments of that draft.
 * @property {(allowed: boolean) => void} allow
 * @property {(attachments: Attachments) => void} sent They are under way; what was said of them is over.
 */

/** @param {() => void} changed @returns {Shelf} */
export function mountAttachments(changed) {
  const list = slot("attachments");
  const trouble = slot("attachment-trouble");
  const button = /** @type {HTMLButtonElement} */ (slot("attach"));
  const picker = /** @type {HTMLInputElement} */ (slot("attach-input"));
  const main = slot("main");
  const veil = slot("drop-veil");
  /** @type {Map<string, Attachments>} */
  const drafts = new Map();
  let shown = "";
  let depth = 0;
  button.append(icon("clip"));

  const current = () => {
    const known = drafts.get(shown);
    if (known) return known;
    /** @type {Attachments} */
    const made = new Attachments(() => made === drafts.get(shown) && draw());
    drafts.set(shown, made);
    return made;
  };
  /** @param {string[]} reasons */
  const complain = (reasons) => {
    trouble.textContent = reasons.join(" ");
    trouble.hidden = reasons.length === 0;
  };
  const draw = () => {
    const { items } = current();
    list.hidden = items.length === 0;
    list.replaceChildren(...items.map((item) => chip(item, () => current().remove(item.key))));
    changed();
  };
  /** @param {Iterable<File>} files */
  const add = (files) => complain(current().add(files));
  /** @param {DragEvent} event */
  const carriesFiles = (event) => !button.disabled && (event.dataTransfer?.types.includes("Files") ?? false);

  button.addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    add(picker.files ?? []);
    picker.value = "";
    slot("composer").focus();
  });
  slot("composer").addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || button.disabled) return;
    event.preventDefault();
    add(files);
  });
  main.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    veil.hidden = false;
  });
  main.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    veil.hidden = depth === 0;
  });
  // A file dropped anywhere else would replace the page.
  addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
  addEventListener("drop", (event) => {
    depth = 0;
    veil.hidden = true;
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (button.disabled || !(event.target instanceof Node && main.contains(event.target))) return;
    add([...event.dataTransfer.files]);
    slot("composer").focus();
  });

  return {
    current,
    show(key) {
      if (drafts.get(shown)?.items.length === 0) drafts.delete(shown);
      shown = key;
      complain([]);
      draw();
    },
    sent(attachments) {
      attachments.clear();
      complain([]);
    },
    allow(allowed) {
      button.disabled = !allowed;
    },
  };
}

/**
 * @param {import("../attachments.js").Attachment} item
 * @param {() => void} remove
 */
function chip(item, remove) {
  const { file, stage, url } = item;
  const facts = stage === "failed" ? texts.attachments.notSent(item.reason ?? "") : stage === "sending" ? texts.attachments.uploading : sizeText(file.size);
  return h(
    "li",
    { class: "attachment", data: { testid: "attachment", stage } },
    url ? h("img", { class: "attachment__picture", src: url, alt: "" }) : h("span", { class: "attachment__picture" }, icon("file")),
    h(
      "span",
      { class: "attachment__text" },
      h("span", { class: "attachment__name", dir: "auto", title: file.name }, file.name),
      h("span", { class: "attachment__facts" }, facts),
    ),
    h("button", { type: "button", class: "icon-button", "aria-label": texts.attachments.remove(file.name), data: { testid: "attachment-remove" }, onclick: remove }, icon("cross")),
  );
}
