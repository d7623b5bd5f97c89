"""The prompt of MiniCPM-V 1.0 and 2.0: two markers that are plain text, nothing between the turns.

    <s><用户>{picture}⏎{text}<AI>{answer}<用户>{text}<AI>

Source: checked against the prompts and ids in `tests/golden/prompts.json`. The published code puts its one picture into
the first message alone; here it stands in the turn that showed it. There is no system prompt.
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
    """Pieces of a conversation, up to where the model has to go on.

    Args:
        conversation: messages with the picture in any turn.
        grids: (columns, rows) of each picture of the conversation, None where it is not cut.
        image_ids: not a feature of this template; pictures are never numbered.
    """
    pieces: list[Piece] = [Control(BEGIN)]
    places = (slice_pieces([Control("<image>"), Slots(), Control("</image>")], grid) for grid in grids)
    for message in conversation.messages:
        said = without_headers(message, tuple(HEADERS.values()))
        pieces += [Text(HEADERS[message.role]), *content(said, places)]
    if conversation.messages and conversation.messages[-1].role == "assistant":
        return [*pieces, Control(END, in_loss=True)]  # only training has such a conversation
    return [*pieces, Text(HEADERS["assistant"])]
