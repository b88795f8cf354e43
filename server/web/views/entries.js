/** One entry of the transcript as an element. */

import { fullTime, hourOf } from "../clock.js";
import { texts } from "../language.js";
import { revealed } from "../text/revealed.js";
import { interruptionText, isRateLimit, speakerText } from "../wording.js";
import { errorText } from "./cards.js";
import { commandCard } from "./command-card.js";
import { h } from "./dom.js";
import { fileCard } from "./file-card.js";
import { icon } from "./icons.js";
import { prose, spoken } from "./prose.js";
import { reasoning } from "./reasoning.js";
import { stepCard, taskCard } from "./step-card.js";

/** @typedef {import("../types.js").Entry} Entry */

/**
 * @param {Entry} entry
 * @param {boolean} continued Whether the same speaker spoke just before.
 * @returns {HTMLElement}
 */
export function entryElement(entry, continued) {
  const { kind, body } = drawn(entry);
  const { source, at, id, action } = entry;
  const turn = action?.turn === undefined ? undefined : String(action.turn);
  const data = { testid: kind === "message" ? "message" : "entry", kind, source, eventId: String(id), turn, continued: continued ? "true" : undefined };
  return frame(data, at, ` · ${texts.transcript.event(id)}`, body);
}

/**
 * @param {{source: string} & Record<string, string | undefined>} data
 * @param {string} at ISO time.
 * @param {string} about What the time's title says beside it.
 * @param {Node} body
 */
export function frame(data, at, about, body) {
  return h(
    "article",
    { class: "entry", "aria-label": texts.transcript.says(speakerText(data.source), hourOf(at)), data },
    h(
      "header",
      { class: "entry__margin", "aria-hidden": "true" },
      h("span", { class: "entry__who" }, speakerText(data.source)),
      h("time", { class: "entry__time", datetime: at, title: `${fullTime(at)}${about}` }, hourOf(at)),
    ),
    h("div", { class: "entry__body" }, body),
  );
}

/**
 * @param {Entry} entry
 * @returns {{kind: string, body: Node}}
 */
function drawn(entry) {
  const { action, observation } = entry;
  switch (entry.name) {
    case "message":
      return { kind: "message", body: message(entry) };
    case "think":
      return { kind: "thought", body: reasoning(String(action?.args?.thought ?? ""), entry.watched) };
    case "finish":
    case "reject":
      return { kind: entry.name, body: closing(entry) };
    case "run":
    case "run_ipython":
      return { kind: "command", body: commandCard(entry) };
    case "read":
    case "write":
    case "edit":
      return { kind: "file", body: fileCard(entry) };
    case "error":
      return { kind: "error", body: observation ? trouble(observation, entry.retry ?? false) : stepCard(entry) };
    case "user_rejected":
      return { kind: "note", body: h("p", { class: "note" }, observation?.content || texts.transcript.rejectedStep) };
    case "task_tracking":
      return { kind: "step", body: taskCard(entry) };
    default:
      return { kind: "step", body: stepCard(entry) };
  }
}

/** @param {Entry} entry */
function message(entry) {
  const { action, watched } = entry;
  const text = String(action?.args?.content ?? action?.message ?? "");
  // A picture of another host is not requested: that would reveal the reader to the host.
  const pictures = strings(action?.args?.image_urls).filter((url) => url.startsWith("data:image/"));
  const files = strings(action?.args?.file_urls).filter((path) => !text.includes(path));
  if (pictures.length + files.length === 0 && !action?.interrupted) return spoken(text, watched);
  return h(
    "div",
    {},
    spoken(text, watched),
    pictures.length > 0 ? h("div", { class: "pictures" }, ...pictures.map(picture)) : null,
    files.length > 0 ? h("ul", { class: "files", "aria-label": texts.transcript.attached }, ...files.map(fileName)) : null,
    action?.interrupted ? cutOff(action.interrupted, entry.continues ?? false) : null,
  );
}

/**
 * Says why a text is not whole.
 *
 * @param {string} why
 * @param {boolean} continues
 */
function cutOff(why, continues) {
  return h(
    "p",
    { class: "cut-off", data: { testid: "cut-off", why } },
    h("span", { class: "chip" }, interruptionText(why)),
    continues ? h("button", { type: "button", class: "button button--small", data: { testid: "continue", act: "continue" } }, texts.transcript.goOn) : null,
  );
}

/** @param {unknown} given @returns {string[]} */
function strings(given) {
  return Array.isArray(given) ? given.filter((one) => typeof one === "string") : [];
}

/** @param {string} url */
function picture(url) {
  return h("img", { class: "picture", src: url, alt: texts.transcript.picture, loading: "lazy", data: { testid: "picture" } });
}

/** @param {string} path */
function fileName(path) {
  const name = path.split("/").filter(Boolean).pop() ?? path;
  return h("li", { class: "files__name", title: revealed(path), data: { testid: "file-name" } }, icon("file"), revealed(name));
}

/** @param {Entry} entry */
function closing(entry) {
  const finished = entry.name === "finish";
  const args = entry.action?.args ?? {};
  const text = args.final_thought || args.thought || entry.action?.message || "";
  return h(
    "div",
    { class: "closing", data: { outcome: entry.name } },
    h("span", { class: "closing__label" }, finished ? texts.transcript.finished : texts.transcript.declined),
    prose(String(text)),
  );
}

/**
 * @param {import("../types.js").Event} observation
 * @param {boolean} retry
 */
function trouble(observation, retry) {
  const label = isRateLimit(observation) ? texts.transcript.rateLimit : texts.transcript.error;
  return h(
    "div",
    { class: "trouble", role: "note" },
    h("span", { class: "trouble__label" }, label),
    prose(errorText(observation)),
    retry ? h("button", { type: "button", class: "button button--small trouble__retry", data: { testid: "retry", act: "retry" } }, texts.transcript.retry) : null,
  );
}
