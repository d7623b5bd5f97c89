"""The conversation as bubbles of Gradio's chat, a pencil on each question; and pictures as addresses."""

from __future__ import annotations

import base64
import html
import io

from PIL import Image

from omnilmm.ui.markup import Shown, chat_messages
from omnilmm.ui.session import Draft, Session
from omnilmm.ui.texts import Texts


def bubbles(session: Session, draft: Draft | None = None) -> list[Shown]:
    """See `markup.chat_messages`; the n-th pencil, from 0 on, is that of message 2n."""
    flat = chat_messages(session, draft)
    roles = [*(bubble["role"] for bubble in flat[1:]), ""][: len(flat)]
    return [
        bubble | {"content": f"{bubble['content']}\n\n{_pencil(session.texts)}"}
        if bubble["role"] == "user" != following
        else bubble
        for bubble, following in zip(flat, roles, strict=True)
    ]


def address(image: Image.Image, pixels: int | None = None) -> str:
    """A picture as a `data:` address, its longer side at most so many pixels."""
    if pixels and max(image.size) > pixels:
        image = image.copy()
        image.thumbnail((pixels, pixels))
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stored.getvalue()).decode()}"


def _pencil(texts: Texts) -> str:
    name = html.escape(texts.edit)
    return f'<button class="edit" title="{name}" aria-label="{name}"></button>'
