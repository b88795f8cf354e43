/** What changed in a file, line by line: read from a unified diff, or found between two texts. */

/**
 * @typedef {object} Line
 * @property {"same" | "added" | "removed" | "gap"} sign `gap` stands for lines left out.
 * @property {number | null} before Its number in the old text.
 * @property {number | null} after Its number in the new text.
 * @property {string} text
 */

const CONTEXT_LINES = 3;
/** Beyond this many insertions and removals the search costs more than it explains. */
const MOST_EDITS = 600;
const HUNK = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@ ?(.*)$/;

/**
 * @param {string} diff Unified, with or without file headers.
 * @returns {Line[]}
 */
export function readUnified(diff) {
  /** @type {Line[]} */
  const lines = [];
  let before = 1;
  let after = 1;
  let begun = !/^@@ /m.test(diff);
  for (const raw of diff.replace(/\n$/, "").split("\n")) {
    const hunk = HUNK.exec(raw);
    if (hunk) {
      begun = true;
      [before, after] = [Number(hunk[1]), Number(hunk[2])];
      if (before > 1 || lines.length > 0) lines.push({ sign: "gap", before: null, after: null, text: hunk[3] });
    } else if (!begun || raw.startsWith("\\") || /^(?:---|\+\+\+) /.test(raw) && lines.length === 0) continue;
    else if (raw.startsWith("+")) lines.push({ sign: "added", before: null, after: after++, text: raw.slice(1) });
    else if (raw.startsWith("-")) lines.push({ sign: "removed", before: before++, after: null, text: raw.slice(1) });
    else lines.push({ sign: "same", before: before++, after: after++, text: raw.replace(/^ /, "") });
  }
  return lines;
}

/**
 * The shortest edit script from one text to the other, with three lines of context; where the texts have
 * too little in common, everything in between is removed and added.
 *
 * @param {string} old
 * @param {string} fresh
 * @returns {Line[]}
 */
export function changesBetween(old, fresh) {
  const a = linesOf(old);
  const b = linesOf(fresh);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const signs = [
    ...Array(head).fill("same"),
    ...scriptOf(a.slice(head, a.length - tail), b.slice(head, b.length - tail)),
    ...Array(tail).fill("same"),
  ];
  return shortened(numbered(signs, a, b));
}

/**
 * @param {Line[]} lines
 * @returns {{added: number, removed: number}}
 */
export function countChanges(lines) {
  const count = { added: 0, removed: 0 };
  for (const { sign } of lines) if (sign === "added" || sign === "removed") count[sign] += 1;
  return count;
}

/** @param {string} text */
function linesOf(text) {
  return text === "" ? [] : text.replace(/\n$/, "").split("\n");
}

/**
 * The greedy search by E. W. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986).
 *
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Line["sign"][]}
 */
function scriptOf(a, b) {
  /** @type {Map<number, number>[]} */
  const trail = [];
  let reach = new Map([[1, 0]]);
  const most = Math.min(a.length + b.length, MOST_EDITS);
  for (let edits = 0; edits <= most; edits += 1) {
    trail.push(new Map(reach));
    for (let k = -edits; k <= edits; k += 2) {
      let x = stepsDown(reach, k, edits) ? (reach.get(k + 1) ?? 0) : (reach.get(k - 1) ?? 0) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkedBack(trail, a.length, b.length);
    }
  }
  return [...Array(a.length).fill("removed"), ...Array(b.length).fill("added")];
}

/**
 * @param {Map<number, number>} reach
 * @param {number} k
 * @param {number} edits
 */
function stepsDown(reach, k, edits) {
  return k === -edits || (k !== edits && (reach.get(k - 1) ?? 0) < (reach.get(k + 1) ?? 0));
}

/**
 * @param {Map<number, number>[]} trail
 * @param {number} x
 * @param {number} y
 */
function walkedBack(trail, x, y) {
  /** @type {Line["sign"][]} */
  const signs = [];
  for (let edits = trail.length - 1; edits >= 0; edits -= 1) {
    const reach = trail[edits];
    const k = x - y;
    const down = stepsDown(reach, k, edits);
    const startX = edits === 0 ? 0 : (reach.get(down ? k + 1 : k - 1) ?? 0);
    const startY = edits === 0 ? 0 : startX - (down ? k + 1 : k - 1);
    const sameFrom = edits === 0 ? 0 : startX + (down ? 0 : 1);
    for (; x > sameFrom; x -= 1, y -= 1) signs.push("same");
    if (edits > 0) signs.push(down ? "added" : "removed");
    [x, y] = [startX, startY];
  }
  return signs.reverse();
}

/**
 * @param {Line["sign"][]} signs
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Line[]}
 */
function numbered(signs, a, b) {
  let before = 0;
  let after = 0;
  return signs.map((sign) => {
    if (sign === "added") return { sign, before: null, after: after + 1, text: b[after++] };
    if (sign === "removed") return { sign, before: before + 1, after: null, text: a[before++] };
    after += 1;
    return { sign, before: before + 1, after, text: a[before++] };
  });
}

/** @param {Line[]} lines */
function shortened(lines) {
  const kept = new Uint8Array(lines.length);
  lines.forEach(({ sign }, at) => {
    if (sign !== "same") kept.fill(1, Math.max(0, at - CONTEXT_LINES), at + CONTEXT_LINES + 1);
  });
  /** @type {Line[]} */
  const shown = [];
  lines.forEach((line, at) => {
    if (kept[at]) shown.push(line);
    else if (shown.length > 0 && shown.at(-1)?.sign !== "gap") shown.push({ sign: "gap", before: null, after: null, text: "" });
  });
  if (shown.at(-1)?.sign === "gap") shown.pop();
  return shown;
}
