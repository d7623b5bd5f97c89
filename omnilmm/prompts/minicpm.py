"""The prompt of MiniCPM-V 1.0 and 2.0: two role headers in plain text, nothing between the turns.

    <s><用户>{picture}⏎{text}<AI>{answer}<用户>{text}<AI>

Source: checked against the prompts and ids in `tests/golden/prompts.json`. The published code always puts the picture
into the first message; here it stays in the turn in which it was sent. There is no system prompt.
"""

from __future__ import annotations

from omnilmm.conversation import Conversation
from omnilmm.images.slicing import Size
from omnilmm.prompts.pieces import Control, Piece, Slots, Text, content, slice_pieces, without_headers

BEGIN, END = "<s>", "</s>"
STOP_TOKENS = (END,)
SLOT = "<unk>"
HEADERS = {"user": "<用户>", "assistant": "<AI>"}


def render(conversation: Conversation, grids: list[Size | None], *, image_ids: bool = False) -> list[Piece]:
    """Render a conversation to pieces, including the generation prompt.

    Args:
        conversation: messages with the picture in any turn.
        grids: slice grid (columns, rows) of each picture of the conversation, None where it is not sliced.
        image_ids: ignored; this template does not number pictures.
    """
    pieces: list[Piece] = [Control(BEGIN)]
    places = (slice_pieces([Control("<image>"), Slots(), Control("</image>")], grid) for grid in grids)
    for message in conversation.messages:
        said = without_headers(message, tuple(HEADERS.values()))
        pieces += [Text(HEADERS[message.role]), *content(said, places)]
    if conversation.messages and conversation.messages[-1].role == "assistant":
        return [*pieces, Control(END, in_loss=True)]  # training only
    return [*pieces, Text(HEADERS["assistant"])]
