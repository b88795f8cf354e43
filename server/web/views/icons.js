/** Line icons on a 16-unit grid, drawn in the text's colour. */

const SVG = "http://www.w3.org/2000/svg";

/** @type {Record<string, string>} */
const PATHS = {
  plus: "M8 3v10M3 8h10",
  pencil: "M10.5 3.5l2 2L6 12l-2.6.6L4 10z",
  bin: "M3.5 4.5h9M6.5 4.5V3h3v1.5M5 4.5l.5 8.5h5l.5-8.5",
  halt: "M4.5 4.5h7v7h-7z",
  play: "M5.5 3.8v8.4L12 8z",
  send: "M8 13V3.5M4 7l4-4 4 4",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h7",
  cross: "M4 4l8 8M12 4l-8 8",
  down: "M8 3v9.5M4 9l4 4 4-4",
  copy: "M6 5.5V3.5h6.5V10H10.5M3.5 6H10v6.5H3.5z",
  tick: "M3.5 8.5l3 3 6-7",
  lens: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.3 10.3l3.2 3.2",
  funnel: "M2.5 4h11M4.5 8h7M6.5 12h3",
  clip: "M13 7.5l-5.2 5.2a3 3 0 0 1-4.3-4.3l5.6-5.6a2 2 0 0 1 2.9 2.9l-5.5 5.5a1 1 0 0 1-1.5-1.4L9.7 5",
  file: "M4 2.5h5l3 3v8H4zM9 2.5v3h3",
  folder: "M2.5 4h4l1.5 2h5.5v6.5h-11z",
  back: "M13 8H3.5M7.5 4l-4 4 4 4",
  save: "M8 2.5v7M5 7l3 3 3-3M3 11v2.5h10V11",
  gear: "M3 4.5h6.5M12.5 4.5h.5M3 11.5h.5M6.5 11.5H13M11 6a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM5 13a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3z",
  key: "M6 12.5a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 7.8L13 3M10.5 5.5l1.8 1.8",
  half: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 2.5v11M10.5 4v8M9.3 3v10",
  sun: "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9",
  moon: "M13 9.5A5.3 5.3 0 1 1 6.5 3a4.3 4.3 0 0 0 6.5 6.5z",
};

/** What was drawn before: copies of it are cheaper. @type {Map<string, SVGElement>} */
const drawn = new Map();

/** @param {keyof typeof PATHS} name @returns {SVGElement} */
export function icon(name) {
  const known = drawn.get(name) ?? drawing(name);
  drawn.set(name, known);
  return /** @type {SVGElement} */ (known.cloneNode(true));
}

/** @param {keyof typeof PATHS} name */
function drawing(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
