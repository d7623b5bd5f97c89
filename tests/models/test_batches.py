"""A batch of conversations means what its members mean one by one, with any pictures or none."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.models.batches import Sample, collate
from omnilmm.models.picture_model import PictureModel
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts.pieces import IGNORED
from tests.images.corpus import drawing
from tests.models.tiny import VERSIONS, tiny_model, tiny_processor


@cache
def talks() -> tuple[Conversation, ...]:
    """One picture of short slices, two of longer ones, and text alone; answers of three lengths."""
    wide, high, square = (Picture(drawing(size=size)) for size in ((200, 20), (56, 130), (60, 60)))
    one = Conversation().with_message("user", wide, "What?").with_message("assistant", "A.")
    two = (
        Conversation().with_message("user", high, square, "Which of them?").with_message("assistant", "The longer one.")
    )
    text = Conversation().with_message("user", "Hi").with_message("assistant", "Hello, you.")
    return one, two, text


def samples(processor: MiniCPMVProcessor, version: str) -> list[Sample]:
    found = []
    for talk in talks():
        if version == "1.0" and len(talk.pictures) > 1:
            talk = talks()[0].with_message("user", "And?").with_message("assistant", "That is all.")
        pixels = processor.pixel_values(talk.pictures) if talk.pictures else ()
        found.append(Sample(processor.prompt(talk), *pixels))
    return found


def labelled(sample: Sample) -> int:
    """The number of tokens with a label."""
    return sum(label != IGNORED for label in sample.prompt.labels)


def loss(model: PictureModel, some: list[Sample]) -> Tensor:
    found: Tensor = model(**collate(some)).loss
    return found


@torch.no_grad()
@pytest.mark.parametrize("version", VERSIONS)
def test_the_loss_of_a_batch_is_the_mean_over_the_tokens_of_its_members(version: str) -> None:
    model, some = tiny_model(version), samples(tiny_processor(version), version)
    alone = sum(float(loss(model, [sample])) * labelled(sample) for sample in some) / sum(map(labelled, some))
    assert float(loss(model, some)) == pytest.approx(alone, rel=1e-5)
    # Pictures that were encoded before, each conversation by itself, are the same pictures.
    known = [
        Sample(s.prompt, features=model.get_image_features(s.pixel_values, s.target_sizes))
        if s.pixel_values is not None
        else s
        for s in some
    ]
    assert "pixel_values" not in collate(known)
    assert float(loss(model, known)) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("version", ["1.0", "2.0", "2.5", "2.6"])
def test_checkpointing_gives_the_same_gradients(version: str) -> None:
    """Also in the tower, each of whose layers is computed again."""
    model: Any = tiny_model(version).train()
    some = samples(tiny_processor(version), version)[:1]
    towers = [layer for layer in model.modules() if type(layer).__name__ in ("ViTBlock", "Idefics2EncoderLayer")]
    runs: list[int] = []
    for layer in towers:
        attention = layer.attn if hasattr(layer, "attn") else layer.self_attn
        attention.register_forward_hook(lambda *_: runs.append(1))
    gradients = []
    for _ in range(2):
        before = len(runs)
        model.zero_grad()
        loss(model, some).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.activation_checkpointing_enable()
    assert before and len(runs) == 3 * before  # the second time, each layer ran once more
    assert gradients[0].keys() == gradients[1].keys() and any("vpm" in name for name in gradients[0])
    assert all(torch.equal(tensor, gradients[1][name]) for name, tensor in gradients[0].items())
