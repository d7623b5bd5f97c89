"""Conversations as Markdown for reading."""

from __future__ import annotations

from typing import Any

from omnilmm.conversation import Conversation, Video
from omnilmm.ui.embedding import data_address
from omnilmm.ui.film_strip import sheet
from omnilmm.ui.markup import plain_markdown
from omnilmm.ui.texts import Texts

_PREVIEW_PIXELS = 640  # longer side of a picture


def to_markdown(conversation: Conversation, texts: Texts, model: str = "") -> str:
    """Return a conversation for reading as one Markdown file with small embedded pictures.

    Args:
        conversation: conversation to convert.
        texts: language of the headings.
        model: title of the model, and of its adapter, that answers when it is exported.
    """
    names = {"user": texts.you, "assistant": texts.assistant}
    blocks = [texts.exported_with.format(model=plain_markdown(model))] if model else []
    blocks += [f"> {line}" for line in (conversation.system or "").splitlines()]
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
