"""The prompt of OmniLMM-12B and RLAIF-V-12B: Zephyr's headers, which are plain text, and one picture.

    <s><|system|>⏎{system}</s>⏎<|user|>⏎{picture}⏎{text}</s>⏎<|assistant|>⏎

Source: checked against the published code's ids with the real tokenizer. The system line is fixed. A picture in front
of a text is followed by a line break, one in the middle of a text stands there as it is.
"""

from __future__ import annotations

from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.images.slicing import Size
from omnilmm.prompts.pieces import Control, Piece, Slots, Text, text_pieces, without_headers

SYSTEM = (
    "You are an artificial intelligence assistant, which gives helpful, detailed, and polite answers to the human's "
    "questions."
)
BEGIN, END = "<s>", "</s>"
HEADERS = ("<|system|>", "<|user|>", "<|assistant|>")
STOP_TOKENS = (END,)
SLOT = "<im_patch>"


def render(conversation: Conversation, grids: list[Size | None], *, image_ids: bool = False) -> list[Piece]:
    """Pieces of a conversation, up to where the model has to go on.

    Args:
        conversation: messages with the picture in any turn.
        grids: None for each picture: it is never cut.
        image_ids: not a feature of this template.
    """
    pieces: list[Piece] = [Control(BEGIN), Text(f"<|system|>\n{SYSTEM}"), Control(END), Text("\n")]
    for message in conversation.messages:
        in_loss = message.role == "assistant"
        pieces += [Text(f"<|{message.role}|>\n"), *_content(message, in_loss), Control(END, in_loss), Text("\n")]
    if conversation.messages and conversation.messages[-1].role == "assistant":
        return pieces[:-1]  # a text to learn from ends here
    return [*pieces, Text("<|assistant|>\n")]


def _content(message: Message, in_loss: bool) -> list[Piece]:
    pieces: list[Piece] = []
    parts = without_headers(message, HEADERS).parts
    for position, part in enumerate(parts):
        if isinstance(part, Picture):
            pieces += [Control("<im_start>"), Slots(), Control("<im_end>")]
            if position == 0 and len(parts) > 1:
                pieces.append(Text("\n"))
        elif isinstance(part, str):
            pieces += text_pieces(part, in_loss=in_loss)
    return pieces
