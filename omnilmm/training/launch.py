"""How a launcher started this process: what would lose the trained weights is refused before anything is loaded.

accelerate tells its processes by the environment what its flags and its configuration say.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from omnilmm.errors import InputError, MissingPackageError, OptionsError

SHARDED = 3  # the stage of ZeRO from which on no process has all weights


def check_launch(deepspeed: Path | None) -> None:
    """Check that every process has the whole model, as it is saved from one of them.

    Args:
        deepspeed: the file of `--deepspeed`.

    Raises:
        OptionsError: The weights would be split over the processes.
        InputError: The file cannot be read.
        MissingPackageError: DeepSpeed is asked for and not installed.
    """
    if _is_set("ACCELERATE_USE_FSDP"):
        raise OptionsError("weights_split", what="FSDP")
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE") if _is_set("ACCELERATE_USE_DEEPSPEED") else None
    stages = [_stage(path) for path in (deepspeed, Path(file) if file else None) if path]
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        stages.append(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", ""))
    if str(SHARDED) in stages:
        raise OptionsError("weights_split", what=f"DeepSpeed's ZeRO stage {SHARDED}")
    if deepspeed and find_spec("deepspeed") is None:
        raise MissingPackageError("deepspeed_missing")


def _stage(path: Path) -> str:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("deepspeed_unreadable", path=path, reason=reason) from error
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    return str(zero.get("stage")) if isinstance(zero, dict) else ""


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")
