"""Incremental detokenization: text deltas that never split a character and join to the text of all ids.

A Chinese or Korean character or an emoji takes several bytes and often several tokens. Decoding token by token would
break it, so the newest tokens are decoded together with preceding ones until the characters are complete.
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
        self._done = 0  # number of ids whose text has been returned
        self._anchor = 0  # ids from here on are decoded again, since some decoders depend on the preceding token

    def add(self, *ids: int) -> str:
        """Add ids; returns the text that has become complete, which is often empty."""
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
        """Return the rest of the text, with replacement characters for incomplete byte sequences."""
        rest = self._decode(self.ids)[len(self.text) :]
        self.text += rest
        return rest

    def _decode(self, ids: list[int]) -> str:
        """Decode ids verbatim: no token is skipped and no spaces are cleaned up."""
        if not ids:
            return ""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class StopTexts:
    """Cuts streamed text before the first stop text; text that may begin one is held back until that is decided.

    Args:
        stops: the stop texts, none of them empty.

    Attributes:
        text: the text released so far.
        is_over: whether a stop text was found.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops, self.text, self.is_over = stops, "", False
        self._held = ""

    def add(self, text: str) -> str:
        """Add text; returns the part that can be released."""
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
        """Return the text still held back, which did not turn out to be a stop text."""
        rest, self._held = self._held, ""
        self.text += rest
        return rest

    def _beginning(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop text."""
        longest = min(max(map(len, self.stops), default=1) - 1, len(text))
        lengths = (length for length in range(longest, 0, -1) if text[-length:] in self._starts(length))
        return next(lengths, 0)

    def _starts(self, length: int) -> set[str]:
        return {stop[:length] for stop in self.stops}
