"""Reads the header of a GGUF file: sizes and names, without its weights, in a fraction of a second.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from omnilmm.errors import CheckpointError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_KEPT = 64  # elements of an array; longer ones, such as the vocabulary, are kept as their length
MOST_ENTRIES = 1_000_000
# Bytes and elements of a block of each kind of numbers; kinds that are not listed are not measured.
BLOCKS = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32), 10: (84, 256),
    11: (110, 256), 12: (144, 256), 13: (176, 256), 14: (210, 256), 30: (2, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Attributes:
        values: metadata by key; an array of more than 64 elements is its length.
        parameters: number of all weights.
        needed_bytes: size that the file must have at least, if it is complete.
        has_boxes: whether the vocabulary has a token `<box>`.
    """

    values: dict[str, Any]
    parameters: int
    needed_bytes: int
    has_boxes: bool

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture; "clip" for an mmproj file."""
        return str(self.values.get("general.architecture", ""))

    @property
    def is_mmproj(self) -> bool:
        """Whether it is the part that sees or hears, not a language model."""
        return self.architecture == "clip"

    def of_architecture(self, key: str, default: Any = None) -> Any:
        """Return a value whose key begins with the architecture, such as "context_length"."""
        return self.values.get(f"{self.architecture}.{key}", default)

    @property
    def width(self) -> int:
        """Hidden size: of a language model, or of the features that an mmproj file gives; 0 if not given."""
        if self.is_mmproj:
            return int(self.values.get("clip.vision.projection_dim") or 0)
        return int(self.of_architecture("embedding_length") or 0)

    def kv_bytes_per_token(self) -> int:
        """Return the memory of the KV cache in f16 for each token; 0 if the sizes are no plain numbers."""
        heads = self.of_architecture("attention.head_count")
        kv_heads = self.of_architecture("attention.head_count_kv", heads)
        layers = self.of_architecture("block_count")
        if not all(isinstance(number, int) and number > 0 for number in (heads, kv_heads, layers)):
            return 0
        key = self.of_architecture("attention.key_length", self.width // heads)
        value = self.of_architecture("attention.value_length", self.width // heads)
        return int(2 * layers * kv_heads * (key + value))


def read_header(path: str | Path) -> Header:
    """Read a file's header.

    Raises:
        CheckpointError: It is no GGUF, or it ends too early.
    """
    path = Path(path)
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, size: int, _: int) -> Header:
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise CheckpointError("no_gguf", path=path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                header = _Reader(content).header()
    except (struct.error, LookupError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise CheckpointError("gguf_cut_off", path=path, size=size, needed="") from error
    if header.needed_bytes > size:
        raise CheckpointError("gguf_cut_off", path=path, size=size, needed=header.needed_bytes)
    return header


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 4

    def header(self) -> Header:
        version = self._scalar("I")
        if version not in VERSIONS:
            raise ValueError(version)
        tensors, count = self._scalar("Q"), self._scalar("Q")
        if max(tensors, count) > MOST_ENTRIES:
            raise ValueError(tensors)
        values = {self._string(): self._value(self._scalar("I")) for _ in range(count)}
        has_boxes = self.content.find(b"<box>", 0, self.at) >= 0
        parameters, end = 0, 0
        for _ in range(tensors):
            self._string()
            shape = [self._scalar("Q") for _ in range(self._scalar("I"))]
            kind, offset = self._scalar("I"), self._scalar("Q")
            parameters += prod(shape)
            size, elements = BLOCKS.get(kind, (0, 1))
            end = max(end, offset + prod(shape) // elements * size)
        alignment = values.get("general.alignment", 32)
        data = -(-self.at // alignment) * alignment
        return Header(values, parameters, data + end, has_boxes)

    def _scalar(self, form: str) -> Any:
        (found,) = struct.unpack_from(f"<{form}", self.content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def _string(self) -> str:
        length = self._scalar("Q")
        if length > len(self.content) - self.at:
            raise ValueError(length)
        found = self.content[self.at : self.at + length]
        self.at += length
        return found.decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._scalar(SCALARS[kind])
        inner, length = self._scalar("I"), self._scalar("Q")
        if inner in SCALARS and length > MOST_KEPT:
            self.at += struct.calcsize(f"<{SCALARS[inner]}") * length
            return length
        if length > MOST_ENTRIES:
            raise ValueError(length)
        found = []
        for _ in range(length):
            one = self._value(inner)
            if length <= MOST_KEPT:
                found.append(one)
        return found if length <= MOST_KEPT else length
