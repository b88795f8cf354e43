/** What goes on now, as lines over the last five minutes. */

import { h } from "../../views/dom.js";
import { lineChart } from "../charts.js";
import { free, panel, table } from "../parts.js";
import { bytes, minutes, ownerName, short, span, whole } from "../wording.js";

const ROOM = 150;
const LEAST_ROOM = 30;
const POLL_SECONDS = 2;

/** What each chart shows of an answer and the one before; null where nothing can be told. */
const SERIES = [
  { id: "events", title: "Events per second", unit: "", of: (now, then, seconds) => then && (now.counters.events - then.counters.events) / seconds },
  { id: "latency", title: "Commit latency", unit: " ms", of: commitMilliseconds },
  { id: "loops", title: "Loops", unit: "", of: (now) => now.loops.running + now.loops.starting },
  { id: "connections", title: "Connections", unit: "", of: (now) => now.connections.total },
  { id: "lag", title: "Largest lag in events", unit: "", of: (now) => now.connections.largest_lag },
  { id: "errors", title: "Errors logged per minute", unit: "", of: (now, then, seconds) => then && ((now.faults.errors - then.faults.errors) / seconds) * 60 },
];

export class History {
  constructor() {
    /** @type {Map<string, (number | null)[]>} */
    this.lines = new Map(SERIES.map((one) => [one.id, []]));
    /** @type {any} */
    this.newest = null;
  }

  /** @param {any} now */
  add(now) {
    // Counters decrease only if the server was restarted.
    const then = this.newest && now.uptime_seconds >= this.newest.uptime_seconds ? this.newest : null;
    const seconds = then ? Math.max((Date.parse(now.at) - Date.parse(then.at)) / 1000, 0.001) : 0;
    for (const one of SERIES) {
      const line = /** @type {(number | null)[]} */ (this.lines.get(one.id));
      line.push(one.of(now, then, seconds) ?? null);
      if (line.length > ROOM) line.shift();
    }
    this.newest = now;
  }
}

/**
 * @param {History} history
 * @param {any[]} loops
 * @param {(id: string) => void} closeLoop
 */
export function overview(history, loops, closeLoop) {
  const now = history.newest;
  const charts = SERIES.map((one) => {
    const values = /** @type {(number | null)[]} */ (history.lines.get(one.id));
    const newest = values.findLast((value) => value !== null);
    const shown = newest === undefined || newest === null ? "–" : `${short(newest)}${one.unit}`;
    const room = Math.max(values.length, LEAST_ROOM);
    const time = minutes(room * POLL_SECONDS);
    const known = values.filter((value) => value !== null);
    const most = known.length > 0 ? `${short(Math.max(...known))}${one.unit}` : "–";
    return h("section", { class: "tile", data: { testid: `chart-${one.id}` } },
      h("h2", { class: "tile__title" }, one.title),
      h("p", { class: "tile__now" }, shown),
      lineChart(values, room, `${one.title}: ${shown} now, highest in the last ${time} ${most}`),
      h("p", { class: "tile__most" }, `Highest in the last ${time}: ${most}`));
  });
  const facts = [
    ["Uptime", span(now.uptime_seconds)],
    ["Memory", bytes(now.resources.memory.rss)],
    ["CPU", `${short(now.resources.cpu_percent)} %`],
    ["Disk free", bytes(now.resources.disk.free)],
    ["Events since start", whole(now.counters.events)],
    ["Pending writes", whole(now.counters.waiting_writes)],
    ["Queued for clients", bytes(now.connections.queued_bytes)],
    ["Warnings, errors", `${whole(now.faults.warnings)}, ${whole(now.faults.errors)}`],
  ];
  return [
    h("div", { class: "tiles" }, ...charts),
    h("dl", { class: "facts" }, ...facts.map(([name, value]) => h("div", { class: "facts__one" }, h("dt", {}, name), h("dd", {}, value)))),
    panel("Loops", [h("span", { class: "panel__note" }, counted(now.loops))],
      table("Agent loops", ["Conversation", "Owner", "State", "Events", "Watching", ""], loops.map((loop) => ({
        id: loop.conversation_id,
        cells: [
          h("code", {}, loop.conversation_id), free(ownerName(loop.user_id)), stateOf(loop), whole(loop.events), whole(loop.connections),
          h("button", { class: "button", type: "button", "aria-label": `Close loop of ${loop.conversation_id}`, onclick: () => closeLoop(loop.conversation_id) }, "Close loop"),
        ],
      })), "No agent loop is running.", new Set([3, 4]))),
  ];
}

/** What closing the loop of a conversation means. @param {string} id */
export function closingText(id) {
  return `The agent of ${id} stops its current work. Its user can start it again.`;
}

/** @param {any} loop */
export function stateOf(loop) {
  if (loop.queued) return "Waiting for a slot";
  if (loop.working) return "Working";
  return { STARTING: "Starting", RUNNING: "Idle", STOPPED: "No loop" }[loop.status] ?? loop.status;
}

/** @param {any} loops */
function counted(loops) {
  return `${loops.working} working, ${loops.running - loops.working} idle, ${loops.starting} starting, ${loops.waiting} waiting`;
}

/**
 * @param {any} now
 * @param {any} then
 */
function commitMilliseconds(now, then) {
  const commits = then ? now.counters.commits - then.counters.commits : 0;
  if (!commits) return null;
  return ((now.counters.commit_seconds - then.counters.commit_seconds) / commits) * 1000;
}
