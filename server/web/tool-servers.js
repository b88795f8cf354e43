/** The tool servers (MCP) of the settings: what is asked about one, and the list with one more or one less. */

/** @typedef {"shttp_servers" | "sse_servers" | "stdio_servers"} Kind As the server calls them. */
/**
 * @typedef {object} ToolServer Secrets are hidden when the server names it, and then mean the stored ones.
 * @property {string} [url]
 * @property {string | null} [api_key]
 * @property {number | null} [timeout] In seconds, for a call.
 * @property {string} [name] Of a program, as are the following.
 * @property {string} [command]
 * @property {string[]} [args]
 * @property {Record<string, string>} [env]
 *
 * @typedef {Partial<Record<Kind, ToolServer[]>> | null} ToolConfig
 */

/** In the order in which they are shown. @type {Kind[]} */
export const KINDS = ["shttp_servers", "sse_servers", "stdio_servers"];

/** What a server is called. @param {ToolServer} server */
export function nameOf({ name, url }) {
  return name ?? url ?? "";
}

/**
 * The list with a server, which takes the place of one of the same name or address.
 *
 * @param {ToolConfig} config
 * @param {Kind} kind
 * @param {ToolServer} server
 * @returns {ToolConfig}
 */
export function withServer(config, kind, server) {
  const others = (config?.[kind] ?? []).filter((one) => nameOf(one) !== nameOf(server));
  return { ...config, [kind]: [...others, server] };
}

/**
 * @param {ToolConfig} config
 * @param {Kind} kind
 * @param {ToolServer} server
 * @returns {ToolConfig}
 */
export function withoutServer(config, kind, server) {
  return { ...config, [kind]: (config?.[kind] ?? []).filter((one) => nameOf(one) !== nameOf(server)) };
}

/** The lines of a text that are not blank. @param {string} text */
export function linesOf(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

/**
 * The variables of lines such as `NAME=value`.
 *
 * @param {string[]} lines
 * @returns {{variables: Record<string, string>, wrong: string | undefined}} the first line that is none
 */
export function variablesOf(lines) {
  const pairs = lines.map((line) => /^([^=\s]+)=(.*)$/.exec(line));
  const wrong = lines.find((_, number) => pairs[number] === null);
  return { variables: Object.fromEntries(pairs.flatMap((found) => (found ? [[found[1], found[2]]] : []))), wrong };
}
