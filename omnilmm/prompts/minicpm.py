"""The prompt of MiniCPM-V 1.0 and 2.0: two role headers in plain text, nothing between the turns.

    <s><用户>{picture}⏎{text}<AI>{answer}<用户>{text}<AI>

Source: checked against the prompts and ids in `tests/golden/prompts.json`. The published code always puts the picture
into the first message; here it stays in the turn in which it was sent. There is no system prompt.

For training, `</s>` follows the last answer only, but is the label after every answer, as in the published code, so
that the model learns to end each. That code encodes every message of 2.0 by itself, which can give other ids than the
whole prompt does in inference; here the ids of training are those of inference.
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
    label = None
    for message in conversation.messages:
        cleaned = without_headers(message, tuple(HEADERS.values()))
        pieces += [Text(HEADERS[message.role], label=label), *content(cleaned, places)]
        label = END if message.role == "assistant" else None
    if conversation.messages and conversation.messages[-1].role == "assistant":
        return [*pieces, Control(END, in_loss=True)]  # training only
    return [*pieces, Text(HEADERS["assistant"])]
