/** Composes the page: connects the objects with each other. */

import { api, http, opening } from "./opening.js";
import { Account } from "./account.js";
import { Asking } from "./asking.js";
import { Catalogue } from "./catalogue.js";
import { Drafts } from "./drafts.js";
import { idle, showsAll } from "./idle.js";
import { texts } from "./language.js";
import { loadWhenIdle, whenOpened } from "./later.js";
import { fits } from "./message-size.js";
import { Reach } from "./reach.js";
import { Removals } from "./removals.js";
import { addressedId, Router } from "./router.js";
import { readSessionKey, saveSessionKey } from "./session-key.js";
import { listenForShortcuts } from "./shortcuts.js";
import { mountSound } from "./sound.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { Unread } from "./unread.js";
import { mountAllowed } from "./views/allowed.js";
import { mountComposer } from "./views/composer.js";
import { mountConfirmation } from "./views/confirmation.js";
import { slot } from "./views/dom.js";
import { mountDrawer } from "./views/drawer.js";
import { mountEarlier } from "./views/earlier.js";
import { mountElapsed } from "./views/elapsed.js";
import { mountExportMenu } from "./views/export-menu.js";
import { mountFilesButton } from "./views/files-button.js";
import { mountFound } from "./views/found.js";
import { mountHeader } from "./views/header.js";
import { mountKeyForm } from "./views/key-form.js";
import { mountNotices } from "./views/notices.js";
import { mountOffline } from "./views/offline.js";
import { mountRefusal } from "./views/refusal.js";
import { mountSearch } from "./views/search.js";
import { mountSidebar } from "./views/sidebar.js";
import { mountThemeButton } from "./views/theme-button.js";
import { mountToasts } from "./views/toasts.js";
import { mountTurnCost } from "./views/turn-cost.js";
import { mountUsage } from "./views/usage.js";
import { mountWelcome } from "./views/welcome.js";

const store = new Store();
http.listener = {
  keptOut: (error) => store.set(error.asksForKey ? { needsKey: true } : { refusal: error.message }),
  reached: (reached) => reach.heard(reached),
};
const account = new Account(http);
const drafts = new Drafts();
const catalogue = new Catalogue(api, store, (id) => drafts.set(id, ""));
const unread = new Unread(store, (id, atMs) => api.movedSince(id, atMs));
const asking = new Asking(store, (id) => api.newestState(id));
const removals = new Removals(store, (id, how) => {
  // The page will not learn what came of it.
  if (how.keepalive) drafts.set(id, "");
  return catalogue.remove(id, how);
});
const reach = new Reach(store, { ask: () => api.alive(), back });
const drawer = mountDrawer();

/** Clears the failures of an outage, and reloads the list. */
function back() {
  store.notice("request", "");
  void catalogue.recover();
}

const stage = new Stage(store, api, catalogue, unread, opening, ({ mountPending }) =>
  mountPending(store, {
    retry: (clientId) => stage.conversation?.retry(clientId),
    discard: (clientId) => stage.conversation?.discard(clientId),
  }),
);
const router = new Router((id) => {
  drawer.close();
  stage.open(id);
});

/** The conversation into which the files of the front page's message were uploaded. @type {string | null} */
let prepared = null;
const composer = mountComposer(store, drafts, {
  say: (text, packed) => (store.state.openId === null ? beginWith(text, packed) : stage.say(text, packed)),
  upload: async (id, file) => api.upload(id ?? (await prepare()), file),
  stop: () => void stage.conversation?.stop(),
  resume: () => stage.conversation?.resume(),
});
stage.ready = () => composer.focus();
stage.open(addressedId());
mountHeader(store);
mountUsage(store);
mountTurnCost((turn) => stage.conversation?.costOf(turn) ?? null);
mountNotices(store);
mountOffline(store, () => reach.retry());
mountExportMenu(store, api);
const filesDialog = later(({ mountFilesDialog }) => mountFilesDialog(store, api));
mountFilesButton(store, () => void filesDialog.open());
mountElapsed(store);
mountEarlier(store, { more: () => stage.readEarlier() });
const editDialog = later(({ mountEditDialog }) => mountEditDialog(store, {
  edit: async (id, changes) => (await stage.conversation?.edit(id, changes)) ?? null,
  renew: (id) => void stage.renew(id),
}));
const confirmation = mountConfirmation(store, {
  decide: (id, approved, reason) => void stage.conversation?.decide(id, approved, reason),
  edit(id) {
    const entry = stage.conversation?.question(id);
    if (entry) void editDialog.open(entry);
  },
  renew: (id) => void stage.renew(id),
});
mountAllowed(store, { revoke: (kind) => void stage.revoke(kind) });
slot("entries").addEventListener("click", (event) => {
  if (!(event.target instanceof Element && event.target.closest("[data-act=retry], [data-act=continue]"))) return;
  stage.conversation?.resume();
  // The button is removed, and would take the focus with it.
  composer.focus();
});
mountWelcome(store, (text) => void begin({ initial_user_msg: text }));

