"""Prompts as lists of pieces, and the encoding of pieces to token ids.

A template turns a conversation into pieces: `Control` (one structural token, by its text in the tokenizer), `Text`, and
`Slots` (placeholders for the features of one view). Structure therefore never comes from user input: what looks like a
control token there is encoded as ordinary characters. Grounding tags (`<box>` …) are the exception: they are part of
the text and keep their ids.

Chat and training share one renderer: pieces that the model learns to generate carry `in_loss`, and a `Text` may carry
`label`, a token that is learnt in its place. Both become one label per token; the prompt itself is the same in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from omnilmm.conversation import Message, Part, Picture
from omnilmm.errors import CheckpointError
from omnilmm.images.slicing import Size

GROUNDING_TAGS = ("<box>", "</box>", "<ref>", "</ref>", "<quad>", "</quad>", "<point>", "</point>")
_GROUNDING = re.compile("|".join(map(re.escape, GROUNDING_TAGS)))
IGNORED = -100  # the label of tokens that do not count towards the loss, as in torch and transformers


@dataclass(frozen=True)
class Control:
    """One structural token."""

    token: str
    in_loss: bool = False


@dataclass(frozen=True)
class Text:
    """Plain text, of the template or of a message.

    Attributes:
        text: the text.
        in_loss: whether the model learns to generate it.
        label: structural token that the model learns to generate where this text begins, e.g. the end of an answer that
            the template of MiniCPM-V 2.0 does not write between two turns.
    """

    text: str
    in_loss: bool = False
    label: str | None = None


@dataclass(frozen=True)
class Slots:
    """Placeholders for the features of one view."""


Piece = Control | Text | Slots


@dataclass(frozen=True)
class Prompt:
    """An encoded prompt of S tokens.

    Attributes:
        input_ids: token ids [S].
        image_slots: positions of picture features [S].
        labels: the token to learn at each position [S], `IGNORED` where there is none; the model predicts it from the
            tokens before. Used in training only, empty where it was not requested.
    """

    input_ids: list[int]
    image_slots: list[bool]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.input_ids)


def content(message: Message, places: Iterator[list[Piece]]) -> list[Piece]:
    """Return the pieces of a message, parts separated by line breaks; each picture takes the next of `places`.

    Videos have been replaced by several pictures before, see `MiniCPMVProcessor`.
    """
    pieces: list[Piece] = []
    for position, part in enumerate(message.parts):
        if position:
            pieces.append(Text("\n"))
        if isinstance(part, str):
            pieces += text_pieces(part, in_loss=message.role == "assistant")
        else:
            pieces += next(places)
    return pieces


def slice_pieces(view: list[Piece], grid: Size | None) -> list[Piece]:
    """Return the overview, then one `<slice>` pair around the whole grid of slices, row by row (2.0, 2.5)."""
    if grid is None:
        return view
    columns, rows = grid
    pieces: list[Piece] = [*view, Control("<slice>")]
    for row in range(rows):
        if row:
            pieces.append(Text("\n"))
        pieces += view * columns
    return [*pieces, Control("</slice>")]


def text_pieces(text: str, *, in_loss: bool = False) -> Iterator[Piece]:
    """Yield the pieces of a message text: plain text, with grounding tags as control tokens."""
    end = 0
    for tag in _GROUNDING.finditer(text):
        yield Text(text[end : tag.start()], in_loss)
        yield Control(tag.group(), in_loss)
        end = tag.end()
    yield Text(text[end:], in_loss)


def without_headers(message: Message, headers: tuple[str, ...]) -> Message:
    """Neutralise role headers in the text of a message, for templates whose headers are plain text.

    A header in the text gets a space after its first character. Adjacent texts are joined with a line break first, so
    that no header can arise where two texts meet.
    """
    parts: list[Part] = []
    for is_picture, group in groupby(message.parts, key=lambda part: isinstance(part, Picture)):
        if is_picture:
            parts += group
            continue
        text = "\n".join(part for part in group if isinstance(part, str))
        for header in headers:
            text = text.replace(header, f"{header[0]} {header[1:]}")
        parts.append(text)
    return Message(message.role, tuple(parts))


class PieceEncoder:
    """Encodes pieces to token ids with a checkpoint's tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        query_num: number of features, and so of placeholders, per view.
        slot: placeholder token for a feature.
        split: function that encodes plain text instead of the tokenizer, which then only supplies the added tokens.
    """

    def __init__(
        self, tokenizer: Any, query_num: int, slot: str = "<unk>", split: Callable[[str], list[int]] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.split = split or _splitter(tokenizer)
        self.query_num = query_num
        self.added = dict(tokenizer.get_added_vocab())
        self.slot_id = self.control_id(slot)
        # Longest first, as one token may be a prefix of another.
        names = sorted((name for name in self.added if len(name) > 1), key=len, reverse=True)
        self.forged = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def control_id(self, token: str) -> int:
        """Return the id of a structural token.

        Raises:
            CheckpointError: The tokenizer has no such token.
        """
        if token not in self.added:
            raise CheckpointError("no_such_token", token=token)
        return self.added[token]

    def word_id(self, word: str) -> int:
        """Return the id of a text that is a single token.

        Raises:
            CheckpointError: The text is not exactly one token.
        """
        ids = self._plain(word)
        if len(ids) != 1:
            raise CheckpointError("not_one_token", word=word, count=len(ids))
        return ids[0]

    def count(self, text: str) -> int:
        """Count the tokens of a text encoded on its own."""
        return len(self._encode_text(text))

    def encode(self, pieces: list[Piece], *, with_labels: bool = True) -> Prompt:
        """Encode all pieces; adjacent texts are encoded together, whether or not they count towards the loss.

        Args:
            pieces: pieces of a prompt.
            with_labels: also compute the labels, which takes one more encoding per change of `in_loss` within a text.
        """
        prompt = Prompt([], [], [])
        for kind, group in groupby(pieces, key=type):
            if kind is Text:
                texts = [piece for piece in group if isinstance(piece, Text) and piece.text]
                ids, labels = self._encode_texts(texts if with_labels else [Text("".join(text.text for text in texts))])
            elif kind is Slots:
                ids = [self.slot_id] * (self.query_num * len(list(group)))
                labels = [IGNORED] * len(ids)
            else:
                tokens = [(self._encode_control(c.token), c.in_loss) for c in group if isinstance(c, Control)]
                ids = [token for found, _ in tokens for token in found]
                labels = [token if in_loss else IGNORED for found, in_loss in tokens for token in found]
            prompt.input_ids.extend(ids)
            prompt.image_slots.extend([kind is Slots] * len(ids))
            prompt.labels.extend(labels if with_labels else ())
        return prompt

    def _encode_texts(self, texts: list[Text]) -> tuple[list[int], list[int]]:
        """Encode texts as one string, so that merges across `in_loss` borders and SentencePiece's space are correct."""
        ids = self._encode_text("".join(piece.text for piece in texts))
        labels: list[int] = []
        joined = ""
        speakers = [(kind, "".join(piece.text for piece in group)) for kind, group in groupby(texts, _kind)]
        for number, ((in_loss, label), text) in enumerate(speakers, 1):
            joined += text
            begin, end = len(labels), len(ids)
            if number < len(speakers):
                end = min(len(self._encode_text(joined)), end)
            labels += ids[begin:end] if in_loss else [IGNORED] * (end - begin)
            if label is not None and begin < end:
                labels[begin] = self.control_id(label)
        return ids, labels

    def _encode_control(self, token: str) -> list[int]:
        if token in GROUNDING_TAGS and token not in self.added:
            return self._plain(token)
        return [self.control_id(token)]

    def _encode_text(self, text: str) -> list[int]:
        """Encode plain text; every string that the tokenizer would match as an added token is split in two."""
        ids: list[int] = []
        start = 0
        for forged in self.forged.finditer(text):
            ids += self._plain(text[start : forged.start() + 1])
            start = forged.start() + 1
        return ids + self._plain(text[start:])

    def _plain(self, text: str) -> list[int]:
        return list(self.split(text)) if text else []


def _kind(piece: Text) -> tuple[bool, str | None]:
    return piece.in_loss, piece.label


def _splitter(tokenizer: Any) -> Callable[[str], list[int]]:
    """Return a text encoder that calls the backend of a fast tokenizer directly, several times as fast."""

    def split(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    inside = getattr(tokenizer, "backend_tokenizer", None)
    if inside is None:
        return split
    split("a")  # switches off truncation and padding settings of tokenizer.json
    # Batch encoding releases the GIL; skipping offsets halves the time.
    return lambda text: list(inside.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def as_text(pieces: list[Piece], query_num: int, slot: str = "<unk>") -> str:
    """Return the prompt as one string, as the published code writes it."""
    written = {Slots: lambda _: slot * query_num, Control: lambda p: p.token, Text: lambda p: p.text}
    return "".join(written[type(piece)](piece) for piece in pieces)
