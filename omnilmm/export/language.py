"""The language model as a GGUF file: metadata and tensor names of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gguf
from gguf import MODEL_ARCH
from torch import Tensor

from omnilmm.export.tensors import Weights
from omnilmm.export.writing import Stored, Type, kind_of

PREFIX = "llm."
ARCHITECTURES = {"Qwen2Config": MODEL_ARCH.QWEN2, "Qwen3Config": MODEL_ARCH.QWEN3, "LlamaConfig": MODEL_ARCH.LLAMA}


def add_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    """Add the sizes of a language model.

    Args:
        writer: the writer.
        config: its configuration, of transformers.
    """
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def language_tensors(weights: Weights, config: Any, wanted: Type) -> dict[str, Stored]:
    """Return the tensors of the language model by their names in llama.cpp.

    Args:
        weights: of the whole checkpoint.
        config: configuration of the language model.
        wanted: the type of its matrices.
    """
    architecture = ARCHITECTURES[type(config).__name__]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    found: dict[str, Stored] = {}
    for name, shape in weights.shapes.items():
        if not name.startswith(PREFIX) or (config.tie_word_embeddings and name == f"{PREFIX}lm_head.weight"):
            continue
        read: Callable[[], Tensor] = partial(weights.read, name)
        if architecture == MODEL_ARCH.LLAMA and (heads := _rotated_heads(name, config)):
            read = partial(_interleaved, read, heads)
        theirs = names.get_name(name.removeprefix(PREFIX), (".weight", ".bias"))
        if theirs is None:
            raise KeyError(name)  # cannot be: the checkpoint was compared with its configuration
        found[theirs] = Stored(shape, kind_of(shape, wanted), read)
    return found


def _rotated_heads(name: str, config: Any) -> int | None:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return heads.get(name.split(".")[-2])


def _interleaved(read: Callable[[], Tensor], heads: int) -> Tensor:
    """Reorder the rows of a query or key projection: llama.cpp rotates neighbours, transformers the two halves."""
    rows = read()
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def sizes_of(tensors: Mapping[str, Stored]) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())
