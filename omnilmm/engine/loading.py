"""Loads a model by name, in two steps.

prepare: name -> card -> device, dtype -> files (downloaded if missing) -> processor -> does it fit
load:    weights -> engine

The first step checks everything that can be checked without the weights in memory, so that a running model has to be
unloaded only between the two.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omnilmm.adapter_files import with_adapter
from omnilmm.catalog import BUILT_IN, ModelCard
from omnilmm.engine.caches.features import FEATURE_BYTES
from omnilmm.engine.caches.prefix import PREFIX_BYTES
from omnilmm.engine.events import Report
from omnilmm.engine.fetching import Hub, cached, fetch
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.llamacpp.prepared import PreparedGGUF, prepare_gguf
from omnilmm.engine.load_errors import explained
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.engine.preflight import (
    card_of,
    check_adapter,
    check_before_download,
    check_before_weights,
    check_tensors,
    count_parameters,
    fitting_dtype,
    read_config,
    read_shapes,
)
from omnilmm.errors import CheckpointError, OptionsError
from omnilmm.hardware import QUANTISED, Choice, resolve_device, resolve_dtype
from omnilmm.model_lookup import find
from omnilmm.sentences import Sentence

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A checkpoint on this disk that has passed all checks short of loading it; returned by `prepare`.

    Attributes:
        card: the model's card.
        folder: the folder of its files.
        device, dtype: the device and dtype it will be loaded with, and why.
        config, processor: the configuration and processor of the checkpoint.
        caps: memory limits in bytes per device; None without limits.
        freed_bytes: memory that another model occupied during `prepare`, expected to be free when this one is loaded.
        feature_bytes, prefix_bytes: sizes of the engine's feature and prefix caches.
        max_slices: the engine's default number of slices; None for the checkpoint's.
    """

    card: ModelCard
    folder: Path
    device: Choice
    dtype: Choice
    config: Any
    processor: Any
    caps: Mapping[int | str, int] | None = None
    freed_bytes: int = 0
    feature_bytes: int = FEATURE_BYTES
    prefix_bytes: int = PREFIX_BYTES
    max_slices: int | None = None

    def load(self) -> LocalEngine:
        """Load the weights; may be called again once the engine is freed.

        Raises:
            HardwareError: Less memory is free than expected.
            CheckpointError: The weights do not match the configuration.
        """
        dtype = self.dtype
        if self.freed_bytes:  # the memory expected to be free may not be
            dtype, _ = fitting_dtype(self.card, self.config, self.device, dtype)
        model = _load(self, dtype)
        return LocalEngine(
            model,
            self.processor,
            self.card,
            self.device,
            dtype,
            feature_bytes=self.feature_bytes,
            prefix_bytes=self.prefix_bytes,
            max_slices=self.max_slices,
        )


def load_engine(
    model: str = BUILT_IN, device: str = "auto", dtype: str = "auto", **arguments: Any
) -> LocalEngine | LlamaCppEngine:
    """Load a model.

    Args:
        model: name in `configs/`, hub id, folder, or GGUF file.
        device: "auto", "cpu", "cuda", "cuda:N", "mps", or "balanced" over several GPUs and the CPU.
        dtype: "auto", "bf16", "fp16", "fp32", "int8" or "int4".
        **arguments: further arguments of `prepare`, which also lists the errors raised.
    """
    return prepare(model, device, dtype, **arguments).load()


