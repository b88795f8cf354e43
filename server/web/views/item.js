/** One conversation in the list, with its inline rename. */

import { momentOf } from "../catalogue.js";
import { ago, fullTime } from "../clock.js";
import { texts } from "../language.js";
import { addressOf } from "../router.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {import("../types.js").Info} Info */

/**
 * @typedef {object} ItemActions
 * @property {(id: string, title: string) => void} rename
 * @property {(id: string, title: string) => void} remove
 * @property {(id: string) => void} halt
 */

const MOST_TITLE_CHARACTERS = 200;

export class ItemView {
  /**
   * @param {Info} info
   * @param {ItemActions} on
   */
  constructor(info, on) {
    this.info = info;
    this.on = on;
    const id = info.conversation_id;
    this.title = h("span", { class: "item__title", dir: "auto" });
    this.age = h("time", { class: "item__age" });
    this.mark = h("span", { class: "item__mark", data: { testid: "running-mark" } });
    this.link = h(
      "a",
      { class: "item__link", href: addressOf(id), data: { route: id, testid: "conversation-link" } },
      this.title,
      h("span", { class: "item__meta" }, this.mark, this.age),
    );
    this.halt = tool("halt", "stop-conversation", texts.list.stop, () => on.halt(id));
    this.tools = h(
      "div",
      { class: "item__tools" },
      this.halt,
      tool("pencil", "rename", texts.list.rename, () => this.#edit()),
      tool("bin", "delete", texts.list.delete, () => on.remove(id, this.info.title)),
    );
    this.element = h("li", { class: "item", data: { testid: "conversation-item", conversationId: id } }, this.link, this.tools);
  }

  /**
   * @param {Info} info
   * @param {boolean} current
   */
  update(info, current) {
    this.info = info;
    const title = info.title || texts.page.untitled;
    if (this.title.textContent !== title) this.title.textContent = title;
    this.link.title = title;
    this.tools.setAttribute("aria-label", title);
    if (current) this.link.setAttribute("aria-current", "page");
    else this.link.removeAttribute("aria-current");
    const alive = info.status === "RUNNING" || info.status === "STARTING";
    this.element.dataset.status = info.status;
    this.mark.textContent = alive ? (info.status === "STARTING" ? texts.list.starting : texts.list.active) : "";
    this.mark.hidden = !alive;
    this.halt.hidden = !alive;
    this.refreshAge();
  }

  refreshAge() {
    const when = momentOf(this.info);
    this.age.textContent = ago(when);
    this.age.dateTime = when ?? "";
    this.age.title = fullTime(when ?? "");
  }

  #edit() {
    const field = h("input", {
      class: "item__field",
      type: "text",
      maxlength: MOST_TITLE_CHARACTERS,
      "aria-label": texts.list.newTitle,
      data: { testid: "rename-input" },
    });
    field.value = this.info.title;
    this.element.dataset.editing = "true";
    this.element.prepend(field);
    let open = true;
    /** @param {boolean} keep */
    const finish = (keep) => {
      if (!open) return;
      open = false;
      const hadFocus = document.activeElement === field;
      const title = field.value.trim();
      field.remove();
      delete this.element.dataset.editing;
      if (hadFocus) this.link.focus();
      if (keep && title && title !== this.info.title) this.on.rename(this.info.conversation_id, title);
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") finish(true);
      if (event.key !== "Escape") return;
      event.stopPropagation();
      finish(false);
    });
    field.addEventListener("blur", () => finish(true));
    field.focus();
    field.select();
  }
}

/**
 * @param {"halt" | "pencil" | "bin"} name
 * @param {string} testid
 * @param {string} label
 * @param {() => void} act
 */
function tool(name, testid, label, act) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, data: { testid }, onclick: act }, icon(name));
}
