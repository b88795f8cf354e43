/** Light, dark or as the system says, in one button. */

import { texts } from "../language.js";
import { readTheme, saveTheme } from "../theme.js";
import { slot } from "./dom.js";
import { icon } from "./icons.js";

/** @typedef {import("../theme.js").Theme} Theme */

/** @type {Record<Theme, {next: Theme, text: string, icon: "half" | "sun" | "moon"}>} */
const LOOKS = {
  system: { next: "light", icon: "half" },
  light: { next: "dark", icon: "sun" },
  dark: { next: "system", icon: "moon" },
};

export function mountThemeButton() {
  const button = slot("theme");
  const show = () => {
    const theme = readTheme();
    button.dataset.theme = theme;
    button.replaceChildren(icon(LOOKS[theme].icon));
    button.title = texts.foot.appearance(texts.looks[theme]);
    button.setAttribute("aria-label", button.title);
  };
  button.addEventListener("click", () => saveTheme(LOOKS[readTheme()].next));
  addEventListener("parley:theme", show);
  addEventListener("storage", show);
  show();
}
