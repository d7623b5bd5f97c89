/* The list of past chats: the switch, a row for each chat, and its actions. Both pages show it.

   omnilmmPastChats(root, texts): fills `root`; `texts` are those of a language, with its code as `language`. */

window.omnilmmPastChats ??= (() => {
  const element = (name, attributes = {}, ...children) => {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);  // strings become text, never HTML
    return made;
  };
  const filled = (text, gaps) => text.replace(/\{(\w+)\}/g, (_, name) => gaps[name]);
  const button = (text, act, attributes = {}) => element("button", { type: "button", onclick: act, ...attributes }, text);
  const icon = (sign, name, act) => button(sign, act, { className: "past-icon", title: name, ariaLabel: name });

  const when = (time, language) => {
    const date = new Date(time), isToday = date.toDateString() === new Date().toDateString();
    const form = isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
    return element("time", { dateTime: date.toISOString() }, new Intl.DateTimeFormat(language, form).format(date));
  };

  return (root, texts) => {
    const history = window.omnilmmHistory;
    const parts = {
      switch: element("input", { type: "checkbox", onchange: () => turn() }),
      status: element("p", { className: "past-status" }),
      question: element("div", { className: "past-question" }),
      list: element("ul", { className: "past-list", ariaLabel: texts.title }),
      all: button(texts.delete_all, () => deleteAll(), { className: "past-all" }),
    };
    parts.status.setAttribute("role", "status");
    parts.question.setAttribute("role", "group");
    let chats = [], editing = "", drawing = 0, last = { key: "" };

    const focus = (place) => (place ?? parts.switch).focus();
    const row = (id) => [...parts.list.children].find((one) => one.dataset.chat === id);
    const settle = () => { parts.question.replaceChildren(); parts.question.hidden = true; };
    /* Ask a question in the panel; the first choice has the focus, the last one does nothing. */
    const ask = (text, ...choices) => {
      const line = element("p", {}, text);
      const buttons = choices.map(([label, act]) => button(label, () => { settle(); act?.(); focus(); }));
      parts.question.replaceChildren(line, element("div", {}, ...buttons));
      parts.question.ariaLabel = text;
      parts.question.hidden = false;
      buttons.at(-1).focus();
    };
    const turn = async () => {
      settle();
      await history.switchTo(parts.switch.checked);
      if (!history.isOn() && chats.length) {
        const ids = chats.map((chat) => chat.id);
        ask(filled(texts.ask_off, { count: ids.length }), [texts.delete_them, () => history.remove(ids)], [texts.keep_them]);
      }
    };
    const deleteAll = () => {
      const ids = chats.map((chat) => chat.id);
      ask(filled(texts.ask_all, { count: ids.length }), [texts.delete_all, () => history.remove(ids)], [texts.cancel]);
    };
    const deleteOne = (chat) =>
      ask(filled(texts.ask_one, { title: chat.title }), [texts.delete, () => history.remove([chat.id])], [texts.cancel]);

    const renaming = (chat) => {
      const box = element("input", { type: "text", value: chat.title, maxLength: 200, ariaLabel: texts.rename });
      const end = async (title) => {
        editing = "";
        if (title !== null) await history.rename(chat.id, title);
        await draw();
        focus(row(chat.id)?.querySelector(".past-open"));
      };
      box.addEventListener("keydown", (event) => {
        if (event.isComposing || event.keyCode === 229) return;
        if (event.key === "Enter") end(box.value);
        if (event.key === "Escape") end(null);
        if (event.key === "Enter" || event.key === "Escape") event.preventDefault();
      });
      return [box, button(texts.save, () => end(box.value)), button(texts.cancel, () => end(null))];
    };
    const showing = (chat) => {
      const title = chat.title || "…";
      const picture = chat.thumbnail ? element("img", { src: chat.thumbnail, alt: "" }) : element("span", { className: "past-none" });
      const words = element("span", { className: "past-words" }, element("span", { className: "past-title" }, title), when(chat.time, texts.language));
      const open = button("", () => history.open(chat.id), { className: "past-open", ariaLabel: filled(texts.open, { title }) });
      open.append(picture, words);
      if (chat.id === history.current()) open.setAttribute("aria-current", "true");
      const rename = async () => { editing = chat.id; await draw(); row(chat.id)?.querySelector("input").select(); };
      return [open, icon("✎", filled(texts.rename_one, { title }), rename), icon("✕", filled(texts.delete_one, { title }), () => deleteOne(chat))];
    };
    const whereFocusIs = () => {
      const focused = root.getRootNode().activeElement, line = focused?.closest(".past-list li");
      return line && root.contains(line) ? { id: line.dataset.chat, place: [...line.children].indexOf(focused) } : null;
    };
    const draw = async () => {
      const turn = drawing += 1;
      parts.switch.checked = history.isOn();
      const found = await history.list().catch(() => []);
      if (turn !== drawing) return;  // a later rendering has finished first
      chats = found;
      const at = whereFocusIs();
      parts.list.replaceChildren(...chats.map((chat) => {
        const made = element("li", {}, ...(chat.id === editing ? renaming(chat) : showing(chat)));
        made.dataset.chat = chat.id;
        return made;
      }));
      if (at) row(at.id)?.children[at.place]?.focus();
      parts.all.hidden = !chats.length;
      parts.none.hidden = chats.length > 0 || !history.isOn();
    };
    const showStatus = (line = last) => {
      last = line;
      const text = line.key ? filled(texts[line.key], line) : history.isOn() && history.isDeleted() ? texts.not_kept : "";
      parts.status.textContent = text;
      parts.status.hidden = !text;
    };
    const refresh = (line) => {
      if (!root.isConnected) return history.unwatch(refresh);
      showStatus(line ?? last);
      if (!editing) draw();
    };

    parts.none = element("p", { className: "past-help" }, texts.none);
    root.replaceChildren(
      element("label", { className: "past-switch" }, parts.switch, texts.switch), element("p", { className: "past-help" }, texts.help),
      parts.status, parts.question, parts.none, parts.list, parts.all,
    );
    root.classList.add("past-chats");
    settle();
    showStatus();
    history.watch(refresh);
    draw();
  };
})();
