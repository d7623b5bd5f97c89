"""The prompt of MiniCPM-V 4.0: ChatML as in `chatml`, but without a default system prompt.

    <|im_start|>user⏎{pictures and text}<|im_end|>⏎<|im_start|>assistant⏎

Source: the code of its makers' own port to transformers, and the size of its published template. Whether the prompt
starts with `<s>` depends on the checkpoint's tokenizer, which is checked (`MAY_BEGIN`).
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
    """Render a conversation as `chatml.render` does, without a default system prompt."""
    return [*turns(conversation, grids, system=conversation.system, image_ids=image_ids), *opened(conversation)]
