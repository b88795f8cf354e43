/** The language of the page: its texts, and how it writes numbers. theme-boot.js has chosen it before the first paint. */

import { DE } from "./languages/de.js";
import { EN } from "./languages/en.js";

const SLOT = "parley.language";

/** Every language the page has, by its code: its own name, and its texts. */
export const LANGUAGES = new Map([
  ["en", { name: "English", texts: EN }],
  ["de", { name: "Deutsch", texts: DE }],
]);

const root = document.documentElement;
const language = LANGUAGES.has(root.lang) ? root.lang : "en";

export const texts = LANGUAGES.get(language)?.texts ?? EN;

/** The browser's own variant of the language, such as that of a country. */
export const locale = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;

const numbers = new Intl.NumberFormat(locale);

/** @param {number} number */
export function numberText(number) {
  return numbers.format(number);
}

/** The language that was chosen, "" where the browser's counts. */
export function chosenLanguage() {
  try {
    return localStorage.getItem(SLOT) ?? "";
  } catch {
    return "";
  }
}

/** Takes effect when the page is loaded again. @param {string} code "" for the browser's */
export function chooseLanguage(code) {
  try {
    if (code) localStorage.setItem(SLOT, code);
    else localStorage.removeItem(SLOT);
  } catch {
    // Storage is forbidden: the browser's language stays.
  }
}

/** What the names in the dataset of index.html's elements are about. @type {[string, (element: Element, text: string) => void][]} */
const PLACES = [
  ["data-text", (element, text) => (element.textContent = text)],
  ["data-text-label", (element, text) => element.setAttribute("aria-label", text)],
  ["data-text-title", (element, text) => element.setAttribute("title", text)],
  ["data-text-placeholder", (element, text) => element.setAttribute("placeholder", text)],
];

/** Puts the texts in the place of those in index.html, which are English. */
function translate() {
  for (const [place, put] of PLACES) {
    for (const element of document.querySelectorAll(`[${place}]`)) {
      const [group, name] = (element.getAttribute(place) ?? "").split(".");
      put(element, /** @type {any} */ (texts)[group][name]);
    }
  }
  delete root.dataset.translating;
}

if (root.dataset.translating !== undefined) translate();
