/** Terminal output as people see it: colours kept, every other control sequence left out. */

/**
 * @typedef {object} Run A stretch of text of one look.
 * @property {string} text
 * @property {string} look Class names, "" for plain text.
 */

// Strings such as titles and links, then CSI sequences, then two-character sequences.
const SEQUENCE = /\u001b[P\]X^_][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|(?:\u001b\[|\u009b)([0-?]*)[ -/]*([@-~])?|\u001b[ -/]*[0-~]?/g;
const CONTROL = /[\u0000-\u0007\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** @type {Record<number, [string, boolean]>} */
const STYLES = {
  1: ["bold", true],
  2: ["dim", true],
  3: ["italic", true],
  4: ["underlined", true],
  22: ["bold", false],
  23: ["italic", false],
  24: ["underlined", false],
};

/**
 * @param {string} text
 * @returns {Run[]} never empty runs, neighbours of different looks
 */
export function runsOf(text) {
  /** @type {Run[]} */
  const runs = [];
  const pen = new Pen();
  let end = 0;
  const source = overwritten(text);
  for (const match of source.matchAll(SEQUENCE)) {
    push(runs, source.slice(end, match.index), pen.look);
    end = match.index + match[0].length;
    if (match[2] === "m") pen.apply(match[1] ?? "");
  }
  push(runs, source.slice(end), pen.look);
  return runs;
}

/** The same without its colours. @param {string} text */
export function plainOf(text) {
  return runsOf(text).map((run) => run.text).join("");
}

class Pen {
  #colour = "";
  #styles = new Set();

  get look() {
    return [this.#colour, ...this.#styles].filter(Boolean).map((name) => `ansi-${name}`).join(" ");
  }

  /** @param {string} parameters */
  apply(parameters) {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 38 || code === 48) at += this.#extended(code, codes, at);
      else this.#plain(code);
    }
  }

  /** @param {number} code */
  #plain(code) {
    const style = STYLES[code];
    if (code === 0) {
      this.#colour = "";
      this.#styles.clear();
    } else if (style?.[1]) this.#styles.add(style[0]);
    else if (style) this.#styles.delete(style[0]);
    else if (code === 39) this.#colour = "";
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) this.#colour = COLOURS[code % 10];
    if (code === 22) this.#styles.delete("dim");
  }

  /**
   * Only the sixteen named colours are known to be readable on this page.
   *
   * @param {number} code
   * @param {number[]} codes
   * @param {number} at
   * @returns {number} how many parameters belong to it
   */
  #extended(code, codes, at) {
    if (codes[at + 1] === 2) return 4;
    const named = codes[at + 2];
    if (code === 38) this.#colour = named < 16 ? COLOURS[named % 8] : "";
    return 2;
  }
}

/** A lone carriage return writes a line anew, as progress bars do. @param {string} text */
function overwritten(text) {
  if (!text.includes("\r")) return text;
  return text
    .replaceAll("\r\n", "\n")
    .split("\n")
    .map(lastWriting)
    .join("\n");
}

/** @param {string} line */
function lastWriting(line) {
  let end = line.length;
  while (line[end - 1] === "\r") end -= 1;
  return end === 0 ? "" : line.slice(line.lastIndexOf("\r", end - 1) + 1, end);
}

/**
 * @param {Run[]} runs
 * @param {string} text
 * @param {string} look
 */
function push(runs, text, look) {
  const clean = text.replace(CONTROL, "");
  if (!clean) return;
  const last = runs.at(-1);
  if (last && last.look === look) last.text += clean;
  else runs.push({ text: clean, look });
}
