/** What a screen reader is told: states as they change, and new messages of the agent. */

import { ASKING } from "../asking.js";
import { texts } from "../language.js";
import { agentStateText, confirmedStep, connectionText, riskText } from "../wording.js";
import { revealed } from "../text/revealed.js";
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
  store.watch(["agentState", "waits", "awaiting", "expired"], () => {
    const { agentState, waits, awaiting } = store.state;
    if (agentState === ASKING && awaiting) region.textContent = questionText(awaiting);
    else if (waits) region.textContent = waits;
    else if (agentState) region.textContent = texts.announcer.state(agentStateText(agentState));
  });
  return (text) => {
    region.textContent = texts.announcer.says(text.slice(0, MOST_CHARACTERS));
  };
}

/** What will run and how risky it is, and how to get there. @param {import("../types.js").Entry} asked */
function questionText({ action, expired }) {
  const { verb, object } = confirmedStep(action);
  if (expired) return texts.announcer.over(verb);
  const risk = riskText(action?.args?.security_risk);
  return `${texts.question.may(verb)} ${revealed(object).slice(0, MOST_CHARACTERS)}. ${risk ? `${risk}. ` : ""}${texts.announcer.leads}`;
}
