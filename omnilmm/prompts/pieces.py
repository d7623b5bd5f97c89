"""Prompts as lists of pieces, and pieces as token ids.

A template turns a conversation into pieces: `Control` (one structural token, by its text in the tokenizer), plain text,
and `Slots` (room for the features of one view). Structure therefore never comes from a user's text: what looks like a
control token there is encoded as the characters it is written with. Grounding tags (`<box>` …) are the exception: they
are words of the conversation and keep their ids.

One renderer serves chat and training: pieces that the model itself has to say carry `learn`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from omnilmm.errors import CheckpointError

GROUNDING_TAGS = ("<box>", "</box>", "<ref>", "</ref>", "<quad>", "</quad>", "<point>", "</point>")
_GROUNDING = re.compile("|".join(map(re.escape, GROUNDING_TAGS)))


@dataclass(frozen=True)
class Control:
    """One structural token."""

    token: str
    learn: bool = False


@dataclass(frozen=True)
class Text:
    """Plain text: the template's own words, or the user's."""

    text: str
    learn: bool = False


@dataclass(frozen=True)
class Slots:
    """Room for the features of one view."""


Piece = Control | Text | Slots


@dataclass(frozen=True)
class Prompt:
    """Token ids [S], where picture features go [S], and which tokens the model has to say itself [S]."""

    input_ids: list[int]
    image_slots: list[bool]
    learn: list[bool]

    def __len__(self) -> int:
        return len(self.input_ids)


def spoken(text: str, *, learn: bool = False) -> Iterator[Piece]:
    """A person's or a model's words: plain text in which grounding tags are tokens."""
    end = 0
    for tag in _GROUNDING.finditer(text):
        yield Text(text[end : tag.start()], learn)
        yield Control(tag.group(), learn)
        end = tag.end()
    yield Text(text[end:], learn)


class PieceEncoder:
    """Pieces -> ids, with one checkpoint's tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        query_num: features, and so slots, per view.
    """

    def __init__(self, tokenizer: Any, query_num: int) -> None:
        self.tokenizer = tokenizer
        self.query_num = query_num
        self.added = dict(tokenizer.get_added_vocab())
        self.slot_id = self.control_id("<unk>")
        # The longest first: a name may be the beginning of another.
        names = sorted((name for name in self.added if len(name) > 1), key=len, reverse=True)
        self.forged = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def control_id(self, token: str) -> int:
        """The id of a structural token.

        Raises:
            CheckpointError: The tokenizer has no such token.
        """
        if token not in self.added:
            raise CheckpointError(f"The tokenizer of this checkpoint has no token {token!r}, which its prompts need.")
        return self.added[token]

    def word_id(self, word: str) -> int:
        """The id of a text that is one token.

        Raises:
            CheckpointError: It is several.
        """
        ids = self._plain(word)
        if len(ids) != 1:
            raise CheckpointError(f"{word!r} is {len(ids)} tokens of this tokenizer; expected one.")
        return ids[0]

    def encode(self, pieces: list[Piece]) -> Prompt:
        """Join neighbouring text of one side (so that merges are the tokenizer's own), then encode."""
        prompt = Prompt([], [], [])
        for (kind, learn), group in groupby(pieces, key=lambda piece: (type(piece), getattr(piece, "learn", False))):
            if kind is Text:
                ids = self._encode_text("".join(piece.text for piece in group if isinstance(piece, Text)))
            elif kind is Slots:
                ids = [self.slot_id] * (self.query_num * len(list(group)))
            else:
                ids = [
                    token
                    for piece in group
                    if isinstance(piece, Control)
                    for token in self._encode_control(piece.token)
                ]
            prompt.input_ids.extend(ids)
            prompt.image_slots.extend([kind is Slots] * len(ids))
            prompt.learn.extend([learn] * len(ids))
        return prompt

    def _encode_control(self, token: str) -> list[int]:
        if token in GROUNDING_TAGS and token not in self.added:
            return self._plain(token)
        return [self.control_id(token)]

    def _encode_text(self, text: str) -> list[int]:
        """Ids of plain text; every string that the tokenizer would take for a token of its own is cut in two."""
        ids: list[int] = []
        start = 0
        for forged in self.forged.finditer(text):
            ids += self._plain(text[start : forged.start() + 1])
            start = forged.start() + 1
        return ids + self._plain(text[start:])

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def as_text(pieces: list[Piece], query_num: int) -> str:
    """The prompt as one string, as the published code writes it."""
    written = {Slots: lambda _: "<unk>" * query_num, Control: lambda p: p.token, Text: lambda p: p.text}
    return "".join(written[type(piece)](piece) for piece in pieces)
