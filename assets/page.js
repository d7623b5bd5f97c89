/* Browser side of web_demo.py: state that survives a reload, pictures at full size, saving of files. */

window.omnilmm = (() => {
  const MEMORY = "omnilmm-chat", LANGUAGE = "omnilmm-language";
  let clicked = 0;  // number of the picture or pencil

  /* Identifies the owner of uploads by a name that this browser generated. It is sent in a cookie, for pictures, and
     with each request, because a page in another site's frame gets no cookies. */
  const NAME = "omnilmm_visitor";
  const visitor = (() => {
    const known = document.cookie.match(new RegExp(`(?:^|; )${NAME}=([\\w-]+)`));
    const name = known ? known[1]
      : Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const framed = window.self !== window.top && location.protocol === "https:";
    document.cookie = `${NAME}=${name}; path=/; ${framed ? "SameSite=None; Secure; Partitioned" : "SameSite=Strict"}`;
    return name;
  })();
  /* Gradio's script hears of its events on a stream that the server closes when none is left. An event that the server
     took after that is heard of on a new stream, once the script has closed the old one; until then the script must not
     be told that the event was taken. The server numbers the streams. */
  let closed = 0;
  const waiting = [];
  const noteClosed = (stream) => { closed = Math.max(closed, stream); for (const next of waiting.splice(0)) next(); };
  const BROKEN_MS = 30000;  // a stream that has broken off is not closed
  const untilClosed = async (stream) => {
    if (closed < stream) setTimeout(noteClosed, BROKEN_MS, stream);
    while (closed < stream) await new Promise((next) => waiting.push(next));
  };
  const fetched = window.fetch.bind(window);
  window.fetch = async (what, how = {}) => {
    const isRequest = what instanceof Request, { origin, pathname } = new URL(isRequest ? what.url : what, location.href);
    if (origin === location.origin && pathname.endsWith("/queue/data")) {
      const { signal } = isRequest ? what : how, answer = await fetched(what, how);
      const stream = Number(answer.headers.get("X-OmniLMM-Stream"));
      signal?.aborted ? noteClosed(stream) : signal?.addEventListener("abort", () => noteClosed(stream));
      return answer;
    }
    if (isRequest || origin !== location.origin) return fetched(what, how);
    const headers = new Headers(how.headers);
    headers.set("X-OmniLMM-Visitor", visitor);
    const answer = await fetched(what, { ...how, headers });
    await untilClosed(Number(answer.headers.get("X-OmniLMM-Closed")));
    return answer;
  };
  document.addEventListener("error", async ({ target }) => {
    if (!(target instanceof HTMLImageElement) || !target.closest("#question") || target.dataset.again) return;
    target.dataset.again = "yes";
    const answer = await window.fetch(target.src);
    if (answer.ok) target.src = URL.createObjectURL(await answer.blob());
  }, true);

  const read = (storage, key) => { try { return storage.getItem(key) || ""; } catch { return ""; } };
  const write = (storage, key, value) => { try { storage.setItem(key, value); } catch { storage.removeItem(key); } };

  /* In sessionStorage: each tab has its own conversation, which is deleted with the tab. */
  const remembered = () => [read(sessionStorage, MEMORY), read(localStorage, LANGUAGE)];
  const remember = (memory) => {
    sent.text = null;
    if (!memory) return;
    write(sessionStorage, MEMORY, memory);
    const { chat, restore, account } = JSON.parse(memory);
    omnilmmHistory.connect({ chat, restore, account, ask: (names) => give("keep", names), open: (past) => give("open-past", past) });
    omnilmmHistory.changed();
  };
  const speak = (code) => { document.documentElement.lang = code; document.documentElement.dataset.ready = "yes"; };
  const choose = (code) => { window.omnilmmLive?.close(); omnilmmClip.conclude(); write(localStorage, LANGUAGE, code); speak(code); return [code]; };

  const save = (file) => {
    if (!file || !file.name) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file.content], { type: file.type }));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  /* Show a picture over the page; a click or Escape closes it. */
  const show = (source, name) => {
    let dialog = document.getElementById("full-size");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "full-size";
      dialog.append(document.createElement("img"));
      dialog.addEventListener("click", () => dialog.close());
      document.body.append(dialog);
    }
    const image = dialog.firstChild;
    image.src = source;
    image.alt = name || image.alt;
    dialog.setAttribute("aria-label", image.alt);
    if (!dialog.open) dialog.showModal();
  };
  const showFull = (source) => {
    const dialog = document.getElementById("full-size");
    if (source && dialog && dialog.open) dialog.firstChild.src = source;
  };

  /* The argument of a button's handler, taken once. */
  const given = {};
  const give = (name, value) => { given[name] = value; press(`do-${name}`); };
  const take = (name) => { const value = given[name]; delete given[name]; return [value ?? null]; };
  const press = (id) => document.getElementById(id)?.click();

  /* The end of the conversation is followed until the reader scrolls up, and again once a question is sent. */
  const NEAR = 40;  // distance in pixels that still counts as the end
  const scroll = { follows: true, last: 0, area: null, inside: null };
  const mark = (id, isAway) => document.getElementById(id)?.toggleAttribute("data-away", isAway);
  const away = (area) => area.scrollHeight - area.clientHeight - area.scrollTop >= NEAR;
  const keepUp = () => {
    const { area } = scroll;
    if (!area) return;
    if (scroll.follows) area.scrollTop = area.scrollHeight;
    scroll.last = area.scrollTop;
    mark("newest", away(area));
  };
  const scrolled = () => {
    const { area } = scroll;
    if (!away(area)) scroll.follows = true;
    else if (area.scrollTop < scroll.last) scroll.follows = false;
    scroll.last = area.scrollTop;
    mark("newest", away(area));
  };
  const resized = new ResizeObserver(keepUp);
  const watch = () => {
    const area = document.querySelector("#chat .bubble-wrap"), inside = area?.querySelector(".message-wrap");
    if (area === scroll.area && inside === scroll.inside) return;
    Object.assign(scroll, { area, inside });
    resized.disconnect();
    area?.addEventListener("scroll", scrolled, { passive: true });
    for (const element of [area, inside]) if (element) resized.observe(element);
  };
  const toNewest = () => { scroll.follows = true; keepUp(); };
  const asked = (...given) => {
    toNewest();
    document.getElementById("chat")?.scrollIntoView({ block: "nearest" });
    return given;
  };

  /* Stop is in the question box; a second button is shown while that is out of view. */
  let stopping = null;
  const stopButton = () => document.querySelector("#question .stop-button");
  const inSight = new IntersectionObserver((entries) => mark("stop-anywhere", !entries.at(-1).isIntersecting));
  const watchStop = () => {
    if (stopButton() === stopping) return;
    inSight.disconnect();
    stopping = stopButton();
    stopping ? inSight.observe(stopping) : mark("stop-anywhere", false);
  };

  /* Send once, however often Enter or the button is hit before the box is empty; never send half a character. */
  const sent = { text: null, at: 0, went: false };
  const PATIENCE_MS = 3000;
  const typed = () => document.querySelector("#question textarea");
  const send = (box, ...given) => {
    return [{ ...box, text: (box?.text ?? "").replace(/\p{Surrogate}/gu, "\uFFFD") }, ...asked(...given)];
  };
  const isSentAlready = () =>
    sent.went && sent.text !== null && typed()?.value === sent.text && performance.now() - sent.at < PATIENCE_MS;
  /* Safari ends a composition before the keydown of its Enter: only key code 229 identifies that. */
  const guard = (event) => {
    const isKey = event.type === "keydown";
    if (isKey ? event.key !== "Enter" || event.target !== typed() : !event.target.closest?.("#question .submit-button, #question .stop-button")) return;
    if (isKey && (event.isComposing || event.keyCode === 229)) return event.stopImmediatePropagation();
    const isAgain = isKey ? event.repeat : event.detail > 1;  // the second click would hit Stop, which is there by now
    const isStop = !isKey && event.target.closest(".stop-button");
    if (event.shiftKey || isStop && !isAgain) return;
    if (!isAgain && !isSentAlready()) return Object.assign(sent, { text: typed()?.value ?? null, at: performance.now(), went: !isKey });
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  /* Gradio handles Enter at the following keypress and prevents its default; otherwise nothing was sent. */
  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && event.target === typed() && event.defaultPrevented) sent.went = true;
  });
  document.addEventListener("keydown", guard, true);
  document.addEventListener("click", guard, true);

  /* The notice about the last question is dismissed when the next one is begun. */
  const dismiss = () => { if (document.querySelector("#notice .notice:not(.stays)")) press("do-dismiss"); };
  document.addEventListener("input", (event) => { if (event.target === typed()) dismiss(); });
  document.addEventListener("click", (event) => {
    if (event.isTrusted && event.target.closest?.("#question .delete-button")) dismiss();
  }, true);

  /* Pictures dropped or pasted anywhere are put into the question box, as if they were chosen there. */
  let refused = [];
  const PICKER = "#question input[type=file]";
  const isPicture = (file) => document.querySelector(PICKER).accept.split(",").map((kind) => kind.trim()).some((kind) =>
    kind.startsWith(".") ? file.name.toLowerCase().endsWith(kind)
      : kind.endsWith("/*") ? file.type.startsWith(kind.slice(0, -1)) : file.type === kind);
  const attach = (files) => {
    const input = document.querySelector(PICKER), pictures = new DataTransfer();
    dismiss();
    refused = files.filter((file) => !isPicture(file)).map((file) => file.name);
    if (refused.length) press("do-refuse");
    for (const file of files) if (isPicture(file)) pictures.items.add(file);
    if (!pictures.files.length) return;
    input.files = pictures.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const drag = (event) => {
    if (!event.dataTransfer?.types.includes("Files") || !document.querySelector(PICKER)) return;
    event.preventDefault();
    const isOver = event.type === "dragover" || (event.type === "dragleave" && event.relatedTarget);
    document.getElementById("question").toggleAttribute("data-dropping", Boolean(isOver));
    if (event.type !== "drop") return;
    event.stopImmediatePropagation();
    const left = new DragEvent("dragleave", { bubbles: true, clientX: -1, clientY: -1 });
    document.querySelector("#question .full-container")?.dispatchEvent(left);  // removes Gradio's own drag highlight
    attach([...event.dataTransfer.files]);
  };
  for (const type of ["dragover", "dragleave", "drop"]) document.addEventListener(type, drag, true);
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length && !event.target.closest?.("input, textarea")) { event.preventDefault(); attach(files); }
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches?.(PICKER)) return;
    const files = [...event.target.files];
    if (files.every(isPicture)) return event.isTrusted && dismiss();
    event.stopImmediatePropagation();
    attach(files);
  }, true);
  /* Remove unusable files by their positions in the box, unless other files are there by now. */
  const remove = ({ of, bad } = {}) => {
    const buttons = [...document.querySelectorAll("#question .thumbnail-item .delete-button")];
    if (buttons.length === of) for (const number of [...bad].reverse()) buttons[number].click();
  };

  const numberOf = (selector, element) => [...document.querySelectorAll(selector)].indexOf(element);
  const act = (element) => {
    if (element.matches("#chat .edit")) {
      clicked = numberOf("#chat .edit", element);
      press("do-edit");
    } else if (element.matches("#chat .offer")) {
      press("do-take-offer");
    } else if (element.matches("#chat .picture, #seen img")) {
      show(element.src, element.alt);  // shows the thumbnail at once, then the full picture
      if (!element.matches("#chat .user .picture")) return;
      clicked = numberOf("#chat .user .picture", element);
      press("do-open");
    }
  };
  document.addEventListener("click", (event) => act(event.target));
  document.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.matches("img")) {
      event.preventDefault();
      act(event.target);
    }
  });

  /* A picture that the browser cannot decode (HEIC) shows its format in place of a thumbnail. */
  let chosen = [];
  document.addEventListener("change", (event) => {
    if (event.target.matches?.(PICKER)) chosen = [...event.target.files].map((file) => file.name);
  }, true);
  /* Gradio's own preview of a file is a blob, which has no name; the files chosen last are the last items. */
  const nameOf = (item, source) => {
    const items = [...document.querySelectorAll("#question .thumbnail-item")];
    return source.startsWith("blob:") ? chosen.at(items.indexOf(item) - items.length) ?? "" : decodeURI(source);
  };
  const drawn = (event) => {
    if (!event.target.matches?.("#question .thumbnail-image")) return;
    const item = event.target.closest(".thumbnail-item");
    if (event.type === "load") delete item.dataset.kind;
    else item.dataset.kind = nameOf(item, event.target.src).split(".").pop().toUpperCase();
  };
  document.addEventListener("error", drawn, true);
  document.addEventListener("load", drawn, true);

  /* Make pictures and code reachable by Tab; pictures in the question box are shown as the model sees them. */
  let sliced = "", newest = 0;
  /* The server numbers what the model sees: what the browser applies last may be older, and is asked for anew then. */
  const isOlder = () => {
    const drawing = document.querySelector("#seen [data-number]"), number = Number(drawing?.dataset.number);
    drawing?.removeAttribute("data-number");
    if (number > newest) newest = number;
    return number < newest;
  };
  /* Gradio's own words where the camera is opened are English; the label above them says the same. */
  const tendPhoto = () => {
    const label = document.querySelector("#photo label")?.textContent.trim(), place = document.querySelector("#photo button > .wrap");
    if (!label || place?.lastChild?.nodeType !== Node.TEXT_NODE || place.textContent.trim() === label) return;
    place.lastChild.data = label;
    place.closest("[title]")?.setAttribute("title", label);
  };
  const tendClip = () => {
    const clip = document.getElementById("clip");
    if (clip && !clip.firstChild) omnilmmClip.fill(clip, JSON.parse(clip.dataset.texts), (file) => {
      attach([file]);
      if (document.getElementById("clip")) press("camera");  // which closes its panel
      typed()?.focus();
    }, window.gradio_config?.max_file_size ?? undefined);
  };
  const tend = () => {
    watch();
    watchStop();
    if (sent.text !== null && typed()?.value !== sent.text) sent.text = null;
    const past = document.getElementById("past-chats");
    if (past && !past.firstChild) omnilmmPastChats(past, JSON.parse(past.dataset.texts));
    tendClip();
    tendPhoto();
    for (const image of document.querySelectorAll("#chat .picture, #seen img")) {
      if (image.tabIndex < 0) { image.tabIndex = 0; image.setAttribute("role", "button"); }
    }
    for (const code of document.querySelectorAll("#chat pre")) if (code.tabIndex < 0) code.tabIndex = 0;  // it may scroll
    const attached = [...document.querySelectorAll("#question .thumbnail-item")]
      .map((item) => item.querySelector("img")?.src ?? "file").join();
    const outdated = document.querySelector("#seen [data-outdated]");  // the settings were reset, or the model changed
    outdated?.removeAttribute("data-outdated");
    if (isOlder() || attached !== sliced || outdated) { sliced = attached; press("do-show-slices"); }
  };
  const start = () => new MutationObserver(tend).observe(document.body, { childList: true, subtree: true });
  document.body ? start() : document.addEventListener("DOMContentLoaded", start);

  return {
    remembered, remember, speak, choose, save, showFull, asked, sent: send, toNewest, remove,
    stop: () => stopButton()?.click(),
    refused: () => refused, number: () => [clicked], has: () => take("keep"), opened: () => take("open-past"),
  };
})();
