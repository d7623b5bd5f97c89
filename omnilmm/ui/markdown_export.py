"""Conversations as Markdown for reading."""

from __future__ import annotations

from typing import Any

from omnilmm.conversation import Conversation, Video
from omnilmm.ui.embedding import data_address
from omnilmm.ui.film_strip import sheet
from omnilmm.ui.texts import Texts

_PREVIEW_PIXELS = 640  # longer side of a picture


def to_markdown(conversation: Conversation, texts: Texts) -> str:
    """Return a conversation for reading as one Markdown file with small embedded pictures."""
    names = {"user": texts.you, "assistant": texts.assistant}
    blocks = [f"> {line}" for line in (conversation.system or "").splitlines()]
    for message in conversation.messages:
        blocks.append(f"**{names[message.role]}**")
        for part in message.parts:
            if isinstance(part, Video):
                name = texts.video_name(part)
                blocks.append(f"![{name}]({data_address(sheet(part), _PREVIEW_PIXELS)})")
            else:
                blocks.append(part if isinstance(part, str) else _embedded(part.image, texts))
    return "\n\n".join(blocks) + "\n"


def _embedded(image: Any, texts: Texts) -> str:
    name = texts.picture_name(*image.size)
    return f"![{name}]({data_address(image, _PREVIEW_PIXELS)})"
