/** What is attached to a message that is being written: pictures inline, other files uploaded. */

import { locale, texts } from "./language.js";

export const MOST_BYTES = 3_000_000;
const MOST_FILES = 20;
const ONE_DIGIT = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

/** @typedef {{image_urls: string[], file_urls: string[]}} Packed */

/** @returns {Packed} */
export function nothingPacked() {
  return { image_urls: [], file_urls: [] };
}

/**
 * @typedef {object} Attachment
 * @property {number} key
 * @property {File} file
 * @property {boolean} picture
 * @property {string} [url] A picture's data URL, once it is read.
 * @property {string} [path] Where the workspace has the file, once it is there.
 * @property {"reading" | "ready" | "sending" | "failed"} stage
 * @property {string} [reason]
 */

let lastKey = 0;

export class Attachments {
  /** @type {Attachment[]} */
  items = [];

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  get bytes() {
    return this.items.reduce((sum, item) => sum + item.file.size, 0);
  }

  /**
   * @param {Iterable<File>} files
   * @returns {string[]} why some were not taken
   */
  add(files) {
    const refusals = [];
    for (const file of files) {
      const refusal = this.#refusal(file);
      if (refusal) refusals.push(refusal);
      else this.#take(file);
    }
    this.changed();
    return refusals;
  }

  /** @param {number} key */
  remove(key) {
    this.items = this.items.filter((item) => item.key !== key);
    this.changed();
  }

  clear() {
    this.items = [];
    this.changed();
  }

  /**
   * Uploads the files that are not uploaded yet.
   *
   * @param {(file: File) => Promise<string>} upload
   * @returns {Promise<Packed | null>} null when something failed, which its item tells
   */
  async pack(upload) {
    for (const item of this.items) {
      if (item.picture || item.path) continue;
      this.#set(item, { stage: "sending", reason: undefined });
      try {
        this.#set(item, { path: await upload(item.file), stage: "ready" });
      } catch (error) {
        this.#set(item, { stage: "failed", reason: error instanceof Error ? error.message : String(error) });
      }
    }
    if (this.items.some((item) => item.stage !== "ready")) return null;
    return {
      image_urls: this.items.flatMap((item) => item.url ?? []),
      file_urls: this.items.flatMap((item) => item.path ?? []),
    };
  }

  /** @param {File} file */
  #refusal(file) {
    if (file.size > MOST_BYTES) return texts.attachments.tooLarge(file.name, sizeText(file.size));
    if (this.bytes + file.size > MOST_BYTES) return texts.attachments.noRoom(file.name);
    if (this.items.length >= MOST_FILES) return texts.attachments.tooMany(file.name, MOST_FILES);
    return "";
  }

  /** @param {File} file */
  #take(file) {
    lastKey += 1;
    const picture = PICTURES.has(file.type);
    /** @type {Attachment} */
    const item = { key: lastKey, file, picture, stage: picture ? "reading" : "ready" };
    this.items = [...this.items, item];
    if (!picture) return;
    const reader = new FileReader();
    reader.addEventListener("load", () => this.#set(item, { url: String(reader.result), stage: "ready" }));
    reader.addEventListener("error", () => this.#set(item, { stage: "failed", reason: texts.attachments.unreadable }));
    reader.readAsDataURL(file);
  }

  /** @param {Attachment} item @param {Partial<Attachment>} facts */
  #set(item, facts) {
    Object.assign(item, facts);
    this.changed();
  }
}

/**
 * The message's text with the paths of the uploaded files, for agents.
 *
 * @param {string} text
 * @param {Packed} packed
 */
export function withPaths(text, { file_urls }) {
  if (file_urls.length === 0) return text;
  return [text, `${texts.attachments.list}\n${file_urls.map((path) => `- ${path}`).join("\n")}`].filter(Boolean).join("\n\n");
}

/** @param {number} bytes */
export function sizeText(bytes) {
  if (bytes < 1_000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${Math.round(bytes / 1_000)} KB` : `${(bytes / 1_000_000).toLocaleString(locale, ONE_DIGIT)} MB`;
}
