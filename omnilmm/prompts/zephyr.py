"""The prompt of OmniLMM-12B and RLAIF-V-12B: Zephyr's plain-text role headers, and one picture.

    <s><|system|>⏎{system}</s>⏎<|user|>⏎{picture}⏎{text}</s>⏎<|assistant|>⏎

Source: checked against the published code's ids with the real tokenizer. The system prompt is fixed. A picture before
the text is followed by a line break; one in the middle of the text is not.
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
    """Render a conversation to pieces, including the generation prompt.

    Args:
        conversation: messages with the picture in any turn.
        grids: None for each picture, as this model does not slice.
        image_ids: ignored; this template does not number pictures.
    """
    pieces: list[Piece] = [Control(BEGIN), Text(f"<|system|>\n{SYSTEM}"), Control(END), Text("\n")]
    for message in conversation.messages:
        in_loss = message.role == "assistant"
        pieces += [Text(f"<|{message.role}|>\n"), *_content(message, in_loss), Control(END, in_loss), Text("\n")]
    if conversation.messages and conversation.messages[-1].role == "assistant":
        return pieces[:-1]  # a training example ends here
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