const newDialog = later(({ mountNewDialog }) => mountNewDialog({
  begin,
  trouble() {
    const text = store.state.notices.request ?? "";
    store.notice("request", "");
    return text;
  },
}));
const sound = mountSound(store);
/** @param {Record<string, any>} settings */
const applySettings = (settings) => sound(Boolean(settings.enable_sound_notifications));
const settingsDialog = later(({ mountSettingsDialog }) => mountSettingsDialog(account, applySettings));
const secretsDialog = later(({ mountSecretsDialog }) => mountSecretsDialog(account));
const shortcutsDialog = later(({ mountShortcutsDialog }) => mountShortcutsDialog());
const sidebar = mountSidebar(store, {
  create: () => void newDialog.open(),
  more: () => void catalogue.more(),
  retry: () => void catalogue.refresh(),
  rename: (id, title) => void catalogue.rename(id, title),
  remove,
  halt: (id) => void halt(id),
  start: (id) => void catalogue.start(id),
});
mountFound(store, api, (id, eventId) => stage.seek(id, eventId));
const search = mountSearch(store, {
  find: (filter) => void catalogue.find(filter),
  down: () => sidebar.focusFirst(),
});
mountToasts(store, {
  undo,
  finish: (id) => void removals.finish(id),
  pause: (id) => void removals.pause(id),
  run: (id) => removals.run(id),
});
mountThemeButton();
mountRefusal(store);
mountKeyForm(store, (key, remembered) => {
  const before = readSessionKey();
  saveSessionKey(key, remembered);
  // Another key may be that of somebody else.
  drafts.reload(before !== null && before !== key);
  store.set({ needsKey: false });
  start();
  stage.open(addressedId());
});
slot("open-settings").addEventListener("click", () => void settingsDialog.open());
slot("open-secrets").addEventListener("click", () => void secretsDialog.open());
slot("open-shortcuts").addEventListener("click", () => void shortcutsDialog.open());
listenForShortcuts({
  search() {
    drawer.open();
    search.focus();
  },
  create: () => void newDialog.open(),
  write() {
    drawer.close();
    composer.focus();
  },
  answer: () => confirmation.focus(),
  settings: () => void settingsDialog.open(),
  help: () => void shortcutsDialog.open(),
});
store.watch(["agentState"], () => {
  const { openId, agentState, connection } = store.state;
  const runs = connection === "connected" && !["", "stopped"].includes(agentState);
  if (openId !== null && runs) catalogue.patch(openId, { status: "RUNNING" });
});
store.watch(["conversations"], () => {
  void unread.judge(store.state.conversations);
  void asking.judge(store.state.conversations);
});

/**
 * A dialog of those that are loaded later.
 *
 * @template {any[]} T
 * @param {(dialogs: import("./later.js").Dialogs) => {open: (...what: T) => void}} make
 */
function later(make) {
  return whenOpened(make, (error) => store.complain(error));
}

/** @param {import("./types.js").Order} order @returns {Promise<boolean>} whether it was created */
async function begin(order) {
  const id = await catalogue.create(order);
  if (id !== null) router.go(id);
  return id !== null;
}

/** A conversation for the front page's message. @returns {Promise<string>} its id */
async function prepare() {
  prepared ??= await catalogue.create({});
  if (prepared === null) throw new Error(texts.requests.notCreated);
  return prepared;
}

/**
 * Begins a conversation with a message; one with attachments needs the conversation first.
 *
 * @param {string} text
 * @param {import("./attachments.js").Packed} packed
 * @returns {Promise<boolean>} whether it was taken
 */
async function beginWith(text, packed) {
  const isPlain = packed.image_urls.length + packed.file_urls.length === 0;
  if (isPlain && prepared === null) return begin({ initial_user_msg: text });
  if (!fits({ text, ...packed })) {
    store.notice("request", texts.requests.tooLong);
    return false;
  }
  const id = prepared ?? (await catalogue.create({}));
  prepared = null;
  if (id === null) return false;
  stage.sayFirst(id, text, packed);
  router.go(id);
  return true;
}

/** @param {string} id @param {string} title */
function remove(id, title) {
  const wasOpen = id === store.state.openId;
  removals.hold({ id, title, wasOpen });
  if (wasOpen) router.go(null);
}

/** @param {string} id */
function undo(id) {
  const wasOpen = store.state.removals.some((one) => one.id === id && one.wasOpen);
  if (removals.undo(id) && wasOpen && store.state.openId === null) router.go(id);
}

/** Stops a loop and disconnects: joining again would start it. @param {string} id */
async function halt(id) {
  const stopped = await catalogue.stop(id);
  if (stopped && id === store.state.openId) stage.conversation?.rest();
}

/** When the conversation that the address names is there, or is known not to be. @returns {Promise<void>} */
function arrival() {
  return new Promise((resolve) => {
    store.watch(["openId", "connection", "missing"], () => {
      const { openId, connection, missing } = store.state;
      if (openId === null || missing || connection === "connected") resolve();
    });
  });
}

function start() {
  void Promise.all([catalogue.refresh(), arrival()]).then(showsAll);
  void loadWhenIdle();
  // Only the sound and the examples depend on these; other failures are shown where they matter.
  void idle().then(() => account.settings()).then(applySettings, () => {});
  const seen = store.state.openId === null ? Promise.resolve() : idle();
  void seen.then(() => api.examples()).then((examples) => store.set({ examples }), () => {});
}

start();
