"""A picture is encoded once; its cached features are those that encoding it again gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.caches import features
from omnilmm.engine.caches.features import ImageEncoder
from omnilmm.models.omnilmm12b import OmniLMMForCausalLM
from omnilmm.models.processor import OmniLMMProcessor
from tests.models.tiny import VERSIONS, save_tiny, tiny_model, tiny_processor

SMALL, WIDE, TALL, LARGE = (
    Picture(Image.radial_gradient("L").resize(size).convert("RGB"))
    for size in ((50, 60), (190, 60), (70, 130), (200, 200))
)


@pytest.fixture(scope="module", params=[*VERSIONS, "omnilmm"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Model and processor of every architecture in turn."""
    if request.param != "omnilmm":
        return tiny_model(request.param), tiny_processor(request.param)
    folder = save_tiny(tmp_path_factory.mktemp("omnilmm"), "omnilmm")
    return OmniLMMForCausalLM.from_pretrained(folder).eval(), OmniLMMProcessor.from_pretrained(folder)


@contextmanager
def encoded(model: Any) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of what goes through the vision tower."""
    seen: list[tuple[int, ...]] = []
    handle = model.tower.register_forward_pre_hook(lambda _, arguments: seen.append(tuple(arguments[0].shape)))
    yield seen
    handle.remove()


@torch.inference_mode()
def encode(encoder: ImageEncoder, *pictures: Picture) -> list[Tensor]:
    views = encoder.processor.views(Conversation().with_message("user", *pictures))
    found = [list(encoder.encode(view, key))[-1] for view, key in zip(views, encoder.keys(views), strict=True)]
    assert all(features is not None for features in found)
    return [features for features in found if features is not None]


@torch.inference_mode()
def test_features_are_the_models_own(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    pictures = [SMALL, WIDE, TALL]
    expected = model.get_image_features(*processor.pixel_values(pictures))
    torch.testing.assert_close(
        torch.cat(encode(ImageEncoder(model, processor), *pictures)), expected, atol=1e-4, rtol=1e-4
    )


def test_slices_of_one_shape_go_in_one_batch_without_padding(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    plan = processor.plan(WIDE)
    with encoded(model) as seen:
        encode(ImageEncoder(model, processor), WIDE)
    assert [shape[0] for shape in seen] == ([1, len(plan.boxes)] if plan.boxes else [1])
    patch = seen[0][2]
    longest = max(w * h // patch**2 for w, h in plan.sizes)
    own = [w * h // patch**2 for w, h in dict.fromkeys((plan.overview, plan.slice_size or plan.overview))]
    is_padded = getattr(model.config, "version", None) == "2.5"
    assert {shape[3] // patch for shape in seen} == ({longest} if is_padded else set(own))


def test_only_so_many_slices_go_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_model(), tiny_processor()
    whole = encode(ImageEncoder(model, processor), LARGE)[0]
    assert len(whole) == 5  # all of one shape
    monkeypatch.setattr(features, "SLICES_AT_ONCE", 3)
    with encoded(model) as seen:
        parts = encode(ImageEncoder(model, processor), LARGE)[0]
    assert [shape[0] for shape in seen] == [3, 2]
    torch.testing.assert_close(parts, whole)


def test_a_picture_is_encoded_once(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    encoder = ImageEncoder(model, processor)
    first = encode(encoder, WIDE)[0]
    with encoded(model) as seen:
        again = encode(encoder, Picture(WIDE.image.copy()))[0]
    assert seen == [] and again is first
    assert (encoder.cache.hits, encoder.cache.misses) == (1, 1) and encoder.cache.bytes == first.nbytes


def test_one_more_picture_is_one_more_encoding(parts: tuple[Any, Any]) -> None:
    model, processor = parts
    encoder = ImageEncoder(model, processor)
    encode(encoder, WIDE)
    with encoded(model) as seen:
        encode(encoder, WIDE, SMALL)
    assert len(seen) == 1 and seen[0][0] == 1


def test_of_2_5_the_longest_slice_of_the_prompt_counts() -> None:
    model, processor = tiny_model("2.5"), tiny_processor("2.5")
    encoder = ImageEncoder(model, processor)
    shorter, longer = SMALL, Picture(Image.new("RGB", (4, 700), "red"))  # one slice of 53 patches
    alone = encode(encoder, shorter)[0]
    beside = encode(encoder, shorter, longer)[0]
    assert not torch.allclose(alone, beside, atol=1e-3)
    assert torch.equal(encode(encoder, shorter)[0], alone)
    assert len(encoder.cache) == 3


def test_what_does_not_fit_is_encoded_again() -> None:
    model, processor = tiny_model(), tiny_processor()
    encoder = ImageEncoder(model, processor, limit_bytes=0)
    first = encode(encoder, WIDE)[0]
    with encoded(model) as seen:
        assert torch.equal(encode(encoder, WIDE)[0], first)
    assert seen and not encoder.cache.bytes
