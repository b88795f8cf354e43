/** Which addresses in a text may become links. */

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/**
 * The URL to link to, or null unless the text is an absolute URL of an allowed scheme.
 *
 * @param {unknown} href
 * @returns {string | null}
 */
export function linkAddress(href) {
  if (typeof href !== "string") return null;
  let address;
  try {
    // Parsed without a base: relative URLs are meaningless outside the agent's workspace.
    address = new URL(href);
  } catch {
    return null;
  }
  return SCHEMES.has(address.protocol) ? address.href : null;
}
