"""Slicing and prompts agree with the tables of the published code."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.options import BeamSearch, options_for
from omnilmm.images.slicing import SlicingRules, plan_slices
from omnilmm.model_lookup import find
from omnilmm.models.config import MiniCPMVConfig
from omnilmm.prompts import chatml, llama3, minicpm
from omnilmm.prompts.pieces import as_text

CONFIGS = {
    "minicpm-v-1.0": MiniCPMVConfig(vision_encoder="vit_so400m_patch14_siglip_384.webli"),
    "minicpm-v-2.0": MiniCPMVConfig(vision_encoder="vit_so400m_patch14_siglip_384.webli", slice_mode=True),
    "minicpm-v-2.5": MiniCPMVConfig(version="2.5"),
    "minicpm-v-2.6": MiniCPMVConfig(version="2.6"),
}
# Which template and card answer for a model of the table.
BUILT: dict[str, tuple[ModuleType, str, int]] = {
    "minicpm-v": (minicpm, "minicpm-v-1", 64),
    "minicpm-v-2": (minicpm, "minicpm-v-2", 64),
    "minicpm-llama3-v-2_5": (llama3, "minicpm-llama3-v-2.5", 96),
    "minicpm-v-2_6": (chatml, "minicpm-v-2.6", 64),
}


def test_slices_are_planned_as_published(slicing: dict[str, Any]) -> None:
    rules = SlicingRules(slicing["max_slice_nums"], slicing["scale_resolution"], slicing["patch_size"])
    plan = plan_slices(tuple(slicing["image_size"]), rules)
    assert list(plan.overview) == slicing["source_size"]
    assert _list(plan.grid) == slicing["grid"]
    assert _list(plan.refined) == slicing["refine_size"]
    assert _list(plan.slice_size) == slicing["slice_size"]
    assert [list(box) for box in plan.boxes] == slicing["slice_boxes"]
    assert len(plan.sizes) == slicing["num_images"]


def test_prompt_is_written_as_published(prompt: tuple[str, dict[str, Any]]) -> None:
    model, case = prompt
    template, name, query_num = _built(model)
    conversation, plans = _conversation(case, CONFIGS[find(name).family])
    text = as_text(template.render(conversation, [plan.grid for plan in plans]), query_num)
    # Where the table has ids, their beginning is left out of the text.
    assert text == ("<s>" if "input_ids" in case else "") + case["prompt"]
    if "tgt_sizes" in case:
        sizes = [[height // 14, width // 14] for plan in plans for width, height in plan.sizes]
        assert sizes == case["tgt_sizes"]
    if case.get("slice_sizes"):
        assert [list(size) for plan in plans for size in plan.sizes] == _flat(case["slice_sizes"])


def test_defaults_of_generation_are_the_published_ones(prompt: tuple[str, dict[str, Any]]) -> None:
    model, case = prompt
    card = find(_built(model)[1])
    published = dict(case["generation"])
    given = {key: value for key, value in case.get("kwargs", {}).items() if key in published}
    if "kwargs" not in case and published.get("temperature") == 0.9:
        given["temperature"] = 0.9  # a caller's wish, which this table does not list apart
    if published.pop("do_sample", False):
        options = options_for(card, "sampling", **given)
        ours = {key: getattr(options, key) for key in published}
    else:
        options = options_for(card, "beam", **given)
        assert isinstance(options, BeamSearch)
        ours = {"num_beams": options.beams, "repetition_penalty": options.repetition_penalty}
    assert ours == published
    # 1.0 published 2048, as many as it has positions in all: half of them is what can be answered.
    assert options.max_new_tokens == {"minicpm-v": 1024}.get(model, case["max_new_tokens"])


def _conversation(case: dict[str, Any], config: MiniCPMVConfig) -> tuple[Conversation, list[Any]]:
    conversation = Conversation(system=case.get("kwargs", {}).get("system_prompt"))
    for number, message in enumerate(case["msgs"]):
        content = message["content"] if isinstance(message["content"], list) else [message["content"]]
        parts = [item if isinstance(item, str) else _blank(item["image_size"]) for item in content]
        if number == 0 and case["image_size"]:
            parts.insert(0, _blank(case["image_size"]))
        conversation = conversation.with_message(message["role"], *parts)
    return conversation, [config.plan(picture.image.size) for picture in conversation.pictures]


def _flat(sizes: list[Any]) -> list[list[int]]:
    """Per picture, or of the one picture."""
    return [size for of_one in sizes for size in of_one] if isinstance(sizes[0][0], list) else sizes


def _built(model: str) -> tuple[ModuleType, str, int]:
    if model not in BUILT:
        pytest.fail(f"prompts.json: the prompts of {model} are not built yet.", pytrace=False)
    return BUILT[model]


def _blank(size: list[int]) -> Picture:
    return Picture(Image.new("RGB", (size[0], size[1])))


def _list(pair: tuple[int, int] | None) -> list[int] | None:
    return list(pair) if pair else None
