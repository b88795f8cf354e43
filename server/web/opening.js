/**
 * Requests the conversation that the address names, and what it is shown with, while the remaining modules are
 * evaluated, so that it has usually arrived before the first paint: `app.js` imports this module first.
 */

import { Api } from "./api.js";
import { Http } from "./http.js";
import { conversationParts } from "./later.js";
import { addressedId } from "./router.js";

export const http = new Http();
export const api = new Api(http);

const id = addressedId();

/** @type {import("./types.js").Opening | null} null on the front page */
export const opening = id === null ? null : { id, answer: api.opening(id) };

// Whoever shows it asks again, and is told if it fails.
if (id !== null) conversationParts().catch(() => {});
