/** Numbers, sizes and times as text. */

const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const MONEY = new Intl.NumberFormat("en", { style: "currency", currency: "USD", minimumFractionDigits: 4 });
const ROUND_MONEY = new Intl.NumberFormat("en", { style: "currency", currency: "USD" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} value */
export function whole(value) {
  return WHOLE.format(value);
}

/** @param {number} value */
export function short(value) {
  return SHORT.format(value);
}

/** @param {number} value */
export function money(value) {
  return MONEY.format(value);
}

/** @param {number} value */
export function roundMoney(value) {
  return value < 1 ? money(value) : ROUND_MONEY.format(value);
}

/** @param {number | null} value */
export function bytes(value) {
  if (value === null) return "–";
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${SHORT.format(size)} ${UNITS[unit]}`;
}

/** @param {string | null} text ISO 8601 */
export function moment(text) {
  return text ? MOMENT.format(new Date(text)) : "–";
}

/** @param {number} seconds */
export function span(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

/** "minute", "5 minutes". @param {number} seconds */
export function minutes(seconds) {
  const count = Math.max(1, Math.round(seconds / 60));
  return count === 1 ? "minute" : `${count} minutes`;
}

/** @param {string | null} owner */
export function ownerName(owner) {
  return owner ?? "nobody";
}
