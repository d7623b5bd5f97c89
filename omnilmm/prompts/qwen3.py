"""The prompt of MiniCPM-V 4.5: ChatML without a system line of its own, and a thought before the answer.

    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎<think>⏎⏎</think>⏎⏎    thinking off
    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎<think>⏎                thinking on

Source: its makers' template as read in their model of speech and pictures of the same generation; that it opens the
thought itself follows from their program, which puts `<think>⏎` in front of what the model says. What earlier answers
thought is not told to the model again.
"""

from __future__ import annotations

from dataclasses import replace

from omnilmm.conversation import Conversation, Message
from omnilmm.images.slicing import Size
from omnilmm.prompts.chatml import SLOT, STOP_TOKENS, opened, turns
from omnilmm.prompts.pieces import Control, Piece, Text

__all__ = ["SLOT", "STOP_TOKENS", "THINKING", "render"]

THINKING = False  # where nobody says
OPENED: tuple[Piece, ...] = (Control("<think>"), Text("\n"))
NO_THOUGHT: tuple[Piece, ...] = (Control("<think>"), Text("\n\n"), Control("</think>"), Text("\n\n"))


def render(
    conversation: Conversation, grids: list[Size | None], *, image_ids: bool = True, thinking: bool = THINKING
) -> list[Piece]:
    """As `chatml.render`.

    Args:
        conversation: messages with pictures in any turn.
        grids: (columns, rows) of each picture, None where it is not cut.
        image_ids: number the pictures.
        thinking: open a thought before the answer, instead of closing an empty one.
    """
    said = replace(conversation, messages=tuple(map(_without_thought, conversation.messages)))
    pieces = turns(said, grids, system=said.system, image_ids=image_ids)
    header = opened(said)
    if header:
        return [*pieces, *header, *(OPENED if thinking else NO_THOUGHT)]
    begin = max(number for number, piece in enumerate(pieces) if piece == Text("assistant\n")) + 1
    return [*pieces[:begin], *NO_THOUGHT, *pieces[begin:]]


def _without_thought(message: Message) -> Message:
    if message.role != "assistant":
        return message
    kept = (part.rpartition("</think>")[2].lstrip("\n") if isinstance(part, str) else part for part in message.parts)
    return replace(message, parts=tuple(kept))
