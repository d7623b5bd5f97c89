"""--check proves that a model works here, and notices when it is not the one that was meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from omnilmm.conversation import Picture
from omnilmm.engine.checking import check, count_parameters
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.errors import CheckpointError
from omnilmm.images.pixels import open_picture
from omnilmm.model_lookup import find
from omnilmm.ui.samples import samples
from tests.engine.conftest import saying


@pytest.fixture
def picture() -> Picture:
    return open_picture(samples()[0].picture)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "int4"])
def test_the_built_in_model_passes_in_every_dtype(picture: Picture, dtype: str) -> None:
    found = dict(check(load_engine(dtype=dtype), picture, "What colour is the circle?"))
    assert found["answer"] == "The circle is red."
    assert found["parameters"] == f"{find('built-in').parameters:,}" and found["dtype"].startswith(dtype)
    assert set(found) >= {"model", "device", "memory", "first word after", "speed", "question"}


def test_another_number_of_parameters_than_the_cards_is_not_well(
    make_engine: Callable[..., LocalEngine], picture: Picture
) -> None:
    engine = make_engine(name="minicpm-v-2", parameters=7)
    actual = f"{count_parameters(engine.model):,}"
    with pytest.raises(CheckpointError, match=f"Expected 7 parameters.*got {actual}"):
        list(check(engine, picture))


def test_a_model_without_words_is_not_well(make_engine: Callable[..., LocalEngine], picture: Picture) -> None:
    engine = make_engine(parameters=None)
    with saying(engine, []), pytest.raises(CheckpointError, match="generated no valid text"):
        list(check(engine, picture))
