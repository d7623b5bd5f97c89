"""What transformers itself brings for a checkpoint: whether it knows the architecture, and its processor.

Processors for pictures and videos need torchvision for the videos, even to be made. Ours are never shown a video, so
without torchvision they are put together with a stand-in for that part; pictures then go through Pillow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import InvalidVersion, Version
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PROCESSOR_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    AutoTokenizer,
    ImageProcessingMixin,
    ProcessorMixin,
)
from transformers.models.auto.video_processing_auto import get_video_processor_config
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer
from transformers.utils import is_torchvision_available

from omnilmm.checkpoint_json import read_json
from omnilmm.errors import CheckpointError
from omnilmm.hardware import use_dtype
from omnilmm.models.checkpoint import PLACE, Shapes, mismatch_error, mismatches, source_of
from omnilmm.models.picture_model import PictureModel
from omnilmm.sentences import Sentence

# Where a checkpoint may name the class of its processor, in the order in which `AutoProcessor` looks.
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
QUANTISE = [use_dtype("int8"), use_dtype("int4")]  # instead, the model before it was quantised
# Of methods that take several, transformers names one package at a time.
PACKAGES = {"awq": "gptqmodel", "gptq": "optimum gptqmodel"}
# Looking whether these can run may fetch a kernel from the hub.
FETCHING_QUANTISERS = ("mxfp4", "metal", "gguf")
LOCAL = {"trust_remote_code": False, "local_files_only": True}


def needed_transformers(config: Mapping[str, Any]) -> Sentence | None:
    """What to install for an architecture that is younger than this transformers.

    Args:
        config: a checkpoint's `config.json`.

    Returns:
        One sentence; None if the architecture is known, or nothing says that another version knows it.
    """
    if config.get("model_type") in CONFIG_MAPPING:
        return None
    here = transformers.__version__
    try:
        written_by = Version(str(config.get("transformers_version")))
    except InvalidVersion:
        return None
    if written_by <= Version(here):
        return None
    return Sentence("newer_transformers", wanted=written_by.base_version, here=here)


def check_takes_pictures(name: str, config: Mapping[str, Any]) -> None:
    """Whether transformers, with what this package adds to it, has a model of pictures and text for a checkpoint.

    Args:
        name: what to call it in messages: a hub id, or a path.
        config: a checkpoint's `config.json`.

    Raises:
        CheckpointError: The architecture is unknown, with the version to install if that helps, or it takes no
            pictures.
    """
    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING:
        hint = needed_transformers(config) or Sentence("own_code")
        raise CheckpointError("unknown_architecture", model_type=model_type, hint=hint)
    kind = CONFIG_MAPPING[model_type]
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return
    named = config.get("architectures")
    what = named[0] if isinstance(named, list) and named else model_type
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise CheckpointError("text_alone", name=name, what=what)
    raise CheckpointError("no_pictures_taken", name=name, what=what)


def check_quantised(name: str, config: Mapping[str, Any]) -> None:
    """Whether what a quantised checkpoint needs is installed, by transformers' own account.

    bitsandbytes is left to `hardware.resolve_dtype`.

    Args:
        name: as above.
        config: a checkpoint's `config.json`.

    Raises:
        CheckpointError: A package or a GPU is missing, or nobody here knows the method.
    """
    text = config.get("text_config")
    given = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if not isinstance(given, dict) or given.get("load_in_4bit") or given.get("load_in_8bit"):
        return
    method = str(given.get("quant_method"))
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise CheckpointError("unknown_quantisation", name=name, method=method, ways=QUANTISE)
    if method in FETCHING_QUANTISERS:
        return
    try:
        AutoHfQuantizer.from_config(given, pre_quantized=True).validate_environment(device_map=None)
    except (ImportError, RuntimeError) as error:
        missing = _lacking(method, error)
        raise CheckpointError("quantisation_lacks", name=name, method=method, missing=missing, ways=QUANTISE) from error
    except (TypeError, ValueError, AttributeError):  # settings that only loading can judge
        return


def _lacking(method: str, error: Exception) -> str:
    """What to install for a quantised checkpoint, or else what the library says."""
    if not isinstance(error, ImportError):
        return str(error).strip().splitlines()[0].rstrip(".")
    package = PACKAGES.get(method) or error.name
    return f"pip install {package}" if package else str(error).strip().splitlines()[0].rstrip(".")


def load_model(folder: Path, config: Any, **arguments: Any) -> tuple[Any, Any]:
    """The model of a checkpoint, ours or transformers' own, and what transformers says about its tensors.

    Args:
        folder: of the checkpoint.
        config: its configuration.
        **arguments: further ones of `from_pretrained`.

    Raises:
        CheckpointError: Weights that are missing, damaged or no plain weights.
    """
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    source = {PLACE: folder} if issubclass(kind, PictureModel) else source_of(folder)
    loaded, info = kind.from_pretrained(
        source.pop(PLACE), config=config, output_loading_info=True, **source, **arguments, **LOCAL
    )
    return loaded, info


def check_tensors(config: Any, shapes: Shapes) -> None:
    """Whether tensors fit a configuration, by transformers' own way of loading them: onto "meta", without their data.

    So names are changed as they will be, in milliseconds and without memory. Left out are checkpoints that are
    quantised, by bitsandbytes or otherwise: the shapes of packed weights are known to nobody before they are loaded.

    Args:
        config: of the checkpoint.
        shapes: of its tensors, by their names.

    Raises:
        CheckpointError: Which tensors are missing or of another shape; of our own models also, which are left over.
    """
    if getattr(config, "quantization_config", None) or getattr(config.get_text_config(), "quantization_config", None):
        return
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    _, info = kind.from_pretrained(
        None,
        config=copy.deepcopy(config),  # models write into it
        state_dict={name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
        device_map={"": "meta"},
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **LOCAL,
    )
    found = mismatches(info) | {"unexpected": []}  # transformers' own models leave parts out that they do not use
    if any(found.values()):
        raise mismatch_error(found, shapes)


def load_processor(folder: Path) -> Any:
    """The processor of a checkpoint: ours, or transformers' own, with torchvision or without.

    Raises:
        CheckpointError: A package that it needs is not installed, or it is no processor for pictures.
        OSError, ValueError: Files that are missing or damaged.
    """
    try:
        kind = None if is_torchvision_available() else _processor_class(folder)
        if _lacks_only_videos(kind):
            processor = _without_videos(kind, folder)
        else:
            processor = AutoProcessor.from_pretrained(folder, **LOCAL)
    except ImportError as error:
        line = str(error).strip().splitlines()[0]
        raise CheckpointError(
            "torchvision_missing" if "torchvision" in line.lower() else "package_missing", reason=line
        ) from error
    if not isinstance(processor, ProcessorMixin):
        raise CheckpointError("no_picture_processor", folder=folder)
    return processor


def _processor_class(folder: Path) -> Any:
    """The class that `AutoProcessor` would take; None if that is not known."""
    for name in PROCESSOR_FILES:
        path = folder / name
        declared = _said(path).get("processor_class")
        if isinstance(declared, str):
            return getattr(transformers, declared, None)
    return PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(folder, **LOCAL)), None)


def _said(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else None
    return found if isinstance(found, dict) else {}


def _lacks_only_videos(kind: Any) -> bool:
    """False too for what is no class of a processor: `AutoProcessor` then says what is missing."""
    is_processor = isinstance(kind, type) and issubclass(kind, ProcessorMixin)
    parts = set(kind.get_attributes()) if is_processor else set()
    return "video_processor" in parts and parts <= set(LOADERS)


class VideoProcessorStub(ImageProcessingMixin):
    """Stands where a processor keeps the part for videos: its settings, and None for those that it lacks."""

    model_input_names: list[str] = []

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


LOADERS: dict[str, Callable[..., Any]] = {
    "tokenizer": AutoTokenizer.from_pretrained,
    "image_processor": AutoImageProcessor.from_pretrained,
    "feature_extractor": AutoFeatureExtractor.from_pretrained,
    "audio_processor": AutoFeatureExtractor.from_pretrained,
    "video_processor": lambda folder, **_: VideoProcessorStub(
        **get_video_processor_config(folder, local_files_only=True)
    ),
}


def _without_videos(kind: Any, folder: Path) -> Any:
    """As `ProcessorMixin.from_pretrained` does it, but for the part for videos.

    Args:
        kind: class of the processor.
        folder: of the checkpoint.
    """

    class PicturesOnly(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, VideoProcessorStub):
                return VideoProcessorStub
            return super().check_argument_for_proper_class(argument_name, argument)

    PicturesOnly.__name__ = kind.__name__
    settings, rest = kind.get_processor_dict(folder, **LOCAL)
    parts = [LOADERS[part](folder, **LOCAL) for part in kind.get_attributes()]
    return PicturesOnly.from_args_and_dict(parts, settings, **rest)
