"""Checkpoint -> two GGUF files: what can be exported, under which warnings, and the files themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from omnilmm.errors import CheckpointError
from omnilmm.export import language, vision
from omnilmm.export.language import ARCHITECTURES, PREFIX, language_tensors, sizes_of
from omnilmm.export.template import chat_template
from omnilmm.export.tensors import Merge, Weights, weights_of
from omnilmm.export.vision import inexact_lengths, vision_tensors
from omnilmm.export.vocabulary import Vocabulary, vocabulary_of
from omnilmm.export.writing import FILE_TYPES, Type, write_tensors, written
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.models.library import LOCAL, check_tensors
from omnilmm.models.processor import template_of
from omnilmm.models.tokenizer import load_tokenizer
from omnilmm.sentences import Sentence


@dataclass(frozen=True)
class Exported:
    """The two files of an export, and what a user should know about them."""

    model: Path
    mmproj: Path
    warnings: tuple[Sentence, ...]


def export_gguf(
    folder: Path,
    out: Path,
    name: str,
    wanted: Type = "f16",
    *,
    merge: Merge | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write `<name>-<type>.gguf` and `mmproj-<name>-<type>.gguf`.

    Args:
        folder: folder of the checkpoint.
        out: folder to write to, made if it is not there.
        name: name of the model in the file names.
        wanted: type of the matrices; the mmproj of q8_0 is f16.
        merge: changes each tensor as it is read, by name: merges an adapter.
        tell: called with the bytes written and the bytes of both files.

    Raises:
        CheckpointError: This kind of checkpoint cannot be exported; the message says why.
    """
    config = _config(folder)
    weights = weights_of(folder)
    check_tensors(config, dict(weights.shapes))
    weights = weights.merged(merge) if merge else weights
    vocabulary = vocabulary_of(load_tokenizer(folder, config, local_files_only=True), _rows(weights))
    parts = (language_tensors(weights, config.text_config, wanted), vision_tensors(weights, config, wanted))
    out.mkdir(parents=True, exist_ok=True)
    progress = _Progress(sum(map(sizes_of, parts)), tell)
    model, mmproj = out / f"{name}-{wanted}.gguf", out / f"mmproj-{name}-{_of_mmproj(wanted)}.gguf"
    with written(model, gguf.MODEL_ARCH_NAMES[ARCHITECTURES[type(config.text_config).__name__]]) as writer:
        _describe_language(writer, config, vocabulary, name, wanted)
        write_tensors(writer, parts[0], progress.add)
    with written(mmproj, "clip") as writer:
        _describe_vision(writer, config, name, wanted)
        write_tensors(writer, parts[1], progress.add)
    return Exported(model, mmproj, tuple(_warnings(config)))


def _of_mmproj(wanted: Type) -> Type:
    return "f16" if wanted == "q8_0" else wanted


def _config(folder: Path) -> MiniCPMVConfig:
    """Return the configuration of a checkpoint that can be exported."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, **LOCAL)
    if not isinstance(config, MiniCPMVConfig):
        raise CheckpointError("not_gguf", what=config.model_type, reason=Sentence("not_gguf_other"))
    if getattr(config, "quantization_config", None):
        raise CheckpointError("not_gguf", what=config.row.title, reason=Sentence("not_gguf_quantised"))
    if isinstance(config.row.gguf, Sentence):
        raise CheckpointError("not_gguf", what=config.row.title, reason=config.row.gguf)
    return config


def _rows(weights: Weights) -> int:
    return weights.shapes[f"{PREFIX}model.embed_tokens.weight"][0]


def _describe_language(
    writer: gguf.GGUFWriter, config: MiniCPMVConfig, vocabulary: Vocabulary, name: str, wanted: Type
) -> None:
    template: Any = template_of(config)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[wanted])
    language.add_metadata(writer, config.text_config)
    end = template.END if hasattr(template, "END") else template.STOP_TOKENS[0]
    begin = "<|begin_of_text|>" if "<|begin_of_text|>" in vocabulary.ids else None
    vocabulary.add_to(writer, end, "<|endoftext|>", begin)
    writer.add_chat_template(chat_template(config.row.template, image_ids=config.use_image_id))


def _describe_vision(writer: gguf.GGUFWriter, config: MiniCPMVConfig, name: str, wanted: Type) -> None:
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[_of_mmproj(wanted)])
    vision.add_metadata(writer, config)


def _warnings(config: MiniCPMVConfig) -> list[Sentence]:
    found = []
    if config.pads_to_longest:
        found.append(Sentence("gguf_positions_of_2_5", title=config.row.title))
    if lengths := inexact_lengths(config):
        found.append(Sentence("gguf_inexact_lengths", lengths=lengths))
    return found


class _Progress:
    def __init__(self, total: int, tell: Callable[[int, int], None]) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def add(self, count: int) -> None:
        self.done += count
        self.tell(self.done, self.total)
