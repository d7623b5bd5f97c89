/* Browser side of web_demo_streamlit.py: the scroll position, files from anywhere on the page, and the keyboard.

   `draw` is called at every rerun of the page (by `streamlit_page/component.py`); listeners are registered once (`start`)
   and receive the new data. */

const NEAR = 80  // distance in pixels that still counts as the end
const GIVE_UP_MS = 10_000  // without news from the server about an upload for this long, Enter works normally again

function draw({ parentElement, data, setTriggerValue }) {
  window.omnilmm ??= start()
  window.omnilmm.tell(data, parentElement.querySelector("button"), setTriggerValue)
}

function start() {
  const find = (selector) => document.querySelector(selector)
  let received = { turn: 0, processed: 0, refused: 0 }, newest = null, report = () => {}

  /* --- Scrolling: at the end it follows, elsewhere it stays where the reader is, a new turn scrolls into view. --- */

  let main = null, follows = false, top = 0, height = 0
  const toEnd = () => { main.scrollTop = main.scrollHeight }
  const isFar = () => main.scrollHeight - main.scrollTop - main.clientHeight > NEAR
  const showNewest = () => { if (newest) newest.hidden = !(received.turn && isFar()) }
  const onScroll = () => {
    if (main.scrollHeight >= height) {  // otherwise the page became shorter, and the reader did not scroll
      if (main.scrollTop < top - 2) follows = false
      else if (!isFar()) follows = true
      top = main.scrollTop
    }
    showNewest()
  }
  const onGrown = () => {
    height = main.scrollHeight
    if (follows) toEnd()
    else if (main.scrollTop < top) main.scrollTop = top  // the page was shorter for a moment while it was redrawn
    if (follows) top = main.scrollTop
    showNewest()
  }
  const watch = () => {
    const now = find("[data-testid=stMain]")
    if (!now || now === main) return
    main = now
    main.addEventListener("scroll", onScroll)
    const seen = new ResizeObserver(onGrown)
    for (const part of [main, ...main.children]) seen.observe(part)
  }
  const follow = () => { follows = true; if (main) toEnd() }

  /* --- Files: chosen, pasted or dropped anywhere, they go to the one uploader whose files are processed. --- */

  const chips = () => [...document.querySelectorAll(".st-key-uploads [data-testid=stFileChip]")]
  const failed = (chip) => chip.getAttribute("aria-invalid") === "true"
  let sent = null  // the uploads that the server has not processed: since when, and its counts before
  const upload = (given) => {
    const input = find(".st-key-uploads input[type=file]")
    if (!input || !given.length) return false  // leave it to Streamlit
    const files = given.filter((file) => file.size <= received.max_bytes)
    if (files.length < given.length) report("large", given.filter((file) => !files.includes(file)).map((file) => file.name))
    if (!files.length) return true
    sent = { at: Date.now(), processed: received.processed, refused: received.refused }
    const all = new DataTransfer()
    for (const file of files) all.items.add(file)
    input.files = all.files
    input.dispatchEvent(new Event("change", { bubbles: true }))
    find("[data-testid=stChatInput] textarea")?.focus()
    return true
  }
  const isUploading = () => {
    if (!sent || chips().some(failed)) return false
    if (chips().some((chip) => chip.querySelector("[data-testid=stFileChipIconSpinner]"))) { sent.at = Date.now(); return true }
    return Date.now() - sent.at < GIVE_UP_MS
  }
  const inChat = (target) => target.closest?.("[data-testid=stChatInput]")
  const handled = (event) => { event.preventDefault(); event.stopImmediatePropagation() }

  window.addEventListener("change", (event) => {
    if (!inChat(event.target) || event.target.type !== "file" || !upload([...event.target.files])) return
    event.stopImmediatePropagation()
    event.target.value = ""
  }, true)
  window.addEventListener("paste", (event) => {
    const elsewhere = event.target.closest?.("input, textarea, [contenteditable=true]") && !inChat(event.target)
    if (!elsewhere && upload([...(event.clipboardData?.files ?? [])])) handled(event)
  }, true)
  window.addEventListener("drop", (event) => {
    const files = [...(event.dataTransfer?.files ?? [])]
    if (event.target.closest?.("[data-testid=stFileUploaderDropzone]") || !upload(files)) return
    handled(event)
    window.dispatchEvent(new DragEvent("drop", { cancelable: true }))  // ends Streamlit's drag indicator
  }, true)

  /* --- The keyboard: Enter that ends a composition sends nothing; Enter during an upload sends once it is finished. --- */

  let waits = false
  const send = () => find("[data-testid=stChatInputSubmitButton]")?.click()
  const hold = (event) => {
    if (!isUploading()) return
    handled(event)
    waits = true
  }
  window.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches?.("textarea, input")) return
    // Safari ends the composition first and reports the key only then, with key code 229.
    if (event.isComposing || event.keyCode === 229) event.stopImmediatePropagation()
    else if (inChat(event.target) && !event.shiftKey && !event.ctrlKey && !event.metaKey) hold(event)
  }, true)
  window.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-testid=stChatInputSubmitButton]")) hold(event)
  }, true)

  /* Half a character (a lone surrogate) cannot be sent: the whole message would be lost silently. */
  window.addEventListener("input", ({ target }) => {
    if (!target.matches?.("textarea, input[type=text], input:not([type])") || target.value.isWellFormed?.() !== false) return
    const kind = target instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement
    const { set } = Object.getOwnPropertyDescriptor(kind.prototype, "value")  // bypasses React's own, so that it notices the change
    const at = target.selectionStart
    set.call(target, target.value.toWellFormed())
    target.setSelectionRange(at, at)
  }, true)

  /* --- Streamlit's own texts, which are English, are translated, everywhere but in what users and models wrote. --- */

  const NAMES = ["aria-label", "title", "placeholder"]
  const CONTENT = "[class*=st-key-message-], [data-testid=stMarkdown], [data-testid=stCaptionContainer], style, script, textarea"
  const drawn = new WeakMap()  // by text node or element: Streamlit's text, and its replacement
  let language = "", whole = new Map(), gapped = []
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
  const useWords = (data) => {
    language = data.language
    whole = new Map(data.words)
    gapped = data.words.filter(([original]) => original.includes("{")).map(([original, here]) => {
      const parts = original.split(/\{\w+\}/).map(escaped)
      return [new RegExp(`^${parts.join("(.+)")}$`, "s"), here]
    })
  }
  const inLanguage = (original) => {
    const found = whole.get(original)
    if (found !== undefined) return found
    for (const [pattern, here] of gapped) {
      const gap = pattern.exec(original)
      if (gap) return here.replace(/\{\w+\}/, () => inLanguage(gap[1]))
    }
    return original
  }
  const replaced = (place, key, now) => {
    const kept = drawn.get(place) ?? {}
    const original = kept[key]?.put === now ? kept[key].original : now
    const [, before, words, after] = /^(\s*)(.*?)(\s*)$/s.exec(original)
    const put = before + inLanguage(words) + after
    if (put !== original || kept[key]) drawn.set(place, { ...kept, [key]: { original, put } })
    return put
  }
  const putText = (text) => {
    if (!text.data.trim() || !text.parentElement || text.parentElement.closest(CONTENT)) return
    const put = replaced(text, "text", text.data)
    if (put !== text.data) text.data = put
  }
  const putNames = (element) => {
    for (const name of NAMES) {
      const now = element.getAttribute(name)
      const put = now && replaced(element, name, now)
      if (now && put !== now) element.setAttribute(name, put)
    }
  }
  const putAll = (root) => {
    if (root.nodeType === Node.TEXT_NODE) return putText(root)
    if (root.nodeType !== Node.ELEMENT_NODE) return
    putNames(root)
    const all = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT)
    while (all.nextNode()) all.currentNode.nodeType === Node.TEXT_NODE ? putText(all.currentNode) : putNames(all.currentNode)
  }
  const changes = { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: NAMES }
  new MutationObserver((records) => {
    if (!whole.size) return
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") putNames(target)
      else if (type === "characterData") putText(target)
      else addedNodes.forEach(putAll)
    }
  }).observe(document.body, changes)

  /* --- Data from the server at every rerun. --- */

  const tell = (data, button, setTriggerValue) => {
    const isNew = data.turn > received.turn
    received = data
    newest = button
    report = setTriggerValue
    newest.textContent = data.newest
    newest.onclick = () => { follow(); newest.hidden = true }
    document.documentElement.lang = data.language
    if (data.language !== language) {
      useWords(data)
      putAll(document.body)
    }
    watch()
    if (isNew) follow()
    if (main) showNewest()
    if (sent && data.processed > sent.processed) {
      const isFine = data.refused === sent.refused
      sent = null
      if (waits && isFine) setTimeout(send)
      waits = false
    }
  }
  return { tell, attach: upload }
}
