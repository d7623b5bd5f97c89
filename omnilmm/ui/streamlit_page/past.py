"""Past chats on the Streamlit page: what the browser stores and sends back; see `ui.past`."""

from __future__ import annotations

from typing import Any

import streamlit as st

from omnilmm.catalog import ROOT
from omnilmm.ui.access import COOKIE, account_in
from omnilmm.ui.streamlit_page.component import component
from omnilmm.ui.streamlit_page.runs import redraw
from omnilmm.ui.streamlit_page.visitor import Visitor, visitor
from omnilmm.ui.texts import Texts

_ASSETS = ROOT / "assets"
_HISTORY, _LIST = ((_ASSETS / name).read_text(encoding="utf-8") for name in ("history.js", "past_chats.js"))
_KEEP_JS = """
let shown = {}
function draw({ data, setTriggerValue }) {
  const history = window.omnilmmHistory, before = shown
  shown = data
  const ask = (names) => setTriggerValue("asked", names), open = (past) => setTriggerValue("opened", past)
  history.connect({ chat: data.chat, restore: data.restore, account: data.account, ask, open })
  if (data.record) history.store(data.record).then(history.kept)
  if (data.state === before.state) return  // drawn anew, for whatever reason
  if (data.empty && data.chat !== before.chat) return  // no message yet
  history.changed()
}
"""
_LIST_JS = """
function draw({ data, parentElement }) {
  const root = parentElement.querySelector(".past-chats")
  if (root.lang === data.language) return
  root.lang = data.language
  window.omnilmmPastChats(root, data)
}
"""
_STYLE = (_ASSETS / "past_chats.css").read_text(encoding="utf-8")
_KEEP = "past"
_keep = component("omnilmm_past", js=_HISTORY + _KEEP_JS)
_list = component("omnilmm_past_chats", html="<div class=past-chats></div>", css=_STYLE, js=_HISTORY + _LIST + _LIST_JS)


def show_list(texts: Texts) -> None:
    """Draw the switch and the list of past chats."""
    _list(key="past-chats", data=texts.past | {"language": texts.code})


@st.fragment
def keep() -> None:
    """Let the browser store the current conversation, if its owner wishes, and open a chat that it sends back."""
    me = visitor()
    if me.is_replaced:
        me.is_replaced = False
        redraw()  # the whole page, which shows another chat now
    with st.container(key="past-place"):
        _keep(key=_KEEP, data=_data(me), on_asked_change=_asked, on_opened_change=_opened, height="content")


def _data(me: Visitor) -> dict[str, Any]:
    saved, record, me.record = me.session.snapshot, me.record, None  # sent once
    messages = saved.conversation.messages
    return {
        "account": account_in(st.context.cookies.get(COOKIE)),
        "chat": saved.chat.id,
        "restore": saved.chat.text_of,
        "state": f"{saved.chat.id} {hash(messages)}",
        "empty": not messages,
        "record": record,
    }


def _asked() -> None:
    visitor().send_record(st.session_state[_KEEP].asked)


def _opened() -> None:
    visitor().open_past(st.session_state[_KEEP].opened)
