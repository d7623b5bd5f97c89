"""Writes a GGUF file tensor by tensor, so that a model of any size needs the memory of its largest tensor only.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, through the package `gguf`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType as FileType
from torch import Tensor

Type = Literal["f32", "f16", "q8_0"]
TYPES: tuple[Type, ...] = ("f32", "f16", "q8_0")
KINDS: dict[Type, Kind] = {"f32": Kind.F32, "f16": Kind.F16, "q8_0": Kind.Q8_0}
FILE_TYPES: dict[Type, FileType] = {
    "f32": FileType.ALL_F32,
    "f16": FileType.MOSTLY_F16,
    "q8_0": FileType.MOSTLY_Q8_0,
}
Q8_BLOCK = 32  # numbers that share a scale; rows of another length stay in f16


@dataclass(frozen=True)
class Stored:
    """A tensor to write: its shape, how it is stored, and a function that reads it."""

    shape: tuple[int, ...]
    kind: Kind
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // block * size

    def numbers(self) -> npt.NDArray[Any]:
        """Read and convert it."""
        plain = self.read().float().contiguous().numpy()
        return gguf.quants.quantize(plain, self.kind)


def kind_of(shape: tuple[int, ...], wanted: Type) -> Kind:
    """Return how a tensor is stored: matrices in the wanted type, everything else in f32."""
    if len(shape) < 2 or wanted == "f32":
        return Kind.F32
    return Kind.F16 if wanted == "q8_0" and shape[-1] % Q8_BLOCK else KINDS[wanted]


@contextmanager
def written(path: Path, architecture: str) -> Iterator[gguf.GGUFWriter]:
    """Yield a writer for metadata; the file gets its name only if the block succeeds."""
    partial = path.with_name(f"{path.name}.incomplete")
    writer = gguf.GGUFWriter(partial, architecture)
    try:
        yield writer
        writer.close()
        partial.replace(path)
    except BaseException:
        with suppress(Exception):
            writer.close()
        partial.unlink(missing_ok=True)
        raise


def write_tensors(writer: gguf.GGUFWriter, tensors: Mapping[str, Stored], tell: Callable[[int], None]) -> None:
    """Write the metadata, then the tensors one after the other.

    Args:
        writer: a writer to which all metadata was added.
        tensors: what to write, by name in the file.
        tell: called with the bytes of each tensor that was written.
    """
    for name, tensor in tensors.items():
        dtype = np.dtype({Kind.F32: np.float32, Kind.F16: np.float16}.get(tensor.kind, np.float32))
        writer.add_tensor_info(name, tensor.shape, dtype, tensor.nbytes, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors.values():
        writer.write_tensor_data(tensor.numbers())
        tell(tensor.nbytes)
