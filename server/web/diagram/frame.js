/**
 * Draws one diagram. The page that shows this frame sends its source and a port, and is told how high it is, or why there
 * is none. The server puts this script into the document, which can request nothing.
 */

(() => {
  "use strict";

  /**
   * @param {{source: string, theme: string}} order
   * @param {MessagePort} page
   */
  const draw = async ({ source, theme }, page) => {
    document.documentElement.dataset.theme = theme;
    mermaid.initialize({ startOnLoad: false, securityLevel: "strict", suppressErrorRendering: true, theme: theme === "dark" ? "dark" : "default" });
    try {
      const { svg } = await mermaid.render("diagram", source);
      // The library made this markup; in here it can reach nothing.
      document.body.replaceChildren(document.createRange().createContextualFragment(svg));
    } catch (error) {
      page.postMessage({ trouble: error instanceof Error ? error.message : String(error) });
      return;
    }
    new ResizeObserver(() => page.postMessage({ height: document.body.offsetHeight })).observe(document.body);
  };

  addEventListener("message", ({ data, ports: [page], source }) => {
    if (source === parent && page) void draw(data, page);
  });
})();
