/**
 * What the address names is requested while the modules behind this one are still evaluated, so that it
 * is mostly here before the page is painted for the first time: `app.js` imports this module first.
 */

import { Api } from "./api.js";
import { Http } from "./http.js";
import { addressedId } from "./router.js";

export const http = new Http();
export const api = new Api(http);

const id = addressedId();

/** @type {import("./types.js").Opening | null} null on the front page */
export const opening = id === null ? null : { id, answer: api.opening(id) };
