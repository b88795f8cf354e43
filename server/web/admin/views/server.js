/** The storage, and the settings in force. */

import { h } from "../../views/dom.js";
import { button, panel, table } from "../parts.js";
import { bytes, moment, whole } from "../wording.js";

/** @param {import("../parts.js").Tools} tools */
export function server(tools) {
  const storage = h("div", { data: { testid: "storage" } });
  const settings = h("div", { data: { testid: "settings" } });

  /** @param {boolean} check */
  async function loadStorage(check) {
    const found = await tools.attempt(() => tools.api.get("storage", { check: check ? "true" : "" }));
    if (!found) return;
    const told = (value) => (value === null ? "–" : whole(value));
    const mark = found.integrity
      ? `${found.integrity.sound ? "Sound" : found.integrity.text}, ${moment(found.integrity.checked_at)}`
      : found.medium === "sqlite" ? "Not checked since the server started" : "Each record is checked when it is read";
    const facts = [
      ["Medium", found.medium], ["Location", found.place ?? "–"], ["Size", bytes(found.bytes_used)],
      ["Write-ahead log", bytes(found.wal_bytes)], ["Files", told(found.files)], ["Conversations", told(found.conversations)],
      ["Deleted", told(found.deleted_conversations)], ["Events", told(found.events)],
      ["Schema", told(found.schema_version)], ["Integrity", mark],
    ];
    storage.replaceChildren(h("dl", { class: "facts" },
      ...facts.map(([name, value]) => h("div", { class: "facts__one" }, h("dt", {}, name), h("dd", {}, value)))));
  }

  async function loadSettings() {
    const found = await tools.attempt(() => tools.api.get("settings"));
    if (!found) return;
    const rows = found.results.map((one) => ({
      id: one.name, cells: [h("code", {}, one.name), h("code", {}, text(one.value)), one.source],
    }));
    settings.replaceChildren(table("Effective settings", ["Setting", "Value", "Source"], rows, "None."));
  }

  loadStorage(false);
  loadSettings();
  const check = button("Check integrity", () => loadStorage(true), { data: { testid: "check" } });
  return [panel("Storage", [check], storage), panel("Effective settings", [], settings)];
}

/** @param {any} value */
function text(value) {
  if (value === null) return "not set";
  return typeof value === "string" ? value : JSON.stringify(value);
}
