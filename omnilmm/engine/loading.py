"""Loads a model by name, in two steps.

prepare: name -> card -> device, dtype -> files (downloaded if missing) -> processor -> does it fit
load:    weights -> engine

The first step checks everything that can be checked without the weights in memory, so that a running model has to be
unloaded only between the two.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnilmm.adapter_files import with_adapter
from omnilmm.catalog import BUILT_IN, ModelCard, cards, find
from omnilmm.engine.caches.features import FEATURE_BYTES
from omnilmm.engine.caches.prefix import PREFIX_BYTES
from omnilmm.engine.events import Report
from omnilmm.engine.fetching import Hub, cached, fetch
from omnilmm.engine.llamacpp.engine import LlamaCppEngine
from omnilmm.engine.llamacpp.prepared import PreparedGGUF, prepare_gguf
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.engine.runnable import check_runs
from omnilmm.errors import CheckpointError, HardwareError, OmniLMMError, OptionsError
from omnilmm.hardware import AS_ASKED, QUANTISED, Choice, is_out_of_memory, resolve_device, resolve_dtype
from omnilmm.sentences import Sentence
from omnilmm.versions import OMNI_TYPE, SOUND, without_sound

logger = logging.getLogger(__name__)
PACKED_NAMES = ("qweight", "weight_packed")  # how AWQ, GPTQ and compressed-tensors name packed weights


@dataclass(frozen=True)
class Prepared:
    """A checkpoint on this disk that has passed all checks short of loading it; returned by `prepare`.

    Attributes:
        card: the model's card.
        folder: the folder of its files.
        device, dtype: the device and dtype it will be loaded with, and why.
        caps: memory limits in bytes per device; None without limits.
        config, processor: the configuration and processor of the checkpoint.
        freed_bytes: memory that another model occupied during `prepare`, expected to be free when this one is loaded.
        feature_bytes, prefix_bytes: sizes of the engine's feature and prefix caches.
        max_slices: the engine's default number of slices; None for the checkpoint's.
    """

    card: ModelCard
    folder: Path
    device: Choice
    dtype: Choice
    caps: Mapping[int | str, int] | None
    config: Any
    processor: Any
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
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # memory that torch still reserves for an unloaded model
        dtype = self.dtype
        if self.freed_bytes:  # the memory expected to be free may not be
            dtype, _ = _fitting(self.card, self.config, self.device, dtype)
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
    Sampling(max_slices=max_slices)
    card = find(with_adapter(model, adapter))
    if card.family == "gguf":
        if card.adapter is not None:
            raise CheckpointError("adapter_for_gguf", name=card.adapter)
        return prepare_gguf(
            card,
            device,
            dtype,
            quant=quant,
            mmproj=mmproj,
            revision=revision,
            hub=hub,
            offline=offline,
            report=report,
            freed_bytes=freed_bytes,
            prefix_cache_mib=prefix_cache_mib,
        )
    if quant or mmproj:
        raise OptionsError("quant_without_gguf", title=card.title)
    device_choice = resolve_device(device)
    caps = _caps(max_memory)
    resolve_dtype(dtype, device_choice.value, card.stored)  # refuses an impossible dtype before anything is downloaded
    folder = Path(card.location)
    if not folder.is_dir():
        revision = revision or card.revision
        if cached(card.source, revision, hub) is None:
            _check_download(card, device_choice, dtype, freed_bytes)
        folder = fetch(
            card.source,
            title=card.title,
            revision=revision,
            hub=hub,
            offline=offline,
            report=report,
            check=partial(_check_before_weights, card, device_choice, dtype, freed_bytes),
        )
        card = card_of(card, folder)
    shapes = _shapes(card.source, folder)
    card = card.model_copy(update={"parameters": card.parameters or _count(card, shapes)})
    dtype_choice = resolve_dtype(dtype, device_choice.value, card.stored, card.parameters)
    with explained(card, folder):
        config, processor = _parts(folder)
        _check_tensors(config, shapes)
        if card.adapter is not None:
            _check_adapter(config, Path(card.adapter))
        dtype_choice, warning = _fitting(card, config, device_choice, dtype_choice, freed_bytes)
    if warning:
        logger.warning("%s", warning)
    if max_slices is not None and card.max_slices is None:
        logger.warning("%s", Sentence("slices_without_effect", title=card.title))
    return Prepared(
        card,
        folder,
        device_choice,
        dtype_choice,
        caps,
        config,
        processor,
        freed_bytes,
        feature_bytes=feature_cache_mib * 2**20,
        prefix_bytes=prefix_cache_mib * 2**20,
        max_slices=max_slices,
    )


def _shapes(name: str, folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors; refuses a checkpoint that cannot run here before minutes of loading."""
    from omnilmm.models.checkpoint import tensor_shapes

    check_runs(name, folder)
    shapes = tensor_shapes(folder)
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") != OMNI_TYPE:
        return shapes
    kept = without_sound(shapes)
    logger.warning("%s", Sentence("sound_set_aside", name=name, count=len(shapes) - len(kept), prefixes=SOUND))
    return kept


