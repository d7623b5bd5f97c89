/* Past chats, stored in this browser alone: IndexedDB, one database for each account. Both pages use it.

   turn kept --changed()--> page.ask(names of the pictures that are here) --server--> received(the export, the pictures
   that are missing); open(id) --> page.open(the whole export) --server--> the page shows it.

   Nothing is requested, sent or written unless the switch is on. See omnilmm/ui/past.py. */

window.omnilmmHistory ??= (() => {
  const MOST = 200e6, MOST_OF_ONE = 100e6;  // bytes: of all chats of an account, the oldest are evicted; of one
  const TITLE = 60, MOST_DELETED = 200;
  const REPLY_MS = 150, LOST_MS = 20000;
  const me = Math.random().toString(36).slice(2);  // identifies this page until it is reloaded
  let page = null;  // { account, chat, ask(names), open(opened) }
  let asking = 0, again = false, restored = false;
  const tooLarge = new Set(), databases = {}, watchers = new Set();

  /* --- small values: in localStorage; an id that another tab writes to, in sessionStorage -------------------------- */

  const read = (storage, key, otherwise) => {
    try { return JSON.parse(window[storage].getItem(`omnilmm-${key}`)) ?? otherwise; } catch { return otherwise; }
  };
  const write = (storage, key, value) => {
    try { window[storage].setItem(`omnilmm-${key}`, JSON.stringify(value)); } catch { /* not stored: it applies to this page only */ }
  };
  const own = (name) => `${name}/${page?.account ?? ""}`;
  const isOn = () => read("localStorage", own("history"), false) === true;
  const deleted = () => read("localStorage", own("deleted"), []);
  const actual = (id) => read("sessionStorage", own("copies"), {})[id] ?? id;
  const copyTo = (id, copy) => write("sessionStorage", own("copies"), { ...read("sessionStorage", own("copies"), {}), [id]: copy });
  const current = () => page ? actual(page.chat) : "";
  const isDeleted = () => deleted().includes(current());

  /* --- the database ------------------------------------------------------------------------------------------------ */

  const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const database = () => databases[page.account] ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(own("omnilmm-chats"), 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("chats", { keyPath: "id" });
      request.result.createObjectStore("pictures", { keyPath: ["chat", "name"] });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  /* Run `work` in one transaction: all of it is written, or nothing. */
  const within = async (mode, work) => {
    const transaction = (await database()).transaction(["chats", "pictures"], mode, { durability: "strict" });
    const done = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error ?? new Error("aborted"));
    });
    done.catch(() => {});  // reported below
    try {
      const value = await work(transaction.objectStore("chats"), transaction.objectStore("pictures"));
      await done;
      return value;
    } catch (error) {
      try { transaction.abort(); } catch { /* already finished */ }
      throw error;
    }
  };
  const picturesOf = (id) => IDBKeyRange.bound([id, ""], [id, "\uffff"]);
  const drop = (chats, pictures, id) => { chats.delete(id); pictures.delete(picturesOf(id)); };

  const namesIn = (content) => content.messages.flatMap((message) =>
    message.content.flatMap((part) => part.type === "image" ? [part.image] : part.type === "video" ? part.frames : []));
  const firstLine = (content) => {
    const text = content.messages[0].content.filter((part) => part.type === "text").map((part) => part.text).join(" ");
    const letters = [...text.replace(/\s+/g, " ").trim()];
    return letters.length > TITLE ? `${letters.slice(0, TITLE - 1).join("")}…` : letters.join("");
  };

  /* Write the current state of a chat; returns how many old ones were evicted. `from`: the chat that it is a copy of. */
  const put = (sent, id, from) => within("readwrite", async (chats, pictures) => {
    const content = sent.document, before = await result(chats.get(id)), source = await result(chats.get(from));
    if (!content.messages.length) { drop(chats, pictures, id); return 0; }  // undone
    const names = [...new Set(namesIn(content))], sizes = {}, had = source?.sizes ?? {};
    let thumbnail = names.length ? source?.thumbnailOf === names[0] && source.thumbnail : "";
    for (const name of names) {
      let picture = sent.pictures[name];
      if (!picture && (from !== id || (name === names[0] && !thumbnail))) picture = await result(pictures.get([from, name]));
      if (!picture && !(name in had)) throw new Error("incomplete");
      if (name === names[0]) thumbnail ||= picture.thumbnail;
      sizes[name] = picture ? picture.image.length : had[name];
      if (picture && (from !== id || !(name in had))) pictures.put({ ...picture, chat: id, name });
    }
    for (const name of Object.keys(before?.sizes ?? {})) if (!(name in sizes)) pictures.delete([id, name]);
    const text = JSON.stringify(content);
    const bytes = Object.values(sizes).reduce((sum, size) => sum + size, text.length);
    if (bytes > MOST_OF_ONE) throw new Error("too large");
    const title = source?.named ? source.title : firstLine(content), named = source?.named ?? false;
    const time = before && JSON.stringify(before.content) === text ? before.time : Date.now();
    chats.put({ id, title, named, time, content, sizes, bytes, thumbnail, thumbnailOf: names[0] });
    const all = (await result(chats.getAll())).sort((one, other) => one.time - other.time);
    let total = all.reduce((sum, chat) => sum + chat.bytes, 0), gone = 0;
    for (const chat of all) {
      if (total <= MOST) break;
      if (chat.id === id) continue;
      drop(chats, pictures, chat.id);
      total -= chat.bytes;
      gone += 1;
    }
    return gone;
  });

  /* --- other tabs of this browser ---------------------------------------------------------------------------------- */

  const tabs = typeof BroadcastChannel === "function" ? new BroadcastChannel("omnilmm-history") : null;
  const replied = new Map();  // by the name under which a question was asked
  let questions = 0;
  tabs?.addEventListener("message", ({ data }) => {
    if (data.asks && data.account === page?.account && data.asks === current()) tabs.postMessage({ to: data.from });
    replied.get(data.to)?.(true);
    if (data.tells) tell(null, false);
  });
  const isInAnotherTab = async (id) => {
    if (!tabs) return false;
    const from = `${me}-${++questions}`;
    return new Promise((resolve) => {
      replied.set(from, resolve);
      setTimeout(() => { replied.delete(from); resolve(false); }, REPLY_MS);
      tabs.postMessage({ asks: id, account: page.account, from });
    });
  };
  /* Notify about a change, with a message: a key of the texts and its parameters; `null` leaves the current message. */
  const tell = (said, elsewhere = true) => {
    if (elsewhere) tabs?.postMessage({ tells: true });
    watchers.forEach((watcher) => watcher(said));
  };
  const explain = (error) => {
    const known = { QuotaExceededError: "no_room", "too large": "too_large" };
    console.warn("Past chats:", error);
    tell({ key: known[error.name] ?? known[error.message] ?? "no_store" });
  };

  /* --- called by the pages ----------------------------------------------------------------------------------------- */

  const wasEverOn = () => read("localStorage", own("history"), null) !== null;  // otherwise not even an empty database is created
  const list = async () => !wasEverOn() ? [] : within("readonly", async (chats) =>
    (await result(chats.getAll())).sort((one, other) => other.time - one.time));
  const has = () => within("readonly", async (chats) => Object.keys((await result(chats.get(current())))?.sizes ?? {}));

  /* The conversation may have changed: request it. One request at a time, and one more if it changed meanwhile. */
  const changed = async () => {
    if (!page?.chat || !isOn() || isDeleted() || tooLarge.has(current())) return tell(null, false);
    if (asking) { again = true; return; }
    const since = asking = Date.now();
    setTimeout(() => { if (asking === since) { again = true; kept(); } }, LOST_MS);  // the reply was lost
    try { page.ask(await has()); } catch (error) { asking = 0; explain(error); }
  };
  const kept = () => {
    asking = 0;
    if (again) { again = false; changed(); }
  };
  /* Store a chat received from the server. */
  const store = async (given) => {
    if (!given?.chat || !isOn() || deleted().includes(actual(given.chat))) return;
    const sent = JSON.parse(JSON.stringify(given));  // only plain objects can be stored, not proxies
    const from = actual(sent.chat);
    let id = from;
    try {
      if (!sent.document) throw new Error("too large");
      const before = await within("readonly", (chats) => result(chats.get(id)));
      const isNew = before && JSON.stringify(before.content) !== JSON.stringify(sent.document);
      if (isNew && await isInAnotherTab(id)) copyTo(sent.chat, id = `${id.slice(0, 40)}-${me}${Date.now().toString(36)}`);
      const gone = await put(sent, id, from);
      tell(gone ? { key: "dropped", count: gone } : { key: "" });
    } catch (error) {
      if (error.message === "incomplete") again = true;  // another tab evicted chats meanwhile
      if (error.message === "too large") tooLarge.add(id);
      if (error.message !== "incomplete") explain(error);
    }
  };

  const open = async (id) => {
    try {
      const [chat, pictures] = await within("readonly", async (chats, pictures) =>
        [await result(chats.get(id)), await result(pictures.getAll(picturesOf(id)))]);
      if (!chat) return tell({ key: "" });
      const images = Object.fromEntries(pictures.map((picture) => [picture.name, picture.image]));
      const names = namesIn(chat.content);
      const messages = chat.content.messages.map((message) => ({ ...message, content: message.content.map((part) =>
        part.type === "image" ? { ...part, image: images[part.image] ?? "" }
          : part.type === "video" ? { ...part, frames: part.frames.map((name) => images[name] ?? "") } : part) }));
      const before = isOn() ? await has() : [];
      copyTo(id, undefined);
      page.open({ chat: id, document: JSON.stringify({ ...chat.content, messages }), names, has: before });
    } catch (error) { explain(error); }
  };
  /* Called by the page at every change: its account, the chat that it shows, and how to send requests to its server. */
  const connect = (given) => {
    const isOther = page?.chat !== given.chat || page?.account !== given.account;
    page = given;
    if (isOther) tell(null, false);
    if (given.restore && !restored && isOn()) {
      restored = true;
      const id = actual(given.restore);
      list().then((chats) => { if (chats.some((chat) => chat.id === id)) open(id); }).catch(() => {});
    }
  };
  const rename = (id, title) => within("readwrite", async (chats) => {
    const chat = await result(chats.get(id));
    if (chat && title.trim()) chats.put({ ...chat, title: title.trim().slice(0, 200), named: true });
  }).then(() => tell({ key: "" }), explain);
  const remove = (ids) => {
    write("localStorage", own("deleted"), [...deleted(), ...ids].slice(-MOST_DELETED));  // so that no other tab restores them
    return within("readwrite", async (chats, pictures) => ids.forEach((id) => drop(chats, pictures, id)))
      .then(() => tell({ key: "" }), explain);
  };
  const switchTo = async (on) => {
    try {
      await database();
      if (on) {
        write("localStorage", own("deleted"), deleted().filter((id) => id !== current()));
        tooLarge.clear();
      }
      write("localStorage", own("history"), on);
      tell({ key: isOn() === on ? "" : "no_store" });
      changed();
    } catch (error) { explain(error); }
  };
  const watch = (watcher) => watchers.add(watcher);
  const unwatch = (watcher) => watchers.delete(watcher);

  return { connect, changed, store, kept, open, list, rename, remove, switchTo, isOn, isDeleted, current, watch, unwatch };
})();
