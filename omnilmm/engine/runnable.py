"""Whether a checkpoint can run here, by its `config.json` alone: asked before its weights are fetched."""

from __future__ import annotations

from pathlib import Path

from omnilmm.catalog import family_of
from omnilmm.checkpoint_json import check_settings, read_json
from omnilmm.errors import CheckpointError
from omnilmm.formats import check_config


def check_runs(name: str, folder: Path) -> None:
    """Refuse what could not answer about pictures, however complete its files are.

    Args:
        name: what to call it in messages: a hub id, or a path.
        folder: with its `config.json`; nothing else is looked at but how pictures are made ready.

    Raises:
        CheckpointError: In one line, what it is and what would run it; or a `config.json` that cannot be read.
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
