/** The files of the workspace: list, preview, download. */

import { sizeText } from "../attachments.js";
import { fullTime } from "../clock.js";
import { numberText, texts } from "../language.js";
import { makeDialog } from "./dialog.js";
import { h } from "./dom.js";
import { hand } from "./export-menu.js";
import { icon } from "./icons.js";

/** @typedef {import("../types.js").WorkspaceFolder} WorkspaceFolder */
/** @typedef {import("../types.js").FilePreview} FilePreview */
/**
 * @typedef {object} FilesApi
 * @property {(id: string, folder: string) => Promise<WorkspaceFolder>} folder
 * @property {(id: string, file: string) => Promise<FilePreview>} preview
 * @property {(id: string, file: string) => Promise<Blob>} file
 */

/**
 * @param {import("../store.js").Store} store
 * @param {FilesApi} api
 * @returns {{open: () => void}}
 */
export function mountFilesDialog(store, api) {
  const crumbs = h("nav", { class: "workspace__crumbs", "aria-label": texts.files.folder });
  const note = h("p", { class: "workspace__note", role: "status", data: { testid: "files-note" } });
  const list = h("ul", { class: "workspace__list", "aria-label": texts.files.title, data: { testid: "files-list" } });
  const browse = h("div", { class: "workspace__browse" }, crumbs, list, note);
  const preview = h("section", { class: "workspace__preview", "aria-label": texts.files.preview, data: { testid: "files-preview" } });
  const body = h("div", { class: "workspace" }, browse, preview);
  const { dialog, open } = makeDialog("files-dialog", texts.files.title, body);
  dialog.classList.add("dialog--files");
  /** Grows with each request: an answer to an earlier one is thrown away. */
  let asked = 0;
  /** What has the focus when the preview is closed. @type {HTMLElement | null} */
  let opener = null;

  /** @param {unknown} error */
  const complain = (error) => tell(error instanceof Error ? error.message : String(error), true);
  /** @param {string} text @param {boolean} [bad] */
  const tell = (text, bad = false) => {
    note.textContent = text;
    note.dataset.bad = String(bad);
  };

  /** @param {string} path @param {boolean} moves Whether the focus belongs into the folder. */
  const show = async (path, moves) => {
    const { openId } = store.state;
    if (openId === null) return;
    const mine = ++asked;
    list.setAttribute("aria-busy", "true");
    try {
      const folder = await api.folder(openId, path);
      if (mine !== asked) return;
      crumbs.replaceChildren(...steps(folder.path));
      list.replaceChildren(...folder.entries.map(row));
      tell(aboutFolder(folder));
      if (moves) (list.querySelector("button") ?? crumbs.querySelector("button"))?.focus();
    } catch (error) {
      if (mine === asked) complain(error);
    }
    list.removeAttribute("aria-busy");
  };

  /** @param {string} path */
  const steps = (path) => {
    const parts = path === "" ? [] : path.split("/");
    return [texts.files.workspace, ...parts].map((name, depth) => {
      const here = depth === parts.length;
      const target = parts.slice(0, depth).join("/");
      return h("button", { type: "button", class: "workspace__crumb", dir: "auto", "aria-current": here ? "location" : null, onclick: () => show(target, true) }, name);
    });
  };

  /** @param {import("../types.js").FolderEntry} entry */
  const row = (entry) => {
    const folder = entry.kind === "folder";
    const size = entry.size === null ? "" : sizeOf(entry.size);
    const opens = h(
      "button",
      {
        type: "button",
        class: "workspace__entry",
        data: { testid: "files-entry", kind: entry.kind },
        onclick: () => void (folder ? show(entry.path, true) : look(entry.path, opens)),
      },
      icon(folder ? "folder" : "file"),
      h("span", { class: "workspace__name", dir: "auto" }, entry.name),
      h("span", { class: "workspace__size" }, size),
    );
    return h("li", { class: "workspace__row" }, opens, folder ? null : saveButton(entry.path));
  };

  /** @param {string} path */
  const saveButton = (path) => {
    const label = texts.files.download(nameOf(path));
    return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, data: { testid: "files-download" }, onclick: () => void save(path) }, icon("save"));
  };

  /** @param {string} path */
  const save = async (path) => {
    const { openId } = store.state;
    if (openId === null) return;
    try {
      hand(await api.file(openId, path), nameOf(path));
    } catch (error) {
      complain(error);
    }
  };

  /** @param {string} path @param {HTMLElement} from */
  const look = async (path, from) => {
    const { openId } = store.state;
    if (openId === null) return;
    const mine = ++asked;
    try {
      const file = await api.preview(openId, path);
      const shown = await contentOf(file, () => api.file(openId, path));
      if (mine !== asked) return;
      opener = from;
      const title = h("h3", { class: "workspace__title", tabindex: "-1", dir: "auto" }, nameOf(path));
      const back = h("button", { type: "button", class: "icon-button", "aria-label": texts.files.closePreview, title: texts.files.closePreview, data: { testid: "files-back" }, onclick: close }, icon("back"));
      const head = h("div", { class: "workspace__head" }, back, title, h("span", { class: "workspace__size" }, sizeOf(file.size)), saveButton(path));
      preview.replaceChildren(head, shown, ...(file.cut ? [h("p", { class: "workspace__note" }, texts.files.isCut)] : []));
      dialog.dataset.previews = "true";
      if (note.dataset.bad === "true") tell("");
      title.focus();
    } catch (error) {
      if (mine === asked) complain(error);
    }
  };

  const close = () => {
    forget();
    opener?.focus();
  };
  const forget = () => {
    delete dialog.dataset.previews;
    preview.replaceChildren();
  };

  store.watch(["openId"], () => dialog.close());
  return {
    open() {
      forget();
      list.replaceChildren();
      crumbs.replaceChildren(...steps(""));
      tell("");
      open();
      void show("", false);
    },
  };
}

/**
 * @param {FilePreview} file
 * @param {() => Promise<Blob>} read
 * @returns {Promise<HTMLElement>}
 */
async function contentOf(file, read) {
  if (file.kind === "text") {
    return h("pre", { class: "workspace__text", tabindex: "0", role: "region", "aria-label": texts.files.text, dir: "ltr", data: { testid: "files-text" } }, file.text ?? "");
  }
  if (file.kind === "image") {
    return h("img", { class: "workspace__image", src: await dataUrl(await read()), alt: nameOf(file.path), data: { testid: "files-image" } });
  }
  return h("p", { class: "workspace__other", data: { testid: "files-other" } }, texts.files.other);
}

/** The page may show no other addresses. @param {Blob} blob @returns {Promise<string>} */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(new Error(texts.files.noPicture)));
    reader.readAsDataURL(blob);
  });
}

/** @param {WorkspaceFolder} folder */
function aboutFolder(folder) {
  const said = [];
  if (folder.entries.length === 0) said.push(folder.path === "" ? texts.files.none : texts.files.empty);
  if (folder.more > 0) said.push(texts.files.more(numberText(folder.more)));
  if (!folder.running && folder.kept_at !== null) said.push(texts.files.kept(fullTime(folder.kept_at)));
  return said.join(" ");
}

/** @param {number} bytes */
function sizeOf(bytes) {
  return bytes < 1_000 ? texts.files.bytes(bytes) : sizeText(bytes);
}

/** @param {string} path */
function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}
