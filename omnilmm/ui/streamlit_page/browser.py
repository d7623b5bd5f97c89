"""Features of the browser: clipboard, stored state, scroll position, files and keys."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit import config

from omnilmm.catalog import ROOT
from omnilmm.ui.session_store import BrowserState
from omnilmm.ui.streamlit_page.component import component
from omnilmm.ui.texts import Texts

_COPY_HTML = """
<button type="button"></button>
<span role="status"></span>
"""
_COPY_CSS = """
button { font: 0.8rem var(--st-font); color: var(--st-text-color); opacity: 0.75; background: none; border: 0;
  padding: 4px 8px 4px 0; cursor: pointer; }
button:hover, button:focus-visible { opacity: 1; color: var(--st-primary-color); }
span { font: 0.8rem var(--st-font); color: var(--st-primary-color); }
"""
_COPY_JS = """
function draw({ parentElement, data }) {
  const button = parentElement.querySelector("button"), status = parentElement.querySelector("span")
  button.textContent = data.label
  button.onclick = async () => {
    await navigator.clipboard.writeText(data.text)
    status.textContent = "✓"
    setTimeout(() => { status.textContent = "" }, 1500)
  }
}
"""
_copy = component("omnilmm_copy", html=_COPY_HTML, css=_COPY_CSS, js=_COPY_JS)


def copy_button(text: str, label: str, key: str) -> None:
    """Show a button that copies a text to the clipboard.

    Args:
        text: the text to copy.
        label: the label of the button.
        key: the key of the widget.
    """
    _copy(key=key, data={"text": text, "label": label}, width="content", height="content")


# Per tab, not per browser: two tabs are two conversations, and each survives a reload.
_STATE_JS = """
let again
function draw({ data, setTriggerValue }) {
  const place = "omnilmm-chat"
  clearTimeout(again)
  if (data.asks) {
    const answer = (wait) => {
      setTriggerValue("kept", sessionStorage.getItem(place) || "{}")
      again = setTimeout(() => answer(2 * wait), wait)  // it may be lost while the page is being drawn
    }
    answer(4000)
  } else {
    try {
      sessionStorage.setItem(place, data.state)
    } catch {  // no room for so long a text: the server alone keeps it
      sessionStorage.removeItem(place)
    }
  }
}
"""
_STATE = "browser-state"
_state = component("omnilmm_memory", js=_STATE_JS)


def sync_browser_state(remembered: BrowserState, on_return: Callable[[BrowserState], None]) -> None:
    """Store a state in the browser for this tab, or read the stored one.

    Args:
        remembered: the state to store; without a token, the stored one is read instead.
        on_return: called with the stored state, which may be empty.
    """

    def returned() -> None:
        kept = st.session_state[_STATE].kept
        if kept is not None:  # else it has gone with an earlier run of the page, and comes again
            on_return(BrowserState.read(str(kept)))

    data = {"asks": not remembered.token, "state": remembered.model_dump_json()}
    with st.container(key="browser-state-place"):
        _state(key=_STATE, data=data, on_kept_change=returned, height="content")


_SCRIPT = ROOT / "assets" / "streamlit.js"
_SCRIPT_KEY = "script"
_NEWEST_CSS = """
button { font: 0.85rem var(--st-font); color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: 999px; padding: 6px 14px; cursor: pointer;
  box-shadow: 0 1px 6px rgba(0, 0, 0, 0.2); white-space: nowrap; }
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button[hidden] { display: none; }
"""
_script = component(
    "omnilmm_script",
    html='<button type="button" hidden></button>',
    css=_NEWEST_CSS,
    js=_SCRIPT.read_text(encoding="utf-8"),
)


def script(
    texts: Texts, *, turn: int, processed: int, refused: int, on_large: Callable[[list[str], int], None]
) -> None:
    """Run `assets/streamlit.js` in the browser; the button that scrolls to the newest turn is placed here.

    Args:
        texts: of the page's language, into which Streamlit's own texts are translated, too.
        turn: increases with every turn that should scroll into view.
        processed: how many uploads were processed.
        refused: how many of them were not pictures.
        on_large: called with the names of files that are too large to upload, and the limit in MiB.
    """
    most_mib = int(config.get_option("server.maxUploadSize"))
    data = {"turn": turn, "processed": processed, "refused": refused, "newest": f"↓ {texts.newest}"}
    words = {"language": texts.code, "words": texts.of_streamlit()}

    def report() -> None:
        on_large([str(name) for name in st.session_state[_SCRIPT_KEY].large or ()], most_mib)

    with st.container(key="newest"):
        sizes = {"max_bytes": most_mib * 2**20}
        _script(key=_SCRIPT_KEY, data=data | words | sizes, on_large_change=report, height="content")
