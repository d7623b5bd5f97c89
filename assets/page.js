/* What web_demo.py needs in the browser: a memory that outlives a reload, pictures at full size, files to the disk. */

window.omnilmm = (() => {
  const MEMORY = "omnilmm-chat", LANGUAGE = "omnilmm-language";
  let clicked = 0;  // number of the picture or pencil

  const read = (storage, key) => { try { return storage.getItem(key) || ""; } catch { return ""; } };
  const write = (storage, key, value) => { try { storage.setItem(key, value); } catch { storage.removeItem(key); } };

  /* In sessionStorage: each tab has a conversation of its own, and it goes with the tab. */
  const remembered = () => [read(sessionStorage, MEMORY), read(localStorage, LANGUAGE)];
  const remember = (memory) => { if (memory) write(sessionStorage, MEMORY, memory); };
  const speak = (code) => { document.documentElement.lang = code; document.documentElement.dataset.ready = "yes"; };
  const choose = (code) => { write(localStorage, LANGUAGE, code); speak(code); return [code]; };

  const save = (file) => {
    if (!file || !file.name) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file.content], { type: file.type }));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  /* A picture over the page; a click or Escape closes it. */
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

  const press = (id) => document.getElementById(id)?.click();
  const numberOf = (selector, element) => [...document.querySelectorAll(selector)].indexOf(element);
  const act = (element) => {
    if (element.matches("#chat .edit")) {
      clicked = numberOf("#chat .edit", element);
      press("do-edit");
    } else if (element.matches("#chat .picture, #seen img")) {
      show(element.src, element.alt);  // at once what is there, then the whole
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

  /* What the browser cannot draw itself (HEIC) has its kind in place of a small picture. */
  const drawn = (event) => {
    if (!event.target.matches?.("#question .thumbnail-image")) return;
    const item = event.target.closest(".thumbnail-item");
    if (event.type === "load") delete item.dataset.kind;
    else item.dataset.kind = decodeURI(event.target.src).split(".").pop().toUpperCase();
  };
  document.addEventListener("error", drawn, true);
  document.addEventListener("load", drawn, true);

  /* Pictures, and code, are reached by Tab; what is in the question box is shown as the model sees it. */
  let looked = "";
  const tend = () => {
    for (const image of document.querySelectorAll("#chat .picture, #seen img")) {
      if (image.tabIndex < 0) { image.tabIndex = 0; image.setAttribute("role", "button"); }
    }
    for (const code of document.querySelectorAll("#chat pre")) if (code.tabIndex < 0) code.tabIndex = 0;  // may scroll
    const attached = [...document.querySelectorAll("#question .thumbnail-item")]
      .map((item) => item.querySelector("img")?.src ?? "file").join();
    if (attached !== looked) { looked = attached; press("do-look"); }
  };
  const start = () => new MutationObserver(tend).observe(document.body, { childList: true, subtree: true });
  document.body ? start() : document.addEventListener("DOMContentLoaded", start);

  return { remembered, remember, speak, choose, save, showFull, number: () => [clicked] };
})();
