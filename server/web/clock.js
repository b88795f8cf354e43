/** Times for people. */

import { locale, texts } from "./language.js";

// Each takes some milliseconds to make, and a page needs only some of them.
const relative = once(() => new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" }));
const hour = once(() => new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" }));
const day = once(() => new Intl.DateTimeFormat(locale, { dateStyle: "full" }));
const full = once(() => new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" }));
const tenths = once(() => new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }));

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/**
 * "2 hr. ago"; "just now" below a minute; "" for an invalid time.
 *
 * @param {string | null} iso
 * @param {number} [nowMs]
 */
export function ago(iso, nowMs = Date.now()) {
  const seconds = (Date.parse(iso ?? "") - nowMs) / 1000;
  if (Number.isNaN(seconds)) return "";
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return relative().format(Math.round(seconds / size), unit);
  }
  return texts.page.justNow;
}

/** "0.4 s", "12 s", "2 min 5 s", "1 h 3 min". @param {number} ms */
export function durationText(ms) {
  const seconds = Math.round(ms / 1_000);
  if (ms < 10_000) return `${tenths().format(ms / 1_000)} s`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {string} iso */
export function hourOf(iso) {
  const time = Date.parse(iso);
  return Number.isNaN(time) ? "" : hour().format(time);
}

/** "Monday, March 2, 2026"; "" for an invalid time. @param {string} iso */
export function dayOf(iso) {
  const time = Date.parse(iso);
  return Number.isNaN(time) ? "" : day().format(time);
}

/**
 * Whether two times are on the same day in the reader's time zone.
 *
 * @param {string | number} one
 * @param {string | number} other
 */
export function sameDay(one, other) {
  return new Date(one).toDateString() === new Date(other).toDateString();
}

/** @param {string} iso */
export function fullTime(iso) {
  const time = Date.parse(iso);
  return Number.isNaN(time) ? "" : full().format(time);
}

/**
 * What makes something when it is first needed.
 *
 * @template T
 * @param {() => T} make
 * @returns {() => T}
 */
function once(make) {
  /** @type {T | undefined} */
  let made;
  return () => (made ??= make());
}
