/** What the list shows: search by title, filters. */

import { texts } from "../language.js";
import { NO_FILTER } from "../store.js";
import { slot } from "./dom.js";
import { icon } from "./icons.js";

const SETTLED_MS = 200;
const DAY_MS = 86_400_000;

/**
 * @param {import("../store.js").Store} store
 * @param {{find: (filter: import("../types.js").ListFilter) => void, down: () => void}} on `down`
 *   when the keyboard moves on into the list.
 */
export function mountSearch(store, on) {
  const text = /** @type {HTMLInputElement} */ (slot("search"));
  const toggle = slot("filter-toggle");
  const panel = slot("filters");
  const since = /** @type {HTMLSelectElement} */ (slot("filter-since"));
  const trigger = /** @type {HTMLSelectElement} */ (slot("filter-trigger"));
  const repository = /** @type {HTMLInputElement} */ (slot("filter-repository"));
  let timer = 0;
  let sinceIso = "";
  slot("search-icon").append(icon("lens"));
  toggle.append(icon("funnel"));

  const apply = () => {
    clearTimeout(timer);
    const filter = {
      text: text.value.trim(),
      repository: repository.value.trim(),
      trigger: trigger.value,
      since: sinceIso,
    };
    const before = store.state.filter;
    if (/** @type {(keyof typeof filter)[]} */ (Object.keys(filter)).some((key) => filter[key] !== before[key])) on.find(filter);
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(apply, SETTLED_MS);
  };
  const clear = () => {
    text.value = repository.value = trigger.value = since.value = sinceIso = "";
    apply();
  };

  text.addEventListener("input", soon);
  repository.addEventListener("input", soon);
  trigger.addEventListener("change", apply);
  since.addEventListener("change", () => {
    sinceIso = since.value ? new Date(Date.now() - Number(since.value) * DAY_MS).toISOString() : "";
    apply();
  });
  text.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") {
      event.preventDefault();
      on.down();
    } else if (event.key === "Enter") {
      event.preventDefault();
      apply();
    } else if (event.key === "Escape" && text.value) {
      // Escape closes the drawer as well, but first it empties the field.
      event.stopPropagation();
      event.preventDefault();
      text.value = "";
      apply();
    }
  });
  toggle.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    toggle.setAttribute("aria-expanded", String(!panel.hidden));
  });
  slot("filters-clear").addEventListener("click", clear);
  slot("list-none-clear").addEventListener("click", () => {
    clear();
    text.focus();
  });
  store.watch(["filter"], () => {
    const { text: _, ...others } = store.state.filter;
    const used = Object.values(others).filter(Boolean).length;
    toggle.dataset.used = used > 0 ? "true" : "false";
    toggle.setAttribute("aria-label", used > 0 ? texts.list.filtersUsed(used) : texts.list.filters);
    slot("filters-clear").hidden = store.state.filter === NO_FILTER || (used === 0 && !store.state.filter.text);
  });
  store.watch(["conversations"], () => {
    const known = new Set(store.state.conversations.map((info) => info.selected_repository).filter(Boolean));
    const options = slot("known-repositories");
    if (known.size === options.children.length) return;
    options.replaceChildren(...[...known].map((name) => new Option("", String(name))));
  });

  return {
    focus() {
      text.focus();
      text.select();
    },
  };
}
