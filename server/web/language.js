/**
 * The language of the page: its texts, and how it writes numbers. theme-boot.js has chosen it before the first paint.
 * English is here at once; the texts of another language are loaded before any other module is evaluated.
 */

import { EN } from "./languages/en.js";

const SLOT = "parley.language";

/** @typedef {typeof EN} Texts */

/** Every language the page has, by its code: its own name, and what loads its texts. */
export const LANGUAGES = new Map([
  ["en", { name: "English", load: async () => EN }],
  ["de", { name: "Deutsch", load: async () => (await import("./languages/de.js")).DE }],
]);

const root = document.documentElement;
const found = root.lang === "en" ? EN : await textsOf(root.lang);
const language = found === EN ? "en" : root.lang;

/** @type {Texts} */
export const texts = found;

/** The browser's own variant of the language, such as that of a country. */
export const locale = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;

/** Takes some milliseconds to make. @type {Intl.NumberFormat | undefined} */
let numbers;

/** The texts of a language; English if the page has none, or they cannot be loaded. @param {string} code @returns {Promise<Texts>} */
async function textsOf(code) {
  try {
    return (await LANGUAGES.get(code)?.load()) ?? EN;
  } catch {
    root.lang = "en";
    return EN;
  }
}

/** @param {number} number */
export function numberText(number) {
  numbers ??= new Intl.NumberFormat(locale);
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