def prepare(
    model: str = BUILT_IN,
    device: str = "auto",
    dtype: str = "auto",
    *,
    adapter: str | None = None,
    revision: str | None = None,
    hub: Hub = "huggingface",
    offline: bool = False,
    max_memory: str | None = None,
    feature_cache_mib: int = FEATURE_BYTES // 2**20,
    prefix_cache_mib: int = PREFIX_BYTES // 2**20,
    max_slices: int | None = None,
    report: Report | None = None,
    freed_bytes: int = 0,
    quant: str | None = None,
    mmproj: str | None = None,
) -> Prepared | PreparedGGUF:
    """Do everything short of loading the weights: download missing files and run all checks.

    Args:
        model: name in `configs/`, hub id, or folder.
        device: "auto", "cpu", "cuda", "cuda:N", "mps", or "balanced" over several GPUs and the CPU.
        dtype: "auto", "bf16", "fp16", "fp32", "int8" or "int4".
        adapter: folder of a LoRA adapter for that model; merged into it, beside quantised weights.
        revision: commit, tag or branch of the hub.
        hub: the hub to download from.
        offline: do not access the network.
        max_memory: with "balanced", memory limits such as "0=10GiB,1=10GiB,cpu=20GiB".
        feature_cache_mib: size of the image feature cache, with which each picture is encoded once; 0 disables it.
        prefix_cache_mib: size of the cache of KV caches that follow-ups reuse; 0 disables it.
        max_slices: maximum number of slices per picture where a question does not say; without effect on a model whose
            slices cannot be chosen.
        report: called with the bytes on this disk and the total bytes during a download.
        freed_bytes: memory that another model occupies now and that will be free when this one is loaded.
        quant: of a model in GGUF, its quantisation; None for the best that fits.
        mmproj: of a model in GGUF, the file of the part that sees, where its name or place does not say it.

    Raises:
        MissingPackageError: A model in GGUF, and llama.cpp is not installed.
        ModelNotFoundError: No such model, or no such revision.
        HardwareError: No such device, a dtype that it does not support, or too little memory.
        CheckpointError: Files that cannot be downloaded, are missing or damaged, or do not match each other.
        OptionsError: `max_memory` cannot be parsed, or `max_slices` is out of range.
    """
    Sampling(max_slices=max_slices)  # refuses a number out of range
    card = find(with_adapter(model, adapter))
    fetching: dict[str, Any] = {"revision": revision, "hub": hub, "offline": offline, "report": report}
    if card.family == "gguf":
        if card.adapter is not None:
            raise CheckpointError("adapter_for_gguf", name=card.adapter)
        fetching |= {"freed_bytes": freed_bytes, "prefix_cache_mib": prefix_cache_mib}
        return prepare_gguf(card, device, dtype, quant=quant, mmproj=mmproj, **fetching)
    if quant or mmproj:
        raise OptionsError("quant_without_gguf", title=card.title)
    chosen = resolve_device(device)
    caps = _caps(max_memory)
    resolve_dtype(dtype, chosen.value, card.stored)  # refuses an impossible dtype before anything is downloaded
    card, folder = _fetched(card, chosen, dtype, freed_bytes, **fetching)
    prepared = _checked(card, folder, chosen, dtype, freed_bytes)
    if max_slices is not None and card.max_slices is None:
        logger.warning("%s", Sentence("slices_without_effect", title=card.title))
    return replace(
        prepared,
        caps=caps,
        feature_bytes=feature_cache_mib * 2**20,
        prefix_bytes=prefix_cache_mib * 2**20,
        max_slices=max_slices,
    )


def _fetched(
    card: ModelCard, device: Choice, dtype: str, freed_bytes: int, *, revision: str | None, hub: Hub, **fetching: Any
) -> tuple[ModelCard, Path]:
    """Return the model's card and the folder of its files, downloaded unless they are on this disk."""
    folder = Path(card.location)
    if folder.is_dir():
        return card, folder
    revision = revision or card.revision_on(hub)
    if cached(card.source, revision, hub) is None:
        check_before_download(card, device, dtype, freed_bytes)
    check = partial(check_before_weights, card, device, dtype, freed_bytes)
    folder = fetch(card.source, title=card.title, revision=revision, hub=hub, check=check, **fetching)
    return card_of(card, folder), folder


def _checked(card: ModelCard, folder: Path, device: Choice, dtype: str, freed_bytes: int) -> Prepared:
    """Read everything of a checkpoint except its weights, and check that these match and fit."""
    shapes = read_shapes(card.source, folder)
    card = card.model_copy(update={"parameters": card.parameters or count_parameters(card, shapes)})
    choice = resolve_dtype(dtype, device.value, card.stored, card.parameters)
    with explained(card, folder):
        config, processor = _parts(folder)
        check_tensors(config, shapes)
        if card.adapter is not None:
            check_adapter(config, Path(card.adapter))
        choice, warning = fitting_dtype(card, config, device, choice, freed_bytes)
    if warning:
        logger.warning("%s", warning)
    return Prepared(card, folder, device, choice, config, processor, freed_bytes=freed_bytes)


def _caps(max_memory: str | None) -> dict[int | str, int] | None:
    from omnilmm.engine.placement.device_map import parse_max_memory

    return None if max_memory is None else parse_max_memory(max_memory)


def _parts(folder: Path) -> tuple[Any, Any]:
    """Load the configuration and processor: everything of a checkpoint except its weights."""
    from omnilmm.models.library import load_processor

    return read_config(folder), load_processor(folder)


def _load(prepared: Prepared, dtype: Choice) -> Any:
    """Load the model."""
    card, folder = prepared.card, prepared.folder
    with explained(card, folder):
        from omnilmm.engine.placement.bitsandbytes import finalize_quantized_model
        from omnilmm.engine.placement.device_map import from_pretrained_arguments
        from omnilmm.models.library import load_model

        placement = from_pretrained_arguments(
            prepared.config, prepared.device.value, dtype.value, prepared.caps, card.context
        )
        loaded, info = load_model(folder, prepared.config, **placement)
        finalize_quantized_model(loaded)
        if card.adapter is not None:
            from omnilmm.engine.adapters import attach

            loaded = attach(loaded, Path(card.adapter), is_merged=dtype.value not in QUANTISED)
    if info["missing_keys"]:  # native models check this themselves; others would be left randomly initialised
        missing = sorted(info["missing_keys"])
        raise CheckpointError("tensors_not_there", folder=folder, count=len(missing), name=missing[0])
    return loaded.eval()
