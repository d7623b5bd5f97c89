"""The prompt of MiniCPM-V 4.5: ChatML without a default system prompt, with a `<think>` block before the answer.

    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎<think>⏎⏎</think>⏎⏎    thinking off
    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎<think>⏎                thinking on

Source: the template of its makers' MiniCPM-o of the same generation. That the prompt opens the `<think>` block follows
from their code, which prepends `<think>⏎` to the output. The reasoning of earlier answers is left out of the prompt.
"""

from __future__ import annotations

from dataclasses import replace

from omnilmm.conversation import Conversation, Message
from omnilmm.images.slicing import Size
from omnilmm.prompts.chatml import SLOT, STOP_TOKENS, opened, turns
from omnilmm.prompts.pieces import Control, Piece, Text

__all__ = ["SLOT", "STOP_TOKENS", "THINKING", "render"]

THINKING = False  # default
OPENED: tuple[Piece, ...] = (Control("<think>"), Text("\n"))
NO_THOUGHT: tuple[Piece, ...] = (Control("<think>"), Text("\n\n"), Control("</think>"), Text("\n\n"))


def render(
    conversation: Conversation, grids: list[Size | None], *, image_ids: bool = True, thinking: bool = THINKING
) -> list[Piece]:
    """Render a conversation to pieces, including the generation prompt.

    Args:
        conversation: messages with pictures in any turn.
        grids: slice grid (columns, rows) of each picture, None where it is not sliced.
        image_ids: number the pictures.
        thinking: end with an open `<think>` block instead of an empty closed one.
    """
    rendered = replace(conversation, messages=tuple(map(_without_thought, conversation.messages)))
    pieces = turns(rendered, grids, system=rendered.system, image_ids=image_ids)
    header = opened(rendered)
    if header:
        return [*pieces, *header, *(OPENED if thinking else NO_THOUGHT)]
    begin = max(number for number, piece in enumerate(pieces) if piece == Text("assistant\n")) + 1
    return [*pieces[:begin], *NO_THOUGHT, *pieces[begin:]]


def _without_thought(message: Message) -> Message:
    if message.role != "assistant":
        return message
    kept = (part.rpartition("</think>")[2].lstrip("\n") if isinstance(part, str) else part for part in message.parts)
    return replace(message, parts=tuple(kept))
