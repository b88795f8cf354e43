/** The head of the open conversation: title, agent state, connection state. */

import { numberText, texts } from "../language.js";
import { agentStateText, connectionText, shownState } from "../wording.js";
import { slot } from "./dom.js";

/** A catch-up shorter than this is not shown. */
const BEHIND_AFTER_MS = 300;

/** @param {import("../store.js").Store} store */
export function mountHeader(store) {
  const title = slot("title");
  const agent = slot("agent-state");
  const connection = slot("connection-state");
  const working = slot("working");
  let behindTimer = 0;
  let behindSeen = false;

  store.watch(["title", "openId", "missing", "newEntries"], () => {
    const { openId, missing, newEntries } = store.state;
    const text = missing ? texts.page.notFound : (store.state.title ?? (openId ? texts.page.conversation : texts.page.newConversation));
    title.textContent = text;
    title.title = text;
    document.title = `${newEntries > 0 ? `(${newEntries}) ` : ""}${openId || missing ? `${text} · Parley` : "Parley"}`;
  });

  store.watch(["agentState", "waits", "status", "openId", "connection", "writes"], () => {
    const { agentState, waits, status, openId, writes } = store.state;
    // The agent's state is unknown while the connection is down.
    agent.hidden = openId === null || (agentState === "" && !waits) || store.state.connection === "reconnecting";
    agent.dataset.state = shownState(store.state);
    agent.textContent = agentStateText(shownState(store.state));
    const connected = store.state.connection === "connected";
    const lost = writes && !connected;
    slot("writing").toggleAttribute("data-still", lost);
    working.toggleAttribute("data-still", lost);
    const works = agentState === "running" && connected ? texts.transcript.working : "";
    const text = lost ? texts.connection.lost : waits && connected ? waits : status || works;
    working.hidden = text === "";
    working.textContent = text;
  });

  const showConnection = () => {
    const state = store.state;
    const behind = behindSeen && state.connection === "connected" && state.behind > 0;
    connection.hidden = state.openId === null || state.missing;
    const polls = state.connection === "connected" && state.polls;
    connection.dataset.state = behind ? "behind" : polls ? "polling" : state.connection;
    connection.textContent = behind ? texts.connection.behind(numberText(state.behind)) : connectionText(state.connection, state.polls);
    connection.title = polls ? texts.connection.whyPolling : "";
  };
  store.watch(["connection", "polls", "openId", "missing", "behind"], () => {
    if (store.state.behind === 0) {
      clearTimeout(behindTimer);
      behindTimer = 0;
      behindSeen = false;
    } else if (behindTimer === 0) {
      behindTimer = setTimeout(() => {
        behindSeen = true;
        showConnection();
      }, BEHIND_AFTER_MS);
    }
    showConnection();
  });
}
