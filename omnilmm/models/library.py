"""Load models and processors with transformers, and check beforehand whether it supports a checkpoint.

Processors for pictures and videos cannot be created without torchvision, which only videos need. Without it the
processor gets another video part: `library_videos.FrameProcessor` for MiniCPM-V 4.6 and 4.7, and else a stub, as no
other model is shown videos here. Pictures then go through Pillow.
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
from omnilmm.models.library_videos import PROCESSORS, FrameProcessor
from omnilmm.models.picture_model import PictureModel
from omnilmm.sentences import Sentence

# Files that may name the processor class, in the order in which `AutoProcessor` reads them.
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
QUANTISE = [use_dtype("int8"), use_dtype("int4")]  # advice: quantise the original model instead
# Packages of methods that need several, as transformers names only one at a time.
PACKAGES = {"awq": "gptqmodel", "gptq": "optimum gptqmodel"}
# Validating the environment for these may download a kernel from the hub.
FETCHING_QUANTISERS = ("mxfp4", "metal", "gguf")
LOCAL = {"trust_remote_code": False, "local_files_only": True}


def needed_transformers(config: Mapping[str, Any]) -> Sentence | None:
    """Return advice to upgrade transformers for an architecture that the installed version does not know.

    Args:
        config: content of a checkpoint's `config.json`.

    Returns:
        One sentence; None if the architecture is known, or the checkpoint was not saved by a newer version.
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
    """Check that transformers, with the classes of this package, has an image-text-to-text model for a checkpoint.

    Args:
        name: name of the checkpoint in messages: a hub id or a path.
        config: content of its `config.json`.

    Raises:
        CheckpointError: The architecture is unknown (the message says if a newer transformers helps), or it takes no
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
    """Check the requirements of a quantised checkpoint with transformers' own validation.

    bitsandbytes is left to `hardware.resolve_dtype`.

    Args:
        name: name of the checkpoint in messages: a hub id or a path.
        config: content of its `config.json`.

    Raises:
        CheckpointError: A package or a GPU is missing, or transformers does not know the method.
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
    except (TypeError, ValueError, AttributeError):  # settings that can only be checked while loading
        return


def _lacking(method: str, error: Exception) -> str:
    """Return the pip command for a missing package, else the first line of the error."""
    if not isinstance(error, ImportError):
        return str(error).strip().splitlines()[0].rstrip(".")
    package = PACKAGES.get(method) or error.name
    return f"pip install {package}" if package else str(error).strip().splitlines()[0].rstrip(".")


def load_model(folder: Path, config: Any, **arguments: Any) -> tuple[Any, Any]:
    """Load the model of a checkpoint, of this package or of transformers, with the loading info of its tensors.

    Args:
        folder: folder of the checkpoint.
        config: its configuration.
        **arguments: further arguments of `from_pretrained`.

    Raises:
        CheckpointError: Weights are missing, damaged or not plain tensors.
    """
    kind: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    source = {PLACE: folder} if issubclass(kind, PictureModel) else source_of(folder)
    loaded, info = kind.from_pretrained(
        source.pop(PLACE), config=config, output_loading_info=True, **source, **arguments, **LOCAL
    )
    return loaded, info


def check_tensors(config: Any, shapes: Shapes) -> None:
    """Check that tensors fit a configuration by loading them with transformers onto the meta device, without data.

    This applies the same renaming as real loading, in milliseconds and without memory. Quantised checkpoints, with
    bitsandbytes or otherwise, are skipped, as the shapes of packed weights are not known before loading.

    Args:
        config: configuration of the checkpoint.
        shapes: shapes of its tensors by name.

    Raises:
        CheckpointError: Tensors are missing or have another shape, or, for models of this package, are unexpected; the
            message names them.
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
    found = mismatches(info) | {"unexpected": []}  # transformers' own models skip unused parts of a checkpoint
    if any(found.values()):
        raise mismatch_error(found, shapes)


def load_processor(folder: Path) -> Any:
    """Load the processor of a checkpoint, of this package or of transformers, with or without torchvision.

    Raises:
        CheckpointError: A required package is not installed, or the checkpoint has no processor for pictures.
        OSError, ValueError: Files are missing or damaged.
    """
    try:
        kind = None if is_torchvision_available() else _processor_class(folder)
        if _lacks_only_videos(kind):
            processor = _without_torchvision(kind, folder)
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
    """Return the class that `AutoProcessor` would choose; None if it is not known."""
    for name in PROCESSOR_FILES:
        path = folder / name
        declared = _json_in(path).get("processor_class")
        if isinstance(declared, str):
            return getattr(transformers, declared, None)
    return PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(folder, **LOCAL)), None)


def _json_in(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else None
    return found if isinstance(found, dict) else {}


def _lacks_only_videos(kind: Any) -> bool:
    """Return whether only the video part needs a stub; False if `kind` is not a processor class.

    `AutoProcessor` then reports what is missing.
    """
    is_processor = isinstance(kind, type) and issubclass(kind, ProcessorMixin)
    parts = set(kind.get_attributes()) if is_processor else set()
    return "video_processor" in parts and parts <= {*LOADERS, "video_processor"}


class VideoProcessorStub(ImageProcessingMixin):
    """Stub for the video part of a processor; attributes without a setting are None."""

    model_input_names: list[str] = []

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


LOADERS: dict[str, Callable[..., Any]] = {
    "tokenizer": AutoTokenizer.from_pretrained,
    "image_processor": AutoImageProcessor.from_pretrained,
    "feature_extractor": AutoFeatureExtractor.from_pretrained,
    "audio_processor": AutoFeatureExtractor.from_pretrained,
}


def _without_torchvision(kind: Any, folder: Path) -> Any:
    """Load a processor as `ProcessorMixin.from_pretrained` does, but with another video part.

    Args:
        kind: class of the processor.
        folder: folder of the checkpoint.
    """
    videos: Any = FrameProcessor if kind.__name__ in PROCESSORS else VideoProcessorStub

    class WithoutTorchvision(kind):
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if isinstance(argument, videos):
                return videos
            return super().check_argument_for_proper_class(argument_name, argument)

    WithoutTorchvision.__name__ = kind.__name__
    settings, rest = kind.get_processor_dict(folder, **LOCAL)
    parts = [
        videos(**get_video_processor_config(folder, local_files_only=True))
        if part == "video_processor"
        else LOADERS[part](folder, **LOCAL)
        for part in kind.get_attributes()
    ]
    return WithoutTorchvision.from_args_and_dict(parts, settings, **rest)
