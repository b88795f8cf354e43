/** What a header of a request can hold: Latin-1 without control characters. */

const IN_HEADERS = /^[\t\x20-\x7e\x80-\xff]+$/;

/**
 * Whether a request header can carry a key. A key that it cannot carry is left out: it is certainly wrong, and
 * the server's refusal lets the user enter another one.
 *
 * @param {string} key
 */
export function fitsHeader(key) {
  return IN_HEADERS.test(key);
}
