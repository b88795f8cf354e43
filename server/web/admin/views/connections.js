/** Live connections: who is connected, how far behind, and a way to end one. */

import { h } from "../../views/dom.js";
import { button, free, panel, table } from "../parts.js";
import { bytes, ownerName, whole } from "../wording.js";

/**
 * @param {any[]} found
 * @param {import("../parts.js").Tools} tools
 * @param {() => void} changed
 */
export function connections(found, tools, changed) {
  /** @param {any} one */
  async function disconnect(one) {
    const text = `The connection from ${one.client ?? "this client"} is closed. A client that is still open reconnects by itself and continues where it was.`;
    const sure = await tools.confirm("Disconnect this client?", text, "Disconnect");
    if (sure && await tools.attempt(() => tools.api.post(`connections/${encodeURIComponent(one.connection_id)}/disconnect`))) changed();
  }
  const rows = found.map((one) => ({
    id: one.connection_id,
    cells: [
      one.client ?? "long polling", free(ownerName(one.user_id)), h("code", {}, one.conversation_id), whole(one.position),
      one.lag ? h("strong", { class: "behind" }, whole(one.lag)) : "0", bytes(one.queued_bytes),
      button("Disconnect", () => disconnect(one), { "aria-label": `Disconnect ${one.client ?? "the client"} from ${one.conversation_id}` }),
    ],
  }));
  const note = h("span", { class: "panel__note" }, `${whole(found.length)} open`);
  const columns = ["Client", "User", "Conversation", "Position", "Lag", "Queued", ""];
  return [panel("Connections", [note], table("Connections", columns, rows, "No connections.", new Set([3, 4, 5])))];
}
