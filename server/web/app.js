/** Puts the page together: which object hears of what. */

import { Api } from "./api.js";
import { Catalogue } from "./catalogue.js";
import { Conversation } from "./conversation.js";
import { addressedId, Router } from "./router.js";
import { saveSessionKey } from "./session-key.js";
import { blankConversation, Store } from "./store.js";
import { mountAnnouncer } from "./views/announcer.js";
import { mountComposer } from "./views/composer.js";
import { mountConfirmation } from "./views/confirmation.js";
import { askToDelete } from "./views/delete-dialog.js";
import { mountDrawer } from "./views/drawer.js";
import { mountHeader } from "./views/header.js";
import { mountKeyForm } from "./views/key-form.js";
import { mountNotices } from "./views/notices.js";
import { mountPending } from "./views/pending.js";
import { mountSidebar } from "./views/sidebar.js";
import { Transcript } from "./views/transcript.js";
import { mountUsage } from "./views/usage.js";
import { mountWelcome } from "./views/welcome.js";

const store = new Store();
const api = new Api(() => store.set({ needsKey: true }));
const catalogue = new Catalogue(api, store);
/** @type {Conversation | null} */
let conversation = null;

const announce = mountAnnouncer(store);
const drawer = mountDrawer();
const transcript = new Transcript({
  drawn(clientIds) {
    conversation?.drawn(clientIds);
    store.set({ awaiting: conversation?.timeline.awaiting ?? null });
  },
  waiting: (count) => store.set({ behind: count + (conversation?.missing ?? 0) }),
  unread: (count) => store.set({ newEntries: count }),
  spoken: announce,
});
const composer = mountComposer(store, {
  say(text) {
    const taken = conversation?.say(text) ?? false;
    if (taken) transcript.answered();
    return taken;
  },
  stop: () => void conversation?.command("stopped"),
  resume: () => conversation?.resume(),
});
mountHeader(store);
mountUsage(store);
mountNotices(store);
mountPending(store, {
  retry: (clientId) => conversation?.retry(clientId),
  discard: (clientId) => conversation?.discard(clientId),
});
mountConfirmation(store, {
  confirm: () => void conversation?.command("user_confirmed"),
  reject: () => void conversation?.command("user_rejected"),
});
mountWelcome(store, (text) => void begin(text));
mountSidebar(store, {
  create: () => void begin(),
  more: () => void catalogue.more(),
  retry: () => void catalogue.refresh(),
  rename: (id, title) => void catalogue.rename(id, title),
  remove: (id, title) => void remove(id, title),
  halt: (id) => void halt(id),
});
mountKeyForm(store, (key) => {
  saveSessionKey(key);
  store.set({ needsKey: false });
  void catalogue.refresh();
  open(addressedId());
});
const router = new Router(open);

/**
 * Shows what the address names. What is shown already stays as it is, unless its connection ended.
 *
 * @param {string | null} id
 */
function open(id) {
  drawer.close();
  const alive = conversation !== null && store.state.connection !== "closed";
  if (id !== null && id === store.state.openId && alive) return;
  conversation?.close();
  conversation = null;
  transcript.show(null);
  store.set({ ...blankConversation(), openId: id });
  if (id === null) return;
  store.set({ connection: "connecting" });
  void join(id);
}

/** @param {string} id */
async function join(id) {
  let info;
  try {
    info = await api.get(id);
  } catch (error) {
    if (store.state.openId === id && !store.state.needsKey) {
      store.notice("connection", error instanceof Error ? error.message : String(error));
      setTimeout(() => store.state.openId === id && !conversation && void join(id), 2_000);
    }
    return;
  }
  if (store.state.openId !== id || conversation) return;
  if (info === null) return lose(id);
  store.set({ title: info.title });
  catalogue.patch(id, info);
  conversation = new Conversation(id, store, {
    arrived: (event) => transcript.push(event),
    lateEventId: () => api.lateEventId(id),
    retitled: (title) => catalogue.patch(id, { title }),
    lost: (why) => (why === "key" ? store.set({ needsKey: true }) : lose(id)),
  });
  transcript.show(conversation.timeline);
  if (matchMedia("(pointer: fine)").matches) composer.focus();
}

/** The address leads to nothing, or to nothing any more. @param {string} id */
function lose(id) {
  conversation?.close();
  conversation = null;
  transcript.show(null);
  catalogue.drop(id);
  store.set({ ...blankConversation(), openId: id, missing: true });
}

/** @param {string} [firstMessage] */
async function begin(firstMessage) {
  const id = await catalogue.create(firstMessage);
  if (id !== null) router.go(id);
}

/**
 * @param {string} id
 * @param {string} title
 */
async function remove(id, title) {
  if (!(await askToDelete(title))) return;
  if (id === store.state.openId) conversation?.rest();
  if ((await catalogue.remove(id)) && id === store.state.openId) router.go(null);
}

/** A stopped conversation is left alone: joining it again would start it. @param {string} id */
async function halt(id) {
  const stopped = await catalogue.stop(id);
  if (stopped && id === store.state.openId) conversation?.rest();
}

void catalogue.refresh();
open(addressedId());
