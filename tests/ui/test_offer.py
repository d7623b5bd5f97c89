"""What visitors can choose from, and what they are told about a change of models."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args

import pytest

from omnilmm.catalog import BUILT_IN, ModelCard, cards
from omnilmm.engine import provider as providing
from omnilmm.engine.change import Change, Stage
from omnilmm.engine.choosing import ListedModel, can_be_here
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import CheckpointError, HardwareError
from omnilmm.model_lookup import find
from omnilmm.ui import offer as offering
from omnilmm.ui.offer import Offer, choosable
from omnilmm.ui.status import change_line, status
from omnilmm.ui.texts import CODES, texts_in
from tests.guarded import guarded_calls
from tests.ui.scripted import ScriptedEngine

OTHER = find("minicpm-v-2.6")


def listing(*asked: int) -> tuple[Offer, list[int]]:
    calls = [*asked]

    def list_models(freed_bytes: int) -> list[ListedModel]:
        calls.append(freed_bytes)
        return [ListedModel(card, "int8", True) for card in cards().values()]

    return Offer(list_models, lambda: ["fp32", "int8"]), calls


def test_models_are_listed_once_in_a_while_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = ModelProvider.holding(ScriptedEngine())
    offer, calls = listing()
    alone = guarded_calls(monkeypatch, offer, "_look", offer._lock.locked)
    assert offer.dtypes(provider) == ("auto", "fp32", "int8") and offer.fits(provider, OTHER.name) == "int8"
    assert offer.fits(provider, [OTHER.name]) is None and len(offer.models(provider)) == len(cards())
    assert calls == [provider.memory_bytes], "what the model of now takes would be free"
    provider.version += 1
    offer.models(provider)
    assert len(calls) == 2, "another model leaves another room"
    monkeypatch.setattr(offering, "LOOKED_UP_S", -1)
    offer.models(provider)
    assert len(calls) == 3
    assert alone == [True] * 3, "whoever comes meanwhile waits for what it finds"


def test_no_click_is_offered_that_is_known_to_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    provider = ModelProvider.holding(ScriptedEngine())
    listed = [ListedModel(card, "int8", card.name == BUILT_IN) for card in cards().values()]

    def best(*, offline: bool = False, hub: Literal["huggingface", "modelscope"] = "huggingface") -> str:
        found = Offer(lambda _: listed, can_be_here=partial(can_be_here, hub=hub, offline=offline)).best(provider)
        return found.card.name if found else ""

    assert best(offline=True) == BUILT_IN
    assert find_spec("modelscope") or best(hub="modelscope") == BUILT_IN
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**50))
    assert best() != BUILT_IN
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    assert best() == BUILT_IN


def test_the_best_is_offered_in_place_of_others_but_not_of_itself_nor_of_a_folder() -> None:
    offer, _ = listing()
    best = offer.best(ModelProvider.holding(ScriptedEngine()))
    assert best is not None

    def offered(card: ModelCard) -> str:
        better = offer.better(ModelProvider.holding(ScriptedEngine(card=card)))
        return better.card.name if better else ""

    assert offered(find(BUILT_IN)) == offered(OTHER) == best.card.name
    assert offered(best.card) == "" == offered(OTHER.model_copy(update={"name": "/my/model"}))
    alone = Offer(lambda _: [ListedModel(find(BUILT_IN), "int8", True)])
    assert alone.better(ModelProvider.holding(ScriptedEngine(card=OTHER))) is None


def test_nothing_is_listed_while_a_model_is_loaded_and_the_picker_is_not_empty() -> None:
    provider = ModelProvider()
    provider.change = Change(find(BUILT_IN))
    offer, calls = listing()
    assert offer.models(provider) == () and offer.dtypes(provider) == ("auto",) and not calls
    assert set(choosable((), provider.card)) == set(cards())
    folder = OTHER.model_copy(update={"name": "/my/model"})
    assert next(iter(choosable(offer.models(ModelProvider.holding(ScriptedEngine())), folder))) == "/my/model"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("stage", get_args(Stage))
def test_every_step_of_a_change_has_its_line(stage: Stage, code: str) -> None:
    failure = HardwareError("No room.") if stage in ("failed", "restored", "restoring", "lost") else None
    change = Change(OTHER, find(BUILT_IN), stage, (3 * 2**30, 12 * 2**30), failure)
    texts = texts_in(code)  # type: ignore[arg-type]
    line = change_line(change, texts)
    assert OTHER.title in line and "{" not in line
    assert ("No room." in line) is (failure is not None)
    assert (stage == "downloading") is ("3.0" in line and "25%" in line)
    assert change_line(replace(change, before=None), texts) == "" == change_line(None, texts)


def test_success_is_reported_for_a_while_and_a_failure_until_the_next_change(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, texts = ModelProvider.holding(ScriptedEngine()), texts_in("en")
    provider.change = Change(OTHER, find(BUILT_IN), "done")
    provider._ended_s = time.monotonic()
    assert status(provider, texts)[1].startswith(f"Now {OTHER.title} answers.")
    monkeypatch.setattr(providing, "NEWS_S", -1)
    assert status(provider, texts) == (texts.model_line(provider), "")
    provider.change = Change(OTHER, find(BUILT_IN), "failed", failure=HardwareError("No room."))
    assert "No room." in status(provider, texts)[1]


def test_without_a_model_there_is_one_line_that_says_why() -> None:
    provider, texts = ModelProvider(), texts_in("en")
    provider.change = Change(OTHER, None, "failed", failure=HardwareError("No room."))
    assert status(provider, texts) == (f"{OTHER.title} could not be loaded: No room.", "")
    provider.change = Change(OTHER, find(BUILT_IN), "lost", failure=HardwareError("No room."))
    before, line = status(provider, texts)
    assert not before and "choose another model" in line


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_failed_unexpectedly_is_said_to_have_failed_once(language: str) -> None:
    provider, texts = ModelProvider(), texts_in(language)
    failure = CheckpointError("loading_failed", title=OTHER.title, reason="oops")
    provider.change = Change(OTHER, None, "failed", failure=failure)
    line, _ = status(provider, texts)
    failed = {"en": "could not be loaded", "zh": "无法加载"}[language]
    assert line.count(OTHER.title) == 1 and line.count(failed) == 1 and "oops" in line
