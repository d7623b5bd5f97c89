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


class StopTexts:
    """An answer up to the first of some texts; what may be the beginning of one is held back until that is known.

    Args:
        stops: none of them empty.

    Attributes:
        text: of the answer so far, all of it that is known to be shown.
        is_over: whether one of them came.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops, self.text, self.is_over = stops, "", False
        self._held = ""

    def add(self, text: str) -> str:
        """Take more text; returns what of it can be shown."""
        if self.is_over:
            return ""
        text = self._held + text
        ends = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        self.is_over = bool(ends)
        shown = text[: min(ends)] if ends else text[: len(text) - self._beginning(text)]
        self._held = "" if ends else text[len(shown) :]
        self.text += shown
        return shown

    def finish(self) -> str:
        """What was held back in vain."""
        rest, self._held = self._held, ""
        self.text += rest
        return rest

    def _beginning(self, text: str) -> int:
        """How many characters at the end may begin one of them."""
        longest = min(max(map(len, self.stops), default=1) - 1, len(text))
        lengths = (length for length in range(longest, 0, -1) if text[-length:] in self._starts(length))
        return next(lengths, 0)

    def _starts(self, length: int) -> set[str]:
        return {stop[:length] for stop in self.stops}
