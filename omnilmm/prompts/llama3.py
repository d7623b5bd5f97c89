"""The prompt of MiniCPM-Llama3-V 2.5: Llama-3 headers, one `<slice>` pair around the whole grid of a picture.

    <|begin_of_text|><|start_header_id|>user<|end_header_id|>⏎⏎{pictures and text}<|eot_id|>…

Source: checked against the prompt strings in `tests/golden/prompts.json`. Not verified: the real `tokenizer.json`, of
which no copy was available. Published versions disagree on `<|begin_of_text|>`; exactly one is written here.
"""

from __future__ import annotations

from omnilmm.conversation import Conversation
from omnilmm.images.slicing import Size
from omnilmm.prompts.pieces import Control, Piece, Slots, Text, content, slice_pieces

END = "<|eot_id|>"
STOP_TOKENS = ("<|end_of_text|>", END)
SLOT = "<unk>"


def render(conversation: Conversation, grids: list[Size | None], *, image_ids: bool = False) -> list[Piece]:
    """Render a conversation to pieces, including the generation prompt.

    Args:
        conversation: messages with pictures in any turn.
        grids: slice grid (columns, rows) of each picture of the conversation, None where it is not sliced.
        image_ids: ignored; this template does not number pictures.
    """
    pieces: list[Piece] = [Control("<|begin_of_text|>")]
    if conversation.system:
        pieces += _turn("system", [Text(conversation.system)])
    places = (slice_pieces([Control("<image>"), Slots(), Control("</image>")], grid) for grid in grids)
    for message in conversation.messages:
        pieces += _turn(message.role, content(message, places))
    if not conversation.messages or conversation.messages[-1].role != "assistant":
        pieces += _header("assistant")
    return pieces


def _header(role: str) -> list[Piece]:
    return [Control("<|start_header_id|>"), Text(role), Control("<|end_header_id|>"), Text("\n\n")]


def _turn(role: str, content: list[Piece]) -> list[Piece]:
    return [*_header(role), *_stripped(content), Control(END, role == "assistant")]


def _stripped(content: list[Piece]) -> list[Piece]:
    """Strip whitespace around the content of a message, as the template does."""
    pieces = list(content)
    while pieces and isinstance(first := pieces[0], Text):
        if trimmed := first.text.lstrip():
            pieces[0] = Text(trimmed, first.in_loss)
            break
        pieces.pop(0)
    while pieces and isinstance(last := pieces[-1], Text):
        if trimmed := last.text.rstrip():
            pieces[-1] = Text(trimmed, last.in_loss)
            break
        pieces.pop()
    return pieces
