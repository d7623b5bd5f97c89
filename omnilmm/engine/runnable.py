"""Checks from a checkpoint's configuration files whether it can run here, before its weights are downloaded."""

from __future__ import annotations

from pathlib import Path

from omnilmm.checkpoint_json import check_settings, read_json
from omnilmm.errors import CheckpointError
from omnilmm.formats import check_config
from omnilmm.model_lookup import family_of


def check_runs(name: str, folder: Path) -> None:
    """Refuse a checkpoint that cannot run here or does not take pictures, even if its files are complete.

    Args:
        name: its name in messages: a hub id or a path.
        folder: the folder of its `config.json`; besides that, only the preprocessing settings are read.

    Raises:
        CheckpointError: It cannot run here (one line: what it is and what would run it), or its `config.json` cannot
            be read.
    """
    from omnilmm.models.library import check_quantised, check_takes_pictures

    path = folder / "config.json"
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError("json_unreadable", path=path, reason=error) from error
    if not isinstance(config, dict):
        raise CheckpointError("no_json_object", path=path)
    check_settings(folder)
    check_config(name, config)
    family_of(config, name)
    check_takes_pictures(name, config)
    check_quantised(name, config)
