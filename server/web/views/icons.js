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
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
