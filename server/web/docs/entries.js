/** Both documents as one list of entries, in the order in which they are shown. */

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {"operation" | "message" | "socket"} kind
 * @property {string} group
 * @property {string} mark  a word in front of the title: the method, or the direction
 * @property {string} title
 * @property {string} short  the title for the list of contents
 * @property {any} body  its part of the document
 * @property {string} text  all that can be searched, in lower case
 */

/** @typedef {Record<string, any>} Json */

const ONE = "/api/conversations/{conversation_id}";

/**
 * @param {Json} rest
 * @param {Json} socket
 * @returns {Entry[]}
 */
export function entriesOf(rest, socket) {
  const operations = Object.entries(rest.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, body]) => operationEntry(path, method, body)),
  );
  const tags = rest.tags.map((/** @type {{name: string}} */ tag) => tag.name);
  const order = (/** @type {Entry} */ entry) => tags.indexOf(entry.group);
  operations.sort((one, other) => order(one) - order(other));
  return [...operations, ...Object.entries(socket.channels).flatMap(([name, channel]) =>
    channelEntries(name, channel, socket),
  )];
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Json} operation
 * @returns {Entry}
 */
function operationEntry(path, method, operation) {
  const body = { ...operation, path, method };
  return {
    id: operation.operationId,
    kind: "operation",
    group: operation.tags[0],
    mark: method.toUpperCase(),
    title: path,
    short: path.replace(ONE, "{id}"),
    body,
    text: textOf(method, path, body),
  };
}

/**
 * @param {string} name
 * @param {Json} channel
 * @param {Json} socket
 * @returns {Entry[]}
 */
function channelEntries(name, channel, socket) {
  const group = channel.servers ? "Stream" : `Socket: ${name}`;
  const heading = {
    id: `socket-${name}`,
    kind: /** @type {const} */ ("socket"),
    group,
    mark: "about",
    title: channel.title,
    short: "about",
    body: { ...channel, name },
    text: textOf(name, "", channel),
  };
  const messages = Object.keys(channel.messages).map((key) => {
    const message = socket.components.messages[key];
    const title = titleOf(key);
    return {
      id: `socket-${name}-${key}`,
      kind: /** @type {const} */ ("message"),
      group,
      mark: direction(name, key),
      title,
      short: title,
      body: { ...message, key, channel: name },
      text: textOf(name, key, message),
    };
  });
  return [heading, ...messages];
}

/** @param {string} key */
function titleOf(key) {
  return key.replace(/^(oh_event|client|stream)\./, "").replace(".", " ");
}

/**
 * The sender of the message.
 *
 * @param {string} channel
 * @param {string} key
 */
function direction(channel, key) {
  return key.startsWith("client.") ? "client" : channel === "connection" ? "reply" : "server";
}

/**
 * @param {string} first
 * @param {string} second
 * @param {Json} body
 */
function textOf(first, second, body) {
  return `${first} ${second} ${JSON.stringify(body)}`.toLowerCase();
}
