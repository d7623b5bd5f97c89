"""The known models: `configs/<name>.yaml` -> `ModelCard`. A new checkpoint of a known family is one more file.

A model can also be named by its hub id or by a local folder; a folder is recognised by its `config.json`, never by its
name.
"""

from __future__ import annotations

import difflib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnilmm.errors import CheckpointError, ModelNotFoundError

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
BUILT_IN = "built-in"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SamplingDefaults(_Strict):
    """Defaults of sampling."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 100
    repetition_penalty: float = 1.05


class BeamDefaults(_Strict):
    """Defaults of beam search."""

    beams: int = 3
    repetition_penalty: float = 1.2
    length_penalty: float = 1.0


class ModelCard(_Strict):
    """What is known about a model before anything is loaded.

    Attributes:
        name: what to type.
        title: what to show.
        source: hub id, or folder (relative to the repository for models that it ships).
        version: of the MiniCPM-V family; resolved from `config.json` for models outside the catalog.
        parameters: their number.
        memory_gib: what the weights take, per number type.
        languages: codes.
        context: tokens of prompt and answer together.
        max_new_tokens: default length limit of an answer.
        system_prompt, several_pictures, boxes: what it can do.
        licence: of the weights.
        note: what a user should know, e.g. what is unproven.
    """

    name: str
    title: str
    source: str
    version: Literal["2.5", "2.6"]
    parameters: int = Field(gt=0)
    memory_gib: dict[Literal["fp32", "bf16", "fp16"], float]
    languages: tuple[str, ...]
    context: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)
    system_prompt: bool
    several_pictures: bool
    boxes: bool
    licence: str
    note: str
    sampling: SamplingDefaults = SamplingDefaults()
    beam: BeamDefaults = BeamDefaults()

    @property
    def location(self) -> str:
        """What to load from: an absolute folder for a model that the repository ships, else the source."""
        shipped = ROOT / self.source
        return str(shipped) if shipped.is_dir() else self.source


@lru_cache
def cards() -> dict[str, ModelCard]:
    """All known models by name, in the order of their size.

    Raises:
        CheckpointError: A YAML file does not describe a model; all its problems are listed.
    """
    found = [_read(path) for path in CONFIGS.glob("*.yaml")]
    return {card.name: card for card in sorted(found, key=lambda card: card.parameters)}


def find(model: str) -> ModelCard:
    """The card of a model given by name, hub id or local folder.

    Raises:
        ModelNotFoundError: With the nearest names.
        CheckpointError: A folder that is no checkpoint of a known family.
    """
    for card in cards().values():
        if model.lower() in (card.name.lower(), card.source.lower()):
            return card
    folder = _folder(model)
    if folder is not None:
        return _card_of_folder(folder)
    near = difflib.get_close_matches(model.lower(), cards(), n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise ModelNotFoundError(
        f"There is no model {model!r}. {hint}Known models: {', '.join(cards())}; or the folder of a checkpoint."
    )


def _folder(model: str) -> Path | None:
    """The folder of that name, None where there is none or it cannot be one."""
    try:
        folder = Path(model).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _card_of_folder(folder: Path) -> ModelCard:
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict) or config.get("model_type") != "minicpmv":
        found = config.get("model_type") if isinstance(config, dict) else None
        raise CheckpointError(f"{path} says model_type {found!r}; supported is 'minicpmv' (MiniCPM-V 2.5, 2.6).")
    vision = config.get("vision_config")
    is_early = config.get("query_num") == 96 or (isinstance(vision, dict) and vision.get("model_type") == "idefics2")
    version = str(
        config.get("version") or ("2.5" if is_early else "1.0 or 2.0" if "vision_encoder" in config else "2.6")
    )
    family = next((card for card in reversed(cards().values()) if card.version == version), None)
    if family is None:
        raise CheckpointError(f"{path} says MiniCPM-V version {version!r}; supported are 2.5 and 2.6.")
    title = f"{folder.resolve().name} (MiniCPM-V {version})"
    context = min(family.context, int(config.get("max_position_embeddings") or family.context))
    return family.model_copy(
        update={"name": str(folder), "title": title, "source": str(folder), "context": context, "memory_gib": {}}
    )


def _read(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) | {"name": path.stem})
    except (ValidationError, yaml.YAMLError, TypeError) as error:
        raise CheckpointError(f"{path.name} does not describe a model: {error}") from error
