/** Puts the admin page together: which part is shown, when it is asked for anew, the key, the drain. */

import { slot } from "../views/dom.js";
import { AdminApi, AdminError } from "./api.js";
import { confirmed } from "./parts.js";
import { redraw } from "./redraw.js";
import { audit } from "./views/audit.js";
import { connections } from "./views/connections.js";
import { conversations } from "./views/conversations.js";
import { mountKeyForm } from "./views/key-form.js";
import { closingText, History, overview } from "./views/overview.js";
import { server } from "./views/server.js";
import { usage } from "./views/usage.js";

const POLL_MS = 2_000;
const PARTS = { conversations, usage, audit, server };

const stage = slot("main");
const trouble = slot("trouble");
const ready = slot("ready");
const drain = /** @type {HTMLButtonElement} */ (slot("drain"));
const history = new History();
const askForKey = mountKeyForm((key) => {
  api.useKey(key);
  show();
});
const api = new AdminApi(() => {
  clearTimeout(timer);
  askForKey();
});
const tools = { api, confirm: confirmed, attempt };
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let polling = false;
let shown = "";

/**
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T | undefined>}
 */
async function attempt(work) {
  try {
    const result = await work();
    trouble.hidden = true;
    return result;
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    trouble.textContent = error.message;
    trouble.hidden = error.status === 401;
    return undefined;
  }
}

function show() {
  const wanted = location.hash.slice(1);
  shown = wanted in PARTS || wanted === "connections" ? wanted : "overview";
  for (const tab of document.querySelectorAll("[data-part]")) {
    if (tab.getAttribute("data-part") === shown) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  stage.replaceChildren(...(shown in PARTS ? PARTS[shown](tools) : []));
  poll();
}

/** Ask what goes on, draw it, and again in a moment: while somebody sees it. */
async function poll() {
  clearTimeout(timer);
  if (polling || document.hidden) return;
  polling = true;
  const now = await attempt(() => api.get("overview"));
  polling = false;
  if (now) {
    history.add(now);
    tell(now);
    await drawLive();
  } else {
    ready.textContent = "Unknown";
    ready.dataset.state = "bad";
  }
  const asking = /** @type {HTMLDialogElement} */ (slot("key-dialog")).open;
  clearTimeout(timer);
  if (!asking) timer = setTimeout(poll, POLL_MS);
}

async function drawLive() {
  const part = shown;
  if (part !== "overview" && part !== "connections") return;
  const found = await attempt(() => api.get(part === "overview" ? "loops" : "connections"));
  if (!found || part !== shown) return;
  const parts = part === "overview"
    ? overview(history, found.results, closeLoop)
    : connections(found.results, tools, poll);
  redraw(stage, parts);
}

/** @param {any} now */
function tell(now) {
  const draining = now.not_ready.includes("draining");
  ready.textContent = now.not_ready.length ? now.not_ready.join(", ") : "ready";
  ready.dataset.state = now.not_ready.length ? "warn" : "good";
  drain.disabled = false;
  drain.setAttribute("aria-pressed", String(draining));
  drain.textContent = draining ? "End drain" : "Drain";
}

/** @param {string} id */
async function closeLoop(id) {
  const sure = await confirmed("Close this loop?", closingText(id), "Close loop");
  if (sure && await attempt(() => api.post(`loops/${encodeURIComponent(id)}/close`))) poll();
}

async function switchDrain() {
  if (drain.getAttribute("aria-pressed") === "true") {
    if (await attempt(() => api.remove("drain"))) poll();
    return;
  }
  const text = "New conversations and connections are refused. Agents stop when they are idle, or after 30 seconds. Open connections stay. You can end the drain at any time.";
  if (await confirmed("Drain this server?", text, "Drain") && await attempt(() => api.post("drain", { deadline_seconds: 30 }))) poll();
}

drain.addEventListener("click", switchDrain);
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", poll);
show();
