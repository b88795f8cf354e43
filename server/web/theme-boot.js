/** Sets the colour scheme before the first paint: a plain script, since a module would run after it. */

(() => {
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
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  addEventListener("parley:theme", apply);
  apply();
})();
