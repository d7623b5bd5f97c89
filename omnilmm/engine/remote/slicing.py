"""How the published code slices pictures for a model of the catalog; a server does not tell how it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Picture
from omnilmm.engine.events import PictureSlice
from omnilmm.engine.options import Options
from omnilmm.engine.picture_slices import picture_slices
from omnilmm.images.slicing import SlicingRules, plan_slices


def published_slices(
    card: ModelCard,
) -> Callable[[Picture, Options | None], tuple[PictureSlice, ...] | None] | None:
    """Return what slices a picture as the published code does for this model; None if that is not known."""
    found, row = _of_folder(Path(card.location)), card.version
    if found is None and row and row.is_sliced:
        found = SlicingRules(), row.query_num
    if found is None:
        return None
    rules, queries = found
    return lambda picture, _: picture_slices(plan_slices(picture.image.size, rules), picture.image.size, queries)


def _of_folder(folder: Path) -> tuple[SlicingRules, int] | None:
    """Return the rules and the tokens of a slice of a model that this program ships."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rules = config["slice_config"]
        found = SlicingRules(rules["max_slice_nums"], rules["scale_resolution"], rules["patch_size"])
        return found, int(config["query_num"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
