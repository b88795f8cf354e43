/** Walking through the list with the keyboard: one stop for the Tab key, arrows inside. */

/** @typedef {import("./row.js").RowView} RowView */

/**
 * @param {HTMLElement} list
 * @param {ReadonlyMap<string, RowView>} views
 */
export function walkWithKeys(list, views) {
  /** @type {RowView | null} */
  let stop = null;

  const rows = () => /** @type {HTMLElement[]} */ ([...list.children]);
  /** @param {Element | null} element */
  const viewOf = (element) => {
    const row = element instanceof HTMLElement ? element.closest("li") : null;
    return views.get(row?.dataset.conversationId ?? "") ?? null;
  };
  /** @param {RowView | null} view */
  const stopAt = (view) => {
    if (view === stop) return;
    stop?.tabStop(false);
    view?.tabStop(true);
    stop = view;
  };
  /** @param {number} index */
  const focusAt = (index) => {
    const all = rows();
    const view = viewOf(all[Math.max(0, Math.min(index, all.length - 1))] ?? null);
    if (!view) return;
    stopAt(view);
    view.link.focus();
  };
  const focusedIndex = () => {
    const row = document.activeElement?.closest("li");
    return row && list.contains(row) ? rows().indexOf(/** @type {HTMLElement} */ (row)) : -1;
  };

  list.addEventListener("focusin", (event) => stopAt(viewOf(/** @type {Element} */ (event.target))));
  list.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = focusedIndex();
    const view = viewOf(document.activeElement);
    /** @type {Record<string, () => void>} */
    const acts = {
      ArrowDown: () => focusAt(index + 1),
      ArrowUp: () => focusAt(index - 1),
      Home: () => focusAt(0),
      End: () => focusAt(Infinity),
      F2: () => view?.press("rename"),
      Delete: () => view?.press("delete"),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  return {
    focusedIndex,
    focusFirst: () => focusAt(0),
    /**
     * Must be called when the rows have changed: keeps one tab stop, and the focus near where it was.
     *
     * @param {number} focused index that had the focus before, -1 for none
     */
    settle(focused) {
      for (const view of views.values()) if (view !== stop) view.tabStop(false);
      if (!stop || !list.contains(stop.element)) {
        stop = null;
        const current = list.querySelector("[aria-current]");
        stopAt(viewOf(current ?? list.firstElementChild));
      }
      if (focused >= 0 && focusedIndex() < 0) focusAt(focused);
    },
  };
}
