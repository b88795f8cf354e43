/** Which addresses in a text may become links. */

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/**
 * The address to link to, or null when the text is not an absolute one of an allowed scheme.
 *
 * @param {unknown} href
 * @returns {string | null}
 */
export function linkAddress(href) {
  if (typeof href !== "string") return null;
  let address;
  try {
    // Parsed without a base: what is relative means nothing outside the agent's workspace.
    address = new URL(href);
  } catch {
    return null;
  }
  return SCHEMES.has(address.protocol) ? address.href : null;
}
