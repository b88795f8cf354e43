/**
 * The texts that are being written, as far as the server has sent them. Pure: events and deltas in, what is held
 * out. The protocol is described in docs/streaming.md.
 */

/** @typedef {import("./types.js").Delta} Delta */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Partial} Partial */
/** @typedef {ReadonlyMap<string, Partial>} Held Partials by id, oldest first. */

/** @type {Held} */
export const NOTHING_HELD = new Map();

/**
 * The event is the truth: it replaces the partial that it names.
 *
 * @param {Held} held
 * @param {Event} event
 * @returns {Held}
 */
export function afterEvent(held, event) {
  return event.partial === undefined ? held : without(held, [event.partial]);
}

/**
 * @param {Held} held
 * @param {Delta} delta
 * @returns {{held: Held, fits: boolean}} what is held now; false when the client has to come back with its cursor
 */
export function afterDelta(held, delta) {
  switch (delta.type) {
    case "open":
      return afterOpen(held, delta.partials);
    case "text":
      return afterPiece(held, delta);
    case "dropped":
      return { held: without(held, [delta.id]), fits: true };
    default:
      return { held, fits: true };
  }
}

/** What is held, as the handshake's `deltas` says it. @param {Held} held */
export function cursorOf(held) {
  return [...held.values()].map(({ id, characters }) => `${id}:${characters}`).join(",") || "1";
}

/**
 * What is not named is over.
 *
 * @param {Held} held
 * @param {{id: string, at: number}[]} partials
 */
function afterOpen(held, partials) {
  const at = new Map(partials.map((one) => [one.id, one.at]));
  const over = [...held.values()].filter(({ id, characters }) => at.get(id) !== characters);
  const kept = without(held, over.map(({ id }) => id));
  // What the server takes for held and is not: all of it is requested anew.
  const fits = partials.every((one) => one.at === (kept.get(one.id)?.characters ?? 0));
  return { held: kept, fits };
}

/**
 * @param {Held} held
 * @param {import("./types.js").TextDelta} piece
 */
function afterPiece(held, { id, at, to, text, kind, field, turn }) {
  const known = held.get(id);
  if (at !== (known?.characters ?? 0)) return { held, fits: false };
  const partial = known ?? { id, kind: kind ?? "message", field: field ?? "content", turn: turn ?? -1, text: "", characters: 0 };
  return { held: new Map(held).set(id, { ...partial, text: partial.text + text, characters: to }), fits: true };
}

/**
 * @param {Held} held
 * @param {string[]} ids
 * @returns {Held}
 */
function without(held, ids) {
  if (!ids.some((id) => held.has(id))) return held;
  return new Map([...held].filter(([id]) => !ids.includes(id)));
}
