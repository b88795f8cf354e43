/** A conversation's row as the list shows it: the item, its live state, unread mark and place. */

import { ASKING } from "../asking.js";
import { texts } from "../language.js";
import { agentStateText } from "../wording.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { ItemView } from "./item.js";

/** @typedef {import("../types.js").Info} Info */
/** @typedef {{current: boolean, unread: boolean, agentState: string}} Standing */

export class RowView {
  /**
   * @param {Info} info
   * @param {import("./item.js").ItemActions & {start: (id: string) => void}} on
   */
  constructor(info, on) {
    this.item = new ItemView(info, on);
    this.element = this.item.element;
    this.link = this.item.link;
    this.start = h(
      "button",
      {
        type: "button",
        class: "icon-button",
        "aria-label": texts.list.start,
        title: texts.list.start,
        data: { testid: "start-conversation" },
        onclick: () => on.start(info.conversation_id),
      },
      icon("play"),
    );
    this.item.tools.prepend(this.start);
    this.item.tools.setAttribute("role", "group");
    this.unread = h("span", { class: "item__unread", hidden: true, data: { testid: "unread-mark" } }, h("span", { class: "unseen" }, texts.list.unread));
    this.repository = h("span", { class: "item__repository", dir: "ltr" });
    this.item.title.before(this.unread);
    this.item.age.after(this.repository);
    /** @type {[Info, string] | null} */
    this.shown = null;
  }

  /**
   * @param {Info} info
   * @param {Standing} standing
   */
  update(info, standing) {
    const { current, unread, agentState } = standing;
    const marks = `${current} ${unread} ${agentState}`;
    if (this.shown?.[0] === info && this.shown[1] === marks) return;
    this.shown = [info, marks];
    this.item.update(info, current);
    this.start.hidden = info.status !== "STOPPED";
    this.unread.hidden = !unread;
    this.element.dataset.unread = String(unread);
    const repository = info.selected_repository ?? "";
    this.repository.textContent = repository;
    this.repository.hidden = repository === "";
    this.element.dataset.agent = agentState;
    if (agentState !== "") {
      this.item.mark.textContent = agentState === ASKING ? texts.list.needsYou : agentStateText(agentState);
      this.item.mark.hidden = false;
    }
  }

  refreshAge() {
    this.item.refreshAge();
  }

  /** Whether the Tab key stops at this row. @param {boolean} stops */
  tabStop(stops) {
    const index = stops ? 0 : -1;
    this.link.tabIndex = index;
    for (const button of this.item.tools.querySelectorAll("button")) button.tabIndex = index;
  }

  /** Presses one of the row's buttons. @param {"rename" | "delete"} testid */
  press(testid) {
    /** @type {HTMLButtonElement | null} */ (this.item.tools.querySelector(`[data-testid="${testid}"]`))?.click();
  }
}
