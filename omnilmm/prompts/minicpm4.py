"""The prompt of MiniCPM-V 4.0: ChatML without a system line of its own; else as `chatml`.

    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎

Source: its makers' own port to transformers as read, and the size of its published template. Whether `<s>` stands in
front depends on the checkpoint's tokenizer, which is asked (`MAY_BEGIN`).
"""

from __future__ import annotations

from omnilmm.conversation import Conversation
from omnilmm.images.slicing import Size
from omnilmm.prompts.chatml import END, SLOT, opened, turns
from omnilmm.prompts.pieces import Piece

__all__ = ["MAY_BEGIN", "SLOT", "STOP_TOKENS", "render"]

MAY_BEGIN = "<s>"
STOP_TOKENS = (END, "</s>")


def render(conversation: Conversation, grids: list[Size | None], *, image_ids: bool = True) -> list[Piece]:
    """As `chatml.render`."""
    return [*turns(conversation, grids, system=conversation.system, image_ids=image_ids), *opened(conversation)]
