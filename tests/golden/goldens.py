"""Reads a set of golden values: the repository's own, or any other of the same form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from omnilmm.conversation import Conversation, Picture
from omnilmm.errors import OmniLMMError
from omnilmm.images.pixels import cut, open_picture, patch_strip, stack_strips
from omnilmm.images.slicing import SlicePlan, plan_slices
from omnilmm.models.config import OmniLMMConfig
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.omnilmm12b import OmniLMMForCausalLM
from omnilmm.models.processor import OmniLMMProcessor

OWN = Path(__file__).parent


@cache
def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def folders(root: Path) -> list[Path]:
    """The golden folders of a set; a folder that is itself one is a set of one."""
    if (root / "expected.json").is_file():
        return [root]
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))


def kind_of(folder: Path) -> str:
    """What a folder holds: "model", "omnilmm", "resampler", "nf4", or a description of what is not known."""
    config, expected = folder / "config.json", folder / "expected.json"
    if config.is_file() and read_json(config).get("model_type") == "omnilmm" and (folder / "cases.json").is_file():
        return "omnilmm"
    if not expected.is_file():
        return f"unknown: no expected.json among {', '.join(sorted(path.name for path in folder.iterdir()))}"
    keys = read_json(expected)
    if "cases" in keys and config.is_file() and read_json(config).get("model_type") == "minicpmv":
        return "model"
    if "layers" in keys and "quantization_config" in keys:
        return "nf4"
    return "resampler" if "kind" in keys else f"unknown: expected.json holds {', '.join(keys)}"


@cache
def load_model(folder: Path) -> MiniCPMV:
    """The folder's checkpoint in float32; an architecture that is not built yet fails the test."""
    try:
        model: MiniCPMV = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        )
        return model.eval()
    except (OmniLMMError, OSError, ValueError, RuntimeError) as error:
        problem = f"{folder.name} does not load: {error}"
    pytest.fail(problem, pytrace=False)


