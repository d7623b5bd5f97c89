"""Token ids -> text that only grows, never shows half a character, and joined is the text of all ids.

A character of Chinese, Korean or an emoji is several bytes and often several tokens. Decoding token by token breaks
them, so the newest tokens are decoded together with what came before them until the characters are whole.
"""

from __future__ import annotations

from typing import Any

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Decodes one answer incrementally.

    Args:
        tokenizer: a transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.text = ""
        self._done = 0  # ids whose text has been given
        self._anchor = 0  # ids from here on are decoded anew: some decoders look at the token before

    def add(self, *ids: int) -> str:
        """Take more ids; returns the text that has become whole, often empty."""
        self.ids.extend(ids)
        before = self._decode(self.ids[self._anchor : self._done])
        now = self._decode(self.ids[self._anchor :])
        if now.endswith(_UNFINISHED) or not now.startswith(before):
            return ""
        self._anchor, self._done = self._done, len(self.ids)
        delta = now[len(before) :]
        self.text += delta
        return delta

    def finish(self) -> str:
        """The rest of the text, with replacement characters for bytes that never became a character."""
        rest = self._decode(self.ids)[len(self.text) :]
        self.text += rest
        return rest

    def _decode(self, ids: list[int]) -> str:
        """Text of ids as it is: no token is skipped and nothing is cleaned up."""
        if not ids:
            return ""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
