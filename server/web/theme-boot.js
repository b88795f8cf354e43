/** Sets the colour scheme and the language before the first paint: a plain script, since a module would run after it. */

(() => {
  const address = /** @type {HTMLScriptElement} */ (document.currentScript).src;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("parley.theme");
    } catch {
      // Storage is forbidden: use the system's scheme.
    }
    if (chosen !== "dark" && chosen !== "light") chosen = system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = chosen;
  };
  /** Chooses among the languages that the page has; it is written in the first. */
  const choose = () => {
    const root = document.documentElement;
    const [own, ...others] = (root.dataset.languages ?? "en").split(" ");
    let chosen = null;
    try {
      chosen = localStorage.getItem("parley.language");
    } catch {
      // Storage is forbidden: use the browser's languages.
    }
    const wanted = [chosen ?? "", ...navigator.languages].map((one) => one.split("-")[0]);
    root.lang = wanted.find((one) => one === own || others.includes(one)) ?? own;
    if (root.lang === own) return;
    // Nothing is seen until language.js has put in the texts, which it would request later.
    root.dataset.translating = "true";
    const link = document.createElement("link");
    link.rel = "modulepreload";
    link.href = new URL(`languages/${root.lang}.js`, address).href;
    document.head.append(link);
  };
  choose();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  addEventListener("parley:theme", apply);
  apply();
})();
