"""The prompt of MiniCPM-V 2.6 and the built-in model: ChatML, numbered pictures, `<slice>` around every slice.

    <|im_start|>system⏎{system}<|im_end|>⏎<|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎

Source: the code of MiniCPM-V 2.6's processor; its chat template is Qwen2's, whose default system prompt is kept.
"""

from __future__ import annotations

from omnilmm.conversation import Conversation
from omnilmm.images.slicing import Size
from omnilmm.prompts.pieces import Control, Piece, Slots, Text, content

DEFAULT_SYSTEM = "You are a helpful assistant."
END = "<|im_end|>"
STOP_TOKENS = (END, "<|endoftext|>")
SLOT = "<unk>"


def render(conversation: Conversation, grids: list[Size | None], *, image_ids: bool = True) -> list[Piece]:
    """Render a conversation to pieces, including the generation prompt.

    Args:
        conversation: messages with pictures in any turn.
        grids: slice grid (columns, rows) of each picture of the conversation, None where it is not sliced.
        image_ids: number the pictures, the checkpoint's `use_image_id`.
    """
    system = conversation.system or DEFAULT_SYSTEM
    return [*turns(conversation, grids, system=system, image_ids=image_ids), *opened(conversation)]


def turns(conversation: Conversation, grids: list[Size | None], *, system: str | None, image_ids: bool) -> list[Piece]:
    """Render the system prompt, if any, and all messages; the arguments are those of `render`."""
    pieces = _turn("system", [Text(system)]) if system else []
    places = (_placeholder(index if image_ids else None, grid) for index, grid in enumerate(grids))
    for message in conversation.messages:
        pieces += _turn(message.role, content(message, places))
    return pieces


def opened(conversation: Conversation) -> list[Piece]:
    """Return the generation prompt; empty if the conversation ends with an answer."""
    is_answered = bool(conversation.messages) and conversation.messages[-1].role == "assistant"
    return [] if is_answered else [Control("<|im_start|>"), Text("assistant\n")]


def _turn(role: str, content: list[Piece]) -> list[Piece]:
    return [Control("<|im_start|>"), Text(f"{role}\n"), *content, Control(END, role == "assistant"), Text("\n")]


def _placeholder(image_id: int | None, grid: Size | None) -> list[Piece]:
    pieces: list[Piece] = []
    if image_id is not None:
        pieces += [Control("<image_id>"), Text(str(image_id)), Control("</image_id>")]
    pieces += [Control("<image>"), Slots(), Control("</image>")]
    columns, rows = grid or (0, 0)
    for row in range(rows):
        if row:
            pieces.append(Text("\n"))
        pieces += [Control("<slice>"), Slots(), Control("</slice>")] * columns
    return pieces
