"""The recorder of short videos: `assets/clip.js`, which both pages share, as a component of this page."""

from __future__ import annotations

import streamlit as st
from streamlit import config

from omnilmm.catalog import ROOT
from omnilmm.ui.markup import CLIP_SECONDS
from omnilmm.ui.streamlit_page.component import component
from omnilmm.ui.texts import Texts

_CSS = """
.clip { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 14px; min-width: min(340px, 70vw);
  font: 0.85rem var(--st-font); color: var(--st-text-color); }
/* Also before there is a picture: the popover takes the place that it needs when it is opened. */
video { display: block; flex: 1 1 100%; width: 100%; height: 220px; object-fit: contain; border-radius: 8px;
  background: #111; }
button { padding: 6px 16px; border-radius: 999px; border: 1px solid var(--st-border-color); font: 0.9rem var(--st-font);
  color: var(--st-text-color); background: var(--st-background-color); cursor: pointer; }
button::before { content: ""; display: inline-block; width: 10px; height: 10px; margin-right: 8px; border-radius: 50%;
  background: #d93025; }
[data-recording] button::before { border-radius: 2px; }
button:hover, button:focus-visible { border-color: var(--st-primary-color); }
p { flex: 1 1 160px; margin: 0; opacity: 0.8; }
"""
# Streamlit runs it at every rerun; a recording goes on unless the texts have changed. Escape closes the popover.
_JS = """
function draw({ parentElement, data }) {
  const root = parentElement.querySelector(".clip"), drawn = JSON.stringify(data)
  if (root.dataset.drawn === drawn) return
  omnilmmClip.conclude()
  root.dataset.drawn = drawn
  root.dataset.seconds = data.seconds
  root.toggleAttribute("data-keeps", true)  // any click outside closes the popover
  omnilmmClip.fill(root, data.texts, (file) => {
    if (root.isConnected) document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }))
    window.omnilmm.attach([file])  // after it: closing moves the focus
  }, data.bytes)
}
"""
_recorder = component(
    "omnilmm_clip",
    html='<div class="clip"></div>',
    css=_CSS,
    js=(ROOT / "assets" / "clip.js").read_text(encoding="utf-8") + _JS,
)


def recorder(texts: Texts) -> None:
    """Draw the button that records a video, which is then attached like a chosen file."""
    most_bytes = int(config.get_option("server.maxUploadSize")) * 2**20
    data = {"texts": texts.clip_texts(CLIP_SECONDS), "seconds": CLIP_SECONDS, "bytes": most_bytes}
    with st.container(key="clip-place"):  # as high as the recorder, which comes later than the popover is placed
        _recorder(key="clip", data=data, height="content")
