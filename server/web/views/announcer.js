/** What a screen reader is told: states as they change, and new messages of the agent. */

import { agentStateText, connectionText } from "../wording.js";
import { slot } from "./dom.js";

const MOST_CHARACTERS = 300;

/**
 * @param {import("../store.js").Store} store
 * @returns {(text: string) => void} announces a message of the agent
 */
export function mountAnnouncer(store) {
  const region = slot("announcer");
  store.watch(["connection", "polls"], () => {
    const { connection, polls } = store.state;
    if (connection === "connected" || connection === "reconnecting") region.textContent = connectionText(connection, polls);
  });
  store.watch(["agentState", "waits"], () => {
    const { agentState, waits } = store.state;
    if (waits) region.textContent = waits;
    else if (agentState) region.textContent = `Agent: ${agentStateText(agentState)}`;
  });
  return (text) => {
    region.textContent = `Agent says: ${text.slice(0, MOST_CHARACTERS)}`;
  };
}
