"""The conversation as bubbles of Gradio's chat, with an edit button (a pencil) on each question."""

from __future__ import annotations

import html

from omnilmm.ui.draft import Draft
from omnilmm.ui.markup import Shown, chat_messages
from omnilmm.ui.session import Session
from omnilmm.ui.texts import Texts


def bubbles(session: Session, draft: Draft | None = None, offer: str = "") -> list[Shown]:
    """Return the bubbles of `markup.chat_messages`; the n-th pencil, counted from 0, belongs to message 2n."""
    flat = chat_messages(session, draft, offer)
    roles = [*(bubble["role"] for bubble in flat[1:]), ""][: len(flat)]
    return [
        bubble | {"content": f"{bubble['content']}\n\n{_pencil(session.texts)}"}
        if bubble["role"] == "user" != following
        else bubble
        for bubble, following in zip(flat, roles, strict=True)
    ]


def _pencil(texts: Texts) -> str:
    name = html.escape(texts.edit)
    return f'<button class="edit" title="{name}" aria-label="{name}"></button>'