def _check_tensors(config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that do not match the configuration before another model is unloaded for them."""
    from omnilmm.models.library import check_tensors

    check_tensors(config, dict(shapes))


def _check_adapter(config: Any, folder: Path) -> None:
    """Refuse an adapter that does not fit, or that cannot be loaded, before another model is unloaded for it."""
    from omnilmm.adapter_files import read_adapter
    from omnilmm.engine.adapters import check_shapes, import_peft
    from omnilmm.engine.placement.layers import skeleton

    import_peft()
    check_shapes(skeleton(config), read_adapter(str(folder)))


def _count(card: ModelCard, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Count the parameters in the files; None for a quantised checkpoint, whose weights are packed."""
    is_packed = any(name.endswith(PACKED_NAMES) for name in shapes)
    return None if card.stored in QUANTISED or is_packed else sum(math.prod(shape) for shape in shapes.values())


def _check_download(card: ModelCard, device: Choice, dtype: str, freed_bytes: int) -> None:
    """Refuse a model that cannot fit before downloading it; fp32 chosen by "auto" counts as bf16, its fallback."""
    from omnilmm.engine.placement.fit import check_download

    choice = resolve_dtype(dtype, device.value, card.stored, card.parameters)
    least = Choice("bf16", choice.reason) if choice.value == "fp32" != dtype else choice
    check_download(card, device, least, freed_bytes)


def _check_before_weights(card: ModelCard, device: Choice, dtype: str, freed_bytes: int, folder: Path) -> None:
    """Refuse a model whose `config.json` shows that it cannot run here or does not fit into the free memory."""
    check_runs(card.source, folder)
    card = card_of(card, folder)
    with explained(card, folder):
        config = _config(folder)
        parameters = card.parameters or _parameters(config)
        card = card.model_copy(update={"parameters": parameters})
        choice = resolve_dtype(dtype, device.value, card.stored, parameters)
        try:
            _fitting(card, config, device, choice, freed_bytes)
        except HardwareError as error:
            raise HardwareError("nothing_fetched", reason=error) from None


def _parameters(config: Any) -> int:
    """Count the parameters of the model that a configuration describes."""
    from omnilmm.engine.placement.layers import skeleton

    return sum(parameter.numel() for parameter in skeleton(config).parameters())


def card_of(card: ModelCard, folder: Path) -> ModelCard:
    """Return the card of a downloaded model; one that is not in the catalog is described by its files."""
    if card.base_name in cards():
        return card
    named = {name: getattr(card, name) for name in ("name", "title", "source", "adapter")}
    return find(str(folder)).model_copy(update=named)


def _caps(max_memory: str | None) -> dict[int | str, int] | None:
    from omnilmm.engine.placement.device_map import parse_max_memory

    return None if max_memory is None else parse_max_memory(max_memory)


@contextmanager
def explained(card: ModelCard, folder: Path) -> Iterator[None]:
    """Turn any error of transformers or PEFT within the block into one of ours, in one line."""
    # Otherwise transformers starts a thread that asks a service to convert a repository that has only pickles.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

    from transformers.utils import logging as transformers_logging

    # Our own errors report failures in one line.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    # This is intended: the published code applies the penalty to new tokens only, too.
    warnings.filterwarnings("ignore", message="Passing `repetition_penalty` with `inputs_embeds`")
    try:
        yield
    except OmniLMMError:
        raise
    except Exception as error:  # a broken checkpoint can raise any error
        logger.info("Loading failed", exc_info=True)
        if is_out_of_memory(error):
            raise _too_large(card) from error
        raise CheckpointError("cannot_be_loaded", name=card.name, folder=folder, reason=_first_line(error)) from error


def _too_large(card: ModelCard) -> HardwareError:
    return HardwareError("out_of_memory_loading", title=card.title)


def _parts(folder: Path) -> tuple[Any, Any]:
    """Load the configuration and processor: everything of a checkpoint except its weights."""
    from omnilmm.models.library import load_processor

    return _config(folder), load_processor(folder)


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    from omnilmm.models.library import LOCAL

    config = AutoConfig.from_pretrained(folder, **LOCAL)
    attention = str(config._attn_implementation)
    if attention.startswith("flash_attention") and not find_spec("flash_attn"):
        logger.info("config.json asks for %s, which is not installed: torch's own attention is used", attention)
        config._attn_implementation = None
    return config


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


def _fitting(
    card: ModelCard, config: Any, device: Choice, dtype: Choice, freed_bytes: int = 0
) -> tuple[Choice, Sentence | None]:
    """Return the dtype (bf16 if "auto" chose fp32 and only bf16 fits) and a warning if memory is tight.

    Raises:
        HardwareError: It does not fit; the message lists what does.
    """
    from omnilmm.engine.placement.fit import check_fit

    try:
        warning = check_fit(card, config, device, dtype, freed_bytes=freed_bytes)
    except HardwareError:
        if dtype.value != "fp32" or dtype.reason == AS_ASKED:
            raise
        dtype = Choice("bf16", Sentence("fp32_does_not_fit"))
        warning = check_fit(card, config, device, dtype, freed_bytes=freed_bytes)
    return dtype, warning


def _first_line(error: Exception) -> str | Sentence:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if found := re.fullmatch(r"module 'torch' has no attribute (.+)", line):
        return Sentence("config_with_unknown_dtype", dtype=found[1])
    if isinstance(error, LookupError | AttributeError | TypeError | ArithmeticError):  # unclear without the class name
        line = f"{type(error).__name__}: {line}"
    return line if line.endswith(".") else f"{line}."
