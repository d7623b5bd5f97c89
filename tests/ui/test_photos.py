"""What is offered for photos in place of a model that knows drawings only."""

from __future__ import annotations

from omnilmm.catalog import BUILT_IN, cards
from omnilmm.engine.choosing import ListedModel
from omnilmm.engine.provider import ModelProvider
from omnilmm.model_lookup import find
from omnilmm.ui.offer import Offer
from omnilmm.ui.photos import offer_label, offered_for_photos
from omnilmm.ui.texts import ENGLISH
from tests.ui.scripted import ScriptedEngine

EVERYTHING = Offer(lambda _: [ListedModel(card, "bf16", False) for card in cards().values()])


def answering(name: str) -> ModelProvider:
    return ModelProvider.holding(ScriptedEngine(card=find(name)))


def test_the_best_that_fits_and_knows_photos_is_offered() -> None:
    offered = offered_for_photos(EVERYTHING, answering(BUILT_IN))
    assert offered is not None and not offered.drawings_only
    assert offered.title in offer_label(offered, ENGLISH)
    assert f"{offered.download_gib:g} GiB" in offer_label(offered, ENGLISH)


def test_nothing_is_offered_where_nothing_fits_nobody_may_choose_or_the_model_knows_photos() -> None:
    alone = Offer(lambda _: [ListedModel(find(BUILT_IN), "bf16", True)])
    assert offered_for_photos(alone, answering(BUILT_IN)) is None
    assert offered_for_photos(None, answering(BUILT_IN)) is None
    assert offered_for_photos(EVERYTHING, answering("minicpm-v-2.6")) is None


def test_which_model_knows_drawings_only_is_a_fact_of_its_card() -> None:
    assert [card.name for card in cards().values() if card.drawings_only] == [BUILT_IN]
