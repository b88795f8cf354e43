/** The socket: its channels, and each message with its fields and an example. */

import { BASE, located } from "./base.js";
import { h } from "./dom.js";
import { exampleBlock } from "./block.js";
import { prose, words } from "./prose.js";
import { whenOpened } from "./operation.js";
import { schemaPart } from "./schema.js";

/**
 * @param {import("./entries.js").Entry} entry
 * @param {import("./schema.js").Components} components
 */
export function socketPart(entry, components) {
  const channel = entry.body;
  const query = channel.bindings?.ws.query;
  const parts = [prose(channel.description)];
  if (query) {
    parts.push(h("h3", {}, "Handshake query"), schemaPart(query, components));
    parts.push(exampleBlock("With the official client", clientLines()));
  }
  return h("section", { class: "about", id: entry.id, data: { testid: "entry" } }, ...parts);
}

/**
 * @param {import("./entries.js").Entry} entry
 * @param {import("./schema.js").Components} components
 */
export function messagePart(entry, components) {
  const message = entry.body;
  const schema = components.whole(message.payload);
  const [about] = (schema.description ?? "").split("\n");
  const part = h(
    "details",
    { class: "entry", id: entry.id, data: { testid: "entry" } },
    h(
      "summary",
      { class: "entry__head" },
      h("span", { class: `mark mark--${entry.mark}` }, entry.mark),
      h("code", { class: "entry__title" }, entry.title),
      h("span", { class: "entry__about" }, ...words(about)),
    ),
  );
  whenOpened(part, () => [
    schemaPart(message.payload, components),
    ...message.examples.map((/** @type {{payload: any}} */ one) =>
      exampleBlock("Example", JSON.stringify(one.payload, null, 2)),
    ),
  ]);
  return part;
}

function clientLines() {
  return [
    `const socket = io("${location.origin}", {`,
    ...(BASE === "/" ? [] : [`  path: "${located("/socket.io")}",`]),
    '  transports: ["websocket", "polling"],',
    "  tryAllTransports: true,",
    "  query: { conversation_id: id, latest_event_id: -1 },",
    "});",
    'socket.on("oh_event", (event) => console.log(event.id, event.message));',
    'socket.emit("oh_user_action", { action: "message", args: { content: "Hello" } }, console.log);',
  ].join("\n");
}
