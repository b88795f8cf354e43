/** Building elements. Text only ever becomes a text node; there is no way to pass markup. */

/**
 * @typedef {string | number | boolean | null | undefined | ((event: any) => void)
 *   | Record<string, string | undefined>} Prop
 */

/** The listeners of each element made here, by type. @type {WeakMap<Element, Map<string, (event: any) => void>>} */
const listeners = new WeakMap();

/**
 * `on*` functions become listeners, `data` the dataset; true sets a bare attribute; false, null and
 * undefined leave it out.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, Prop>} [props]
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") listen(element, name.slice(2), value);
    else if (typeof value === "object") setData(element, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

/**
 * Replaces the listeners that `h` added to `kept` by those that it added to `fresh`.
 *
 * @param {Element} kept
 * @param {Element} fresh
 */
export function takeListeners(kept, fresh) {
  listeners.delete(kept);
  for (const [type, act] of listeners.get(fresh) ?? []) listen(kept, type, act);
}

/**
 * @param {Element} element
 * @param {string} type
 * @param {(event: any) => void} act
 */
function listen(element, type, act) {
  const known = listeners.get(element) ?? new Map();
  listeners.set(element, known.set(type, act));
  // The browser adds the same function only once, and it looks up the current listener.
  element.addEventListener(type, dispatch);
}

/** @param {Event} event */
function dispatch(event) {
  const element = /** @type {Element} */ (event.currentTarget);
  listeners.get(element)?.get(event.type)?.(event);
}

/**
 * @param {HTMLElement} element
 * @param {Record<string, string | undefined>} data
 */
function setData(element, data) {
  for (const [name, value] of Object.entries(data)) {
    if (value !== undefined) element.dataset[name] = value;
  }
}

/**
 * The element of index.html with that id.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function slot(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element;
}
