/** How long what the page sends may be. */

/** A packet may have 4 MiB; the frame and the event name need a little of it. */
const MOST_BYTES = 4 * 1024 * 1024 - 1024;

/** Whether something is short enough to be sent. @param {object} content */
export function fits(content) {
  return new Blob([JSON.stringify(content)]).size <= MOST_BYTES;
}
