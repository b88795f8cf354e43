/** What the browser's storage keeps about conversations when the page is left. */

const MOST_KEPT = 1_000;

/**
 * @template T
 * @param {string} slot
 * @param {() => Storage} [place]
 * @returns {Map<string, T>}
 */
export function loadMap(slot, place = () => localStorage) {
  try {
    const kept = JSON.parse(place().getItem(slot) ?? "[]");
    return new Map(Array.isArray(kept) ? kept.filter((one) => Array.isArray(one)) : []);
  } catch {
    return new Map();
  }
}

/**
 * Keeps the entries that were added last.
 *
 * @template T
 * @param {string} slot
 * @param {ReadonlyMap<string, T>} map
 */
export function keepMap(slot, map) {
  try {
    localStorage.setItem(slot, JSON.stringify([...map].slice(-MOST_KEPT)));
  } catch {
    // Storage is full or forbidden: the map is known as long as the page is open.
  }
}
