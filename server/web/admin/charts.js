/** Small charts as SVG: lines that move with time, bars by day. */

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 72;
const TOP = 4;

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...SVGElement} children
 * @returns {SVGElement}
 */
function svg(tag, attributes, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(NAMESPACE, tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * A line chart from zero to the largest value, with a gap at each null.
 *
 * @param {(number | null)[]} values oldest first
 * @param {number} room how many values fill the width
 * @param {string} label what it shows, for those who do not see it
 */
export function lineChart(values, room, label) {
  const top = Math.max(...values.map((value) => value ?? 0), 0) || 1;
  const step = WIDTH / (room - 1);
  const from = room - values.length;
  let line = "";
  let area = "";
  let begun = -1;
  values.forEach((value, place) => {
    if (value === null) {
      if (begun >= 0) area += closing(from + place - 1, step);
      begun = -1;
      return;
    }
    const point = `${((from + place) * step).toFixed(1)},${(y(value, top)).toFixed(1)}`;
    line += `${begun < 0 ? "M" : "L"}${point}`;
    area += begun < 0 ? `M${((from + place) * step).toFixed(1)},${HEIGHT}L${point}` : `L${point}`;
    if (begun < 0) begun = place;
  });
  if (begun >= 0) area += closing(room - 1, step);
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { class: "chart__rule", d: `M0,${HEIGHT / 2}H${WIDTH}M0,${HEIGHT - 0.5}H${WIDTH}` }),
    svg("path", { class: "chart__area", d: area }),
    svg("path", { class: "chart__line", d: line }),
  );
}

/**
 * One bar per value, from zero to the largest; negative values have no bar.
 *
 * @param {{name: string, value: number, shown: string}[]} bars
 * @param {string} label
 */
export function barChart(bars, label) {
  const top = Math.max(...bars.map((bar) => bar.value), 0) || 1;
  const step = WIDTH / Math.max(bars.length, 1);
  const width = Math.min(step * 0.72, 24);
  return svg(
    "svg",
    { class: "chart chart--bars", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { class: "chart__rule", d: `M0,${HEIGHT / 2}H${WIDTH}M0,${HEIGHT - 0.5}H${WIDTH}` }),
    ...bars.map((bar, place) => {
      const upper = y(Math.max(bar.value, 0), top);
      const title = svg("title", {});
      title.textContent = `${bar.name}: ${bar.shown}`;
      const x = (place * step + (step - width) / 2).toFixed(2);
      const box = { x, y: upper.toFixed(2), width: width.toFixed(2), height: (HEIGHT - upper).toFixed(2) };
      return svg("rect", { class: "chart__bar", ...box }, title);
    }),
  );
}

/**
 * @param {number} value
 * @param {number} top
 */
function y(value, top) {
  return HEIGHT - (value / top) * (HEIGHT - TOP);
}

/**
 * @param {number} place
 * @param {number} step
 */
function closing(place, step) {
  return `L${(place * step).toFixed(1)},${HEIGHT}Z`;
}
