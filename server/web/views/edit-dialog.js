/** A form in which a person changes what the agent is to do, and approves that. */

import { hourOf } from "../clock.js";
import { texts } from "../language.js";
import { decisionText } from "../wording.js";
import { makeDialog } from "./dialog.js";
import { h, slot } from "./dom.js";
import { changesIn, fieldsOf } from "./edit-fields.js";
import { alwaysBox, questionText, riskMark } from "./question.js";

/** @typedef {import("../types.js").Entry} Entry */
/** @typedef {import("../types.js").Refusal} Refusal */
/** @typedef {import("./edit-fields.js").Field} Field */

const LOST = `${texts.editing.lost} ${texts.editing.stays}`;
/** Refusals after which the form itself says what has become of the question. */
const SEEN = new Set(["already_decided", "approval_expired"]);

/**
 * @param {import("../store.js").Store} store
 * @param {{edit: (id: number, changes: Record<string, unknown>) => Promise<Refusal | null>, renew: (id: number) => void}} on
 *   `edit` resolves to why it was not approved, or null
 * @returns {{open: (entry: Entry) => void}}
 */
export function mountEditDialog(store, on) {
  /** @type {Entry | null} */
  let entry = null;
  /** @type {Field[]} */
  let fields = [];
  let sending = false;

  const about = h("p", { class: "edit__question", id: "edit-question" });
  const box = h("div", { class: "edit__fields" });
  const always = h("div", {});
  const outcome = h("p", { class: "form__outcome edit__outcome", role: "alert", id: "edit-outcome", data: { testid: "edit-outcome", bad: "true" } });
  const renew = h("button", { class: "button", type: "button", hidden: true, data: { testid: "edit-renew" }, onclick: () => entry && on.renew(entry.id) }, texts.question.askAgain);
  const approve = h("button", { class: "button button--strong", type: "submit", "aria-describedby": about.id, data: { testid: "edit-approve" } }, texts.editing.approve);
  const form = h(
    "form",
    { class: "form", novalidate: true },
    h("div", { class: "form__scroll" }, about, box, always),
    outcome,
    h("div", { class: "dialog__buttons" }, h("button", { class: "button", type: "button", onclick: () => close() }, texts.dialogs.close), renew, approve),
  );
  const { dialog, open, close } = makeDialog("edit-dialog", texts.editing.title, form);

  /** @param {string} text @param {Field} [at] the field that is to blame */
  const say = (text, at) => {
    outcome.textContent = text;
    for (const { area } of fields) area.setAttribute("aria-invalid", String(area === at?.area));
    at?.area.closest("details")?.setAttribute("open", "");
    at?.area.focus();
  };
  /** The changes are taken: there is nothing to keep. */
  const finish = () => {
    fields = [];
    if (entry) entry.draft = undefined;
    close();
  };
  /** Says what has become of the question. */
  const follow = () => {
    if (!entry || !dialog.open) return;
    const { decided, asks, expired = false } = entry;
    const connected = store.state.connection === "connected";
    about.replaceChildren(`${questionText(entry)} `, riskMark(entry) ?? "");
    renew.hidden = !asks || !expired;
    always.hidden = approve.hidden = !asks || expired;
    approve.disabled = sending || !connected;
    for (const { area } of fields) area.readOnly = !asks;
    if (decided?.by === "you" && decided.edited) finish();
    else if (decided) say(`${decisionText(decided)} ${texts.decisions.at(hourOf(decided.at))}. ${texts.editing.notCarriedOut} ${texts.editing.stays}`);
    else if (!asks) say(`${texts.editing.waitsNoMore} ${texts.editing.notCarriedOut} ${texts.editing.stays}`);
    else if (!connected) say(LOST);
    else if (outcome.textContent === LOST) say("");
  };
  const submit = async () => {
    const asked = entry;
    if (!asked || approve.hidden || approve.disabled) return;
    let changes;
    try {
      changes = changesIn(fields, asked.action?.args ?? {});
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      const field = /** @type {Field} */ (error.cause);
      say(texts.editing.noJson(field.label, error.message), field);
      return;
    }
    if (Object.keys(changes).length === 0) return say(texts.editing.unchanged);
    sending = true;
    say("");
    follow();
    const refusal = await on.edit(asked.id, changes);
    sending = false;
    if (entry !== asked || !dialog.open) return;
    if (refusal === null) return finish();
    if (!SEEN.has(refusal.code)) say(texts.editing.refused(refusal.message));
    follow();
  };

  dialog.setAttribute("aria-describedby", about.id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
  });
  /** What was written is there again when the form is opened again. */
  const keep = () => {
    if (entry && fields.length > 0) entry.draft = new Map(fields.map(({ label, area }) => [label, area.value]));
  };
  dialog.addEventListener("close", () => {
    // The event comes late: the form may be open again.
    if (dialog.open) return;
    keep();
    entry = null;
    fields = [];
    box.replaceChildren();
    // What the form was opened by may be gone.
    if (document.activeElement === document.body) slot("composer").focus({ preventScroll: true });
  });
  store.watch(["asked", "connection"], follow);
  store.watch(["openId"], () => close());

  return {
    open(asked) {
      keep();
      entry = asked;
      fields = fieldsOf(asked.action?.args ?? {});
      box.replaceChildren(...fields.map(({ element }) => element));
      always.replaceChildren(alwaysBox(asked, "edit-always"));
      for (const { label, area } of fields) {
        area.value = asked.draft?.get(label) ?? area.value;
        area.dispatchEvent(new Event("input"));
      }
      outcome.textContent = "";
      open();
      fields[0]?.area.focus();
      follow();
    },
  };
}
