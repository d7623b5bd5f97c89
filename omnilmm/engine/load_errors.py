"""Errors of transformers and PEFT while a checkpoint is read, as errors of ours in one line."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.errors import CheckpointError, HardwareError, OmniLMMError
from omnilmm.hardware import is_out_of_memory
from omnilmm.sentences import Sentence

logger = logging.getLogger(__name__)


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
            raise HardwareError("out_of_memory_loading", title=card.title) from error
        raise CheckpointError("cannot_be_loaded", name=card.name, folder=folder, reason=_first_line(error)) from error


def _first_line(error: Exception) -> str | Sentence:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if found := re.fullmatch(r"module 'torch' has no attribute (.+)", line):
        return Sentence("config_with_unknown_dtype", dtype=found[1])
    if isinstance(error, LookupError | AttributeError | TypeError | ArithmeticError):  # unclear without the class name
        line = f"{type(error).__name__}: {line}"
    return line if line.endswith(".") else f"{line}."