@dataclass(frozen=True)
class Case:
    """One prompt of one model folder."""

    folder: Path
    name: str

    @property
    def id(self) -> str:
        return f"{self.folder.name}/{self.name}"

    @property
    def expected(self) -> dict[str, Any]:
        """What expected.json says about this case; 1.0 and 2.0, which see one picture, say it in other words."""
        everything = read_json(self.folder / "expected.json")
        said = dict(everything["cases"].get(self.name) or everything[self.name.removeprefix("case_")])
        if "resized_to" in said:
            said |= {"grid": None, "slice_sizes": [said["resized_to"]]}
        if "image" in said:
            said |= {"grids": [said["grid"]], "slice_sizes": [said["slice_sizes"]]}
        return said

    @property
    def special_ids(self) -> dict[str, int]:
        return dict(read_json(self.folder / "expected.json")["special_ids"])

    @property
    def has_pictures(self) -> bool:
        return any(key.startswith("image") for key in self.expected)

    @property
    def has_positions(self) -> bool:
        """1.0 and 2.0 stretch a table; the tower's outputs tell whether rightly."""
        with safe_open(self.folder / f"{self.name}.safetensors", "pt") as tensors:
            return "vision_position_ids" in tensors.keys()  # noqa: SIM118

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / f"{self.name}.safetensors")

    @property
    def model(self) -> MiniCPMV:
        return load_model(self.folder)

    @cached_property
    def pictures(self) -> list[Picture]:
        names = self.expected.get("images") or [self.expected["image"]]
        return [open_picture(self.folder / name) for name in names]

    def numbered(self, name: str) -> list[Tensor]:
        """The tensors of this name, one per view, whether they are stacked, numbered or alone."""
        numbered = sorted(key for key in self.tensors if key.startswith(f"{name}."))
        if numbered:
            return [self.tensors[f"{name}.{number}"] for number in range(len(numbered))]
        alone = self.tensors[name]
        return list(alone) if name == "vision_features" and alone.ndim == 3 else [alone]

    @property
    def patch_size(self) -> int:
        return int(self.model.config.vision_config.patch_size)

    @property
    def plans(self) -> list[SlicePlan]:
        rules = self.model.config.slicing_rules
        if "max_slice_nums" in self.expected:
            rules = replace(rules, max_slices=self.expected["max_slice_nums"])
            return [plan_slices(picture.image.size, rules) for picture in self.pictures]
        return [self.model.config.plan(picture.image.size) for picture in self.pictures]

    @property
    def temporal_ids(self) -> list[list[int]] | None:
        """Times of a film's frames, group by group; None where the pictures are no film."""
        found: list[list[int]] | None = self.expected.get("temporal_ids")
        return found

    @torch.no_grad()
    def features(self) -> Tensor:
        """Of all views, or of all groups of frames."""
        return self.model.get_image_features(self.strips, self.target_sizes, self.temporal_ids)

    @cached_property
    def views(self) -> list[Any]:
        """All views of all pictures, as PIL images."""
        pairs = zip(self.pictures, self.plans, strict=True)
        return [view for picture, plan in pairs for view in cut(picture.image, plan)]

    @property
    def strips(self) -> Tensor:
        """What the tower takes, from the picture files."""
        return torch.from_numpy(stack_strips([patch_strip(view, self.patch_size) for view in self.views]))

    @property
    def target_sizes(self) -> Tensor:
        side = self.patch_size
        return torch.tensor([(view.height // side, view.width // side) for view in self.views])

    @property
    def image_slots(self) -> Tensor:
        """[1, S], from the reference's bounds."""
        slots = torch.zeros(1, len(self.tensors["input_ids"]), dtype=torch.bool)
        for start, end in self.tensors.get("image_bound", torch.empty(0, 2)).tolist():
            slots[0, start:end] = True
        return slots

    @torch.no_grad()
    def embeds(self) -> Tensor:
        """[1, S, D], all the way from the picture files."""
        model = self.model
        features = self.features() if self.has_pictures else None
        return model.merge(self.tensors["input_ids"][None], self.image_slots, features)


@cache
def model_cases(root: Path) -> list[Case]:
    """All cases of all model folders."""
    models = [folder for folder in folders(root) if kind_of(folder) == "model"]
    return [Case(folder, name) for folder in models for name in _names(read_json(folder / "expected.json"))]


def _names(expected: dict[str, Any]) -> list[str]:
    """Its cases, and the entries beside them with the times of frames: `video`, `video_mixed` and the like."""
    films = (name for name, entry in expected.items() if isinstance(entry, dict) and "temporal_ids" in entry)
    return [*expected["cases"], *(f"case_{film}" for film in films)]


def slicing_cases(root: Path) -> list[dict[str, Any]]:
    """Every size of slicing.json with the rules that apply to it."""
    path = root / "slicing.json"
    if not path.is_file():
        return []
    table = read_json(path)
    rules = {key: table[key] for key in ("max_slice_nums", "scale_resolution", "patch_size")}
    return [rules | case for case in [*table["cases"], *table.get("other_parameters", [])]]


def prompt_cases(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every prompt of prompts.json with the name of its model."""
    path = root / "prompts.json"
    return [(model, case) for model, cases in read_json(path).items() for case in cases] if path.is_file() else []


@dataclass(frozen=True)
class Named:
    """One of several entries of a folder."""

    folder: Path
    name: str


def omnilmm_prompts(folders: list[Path]) -> list[Named]:
    """Every prompt of every OmniLMM folder."""
    return [Named(folder, name) for folder in folders for name in read_json(folder / "cases.json")["prompts"]]


def nf4_layers(folders: list[Path]) -> list[Named]:
    """Every layer of every folder of quantised weights."""
    return [Named(folder, name) for folder in folders for name in read_json(folder / "expected.json")["layers"]]


def load_omnilmm(folder: Path) -> tuple[OmniLMMForCausalLM, OmniLMMProcessor]:
    """The folder's checkpoint in float32 and its processor; a tiny tower's sizes stand under a key of their own."""
    sizes = read_json(folder / "config.json").get("tiny_vision_tower")
    vision = sizes and {
        "hidden_size": sizes["embed_dim"],
        "intermediate_size": sizes["mlp_hidden"],
        "num_hidden_layers": sizes["num_stored_blocks"],
        "num_attention_heads": sizes["num_heads"],
        "image_size": sizes["img_size"],
        "patch_size": sizes["patch_size"],
    }
    config = OmniLMMConfig.from_pretrained(folder, vision_config=vision)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, config=config, dtype=torch.float32, trust_remote_code=False
    )
    processor = OmniLMMProcessor.from_pretrained(folder)
    processor.config = config
    return model.eval(), processor


def talk(messages: list[dict[str, str]], picture: Picture) -> Conversation:
    """Messages of the published form: the picture stands at `<image>` or in front of the first one."""
    conversation = Conversation()
    for number, message in enumerate(messages):
        role: Any = {"human": "user", "gpt": "assistant"}.get(message.get("from", ""), message.get("role"))
        text = message.get("value", message.get("content", ""))
        text = re.sub(r"<im_start>(<im_patch>)*<im_end>\n", "", text)  # already expanded
        before, _, after = text.rpartition("<image>")
        parts = [part for part in ((before, picture, after) if number == 0 else (text,)) if part != ""]
        conversation = conversation.with_message(role, *parts)
    return conversation
