"""Changing the model of a page for real: a hub on this machine, real files, real memory checks, real answers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save

from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished
from omnilmm.engine.options import options_for
from omnilmm.engine.placement import device_memory
from omnilmm.engine.provider import ModelProvider
from omnilmm.engine.spaces.fallback import provide
from omnilmm.images.pixels import open_picture
from omnilmm.ui.samples import samples
from omnilmm.ui.texts import texts_in
from tests.engine.local_hub import LocalHub
from tests.engine.remote_model import ENOUGH, LOADING, NAME, NOWHERE, on_the_hub
from tests.engine.test_provider import ended

CIRCLE = samples()[0]
TENSOR = "resampler.query"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with on_the_hub(tmp_path, monkeypatch) as hub:
        yield hub


@pytest.fixture
def provider(hub: LocalHub) -> ModelProvider:
    """Answers with the built-in model."""
    provider = provide(LOADING, lambda done, total: None)
    provider.wait()
    return provider


def answer(provider: ModelProvider) -> str:
    question = Conversation().with_message("user", open_picture(CIRCLE.picture), CIRCLE.question)
    *_, last = provider.stream(question, options_for(provider.card, seed=1))
    assert isinstance(last, Finished)
    return last.text


def failure(provider: ModelProvider) -> str:
    assert provider.change and provider.change.failure
    return str(provider.change.failure)


def test_a_failed_change_is_said_and_the_old_model_answers_until_one_succeeds(
    hub: LocalHub, provider: ModelProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(stage: str, says: str, *, fetched: bool) -> None:
        assert provider.switch(NAME)
        assert ended(provider) == stage
        assert says in failure(provider)
        assert provider.card.name == BUILT_IN and answer(provider) == CIRCLE.answer
        assert ("model.safetensors" in hub.asked) is fetched

    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    fails("failed", "cannot be fetched", fetched=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 4 * 2**30)
    fails("failed", "Nothing was fetched", fetched=False)
    monkeypatch.setattr(device_memory, "free_memory", lambda _: ENOUGH)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    fails("failed", "free some space", fetched=False)
    monkeypatch.undo()


def test_broken_files_are_no_end_of_the_old_model_and_shards_without_index_load(
    hub: LocalHub, provider: ModelProvider
) -> None:
    whole, engine = dict(hub.files), provider._engine
    hub.spoilt = {"model.safetensors"}
    assert provider.switch(NAME) and ended(provider) == "failed"
    assert "is damaged" in failure(provider) and provider._engine is engine
    hub.spoilt, hub.cut_at = set(), {"model.safetensors": 5_000_000}
    assert provider.switch(NAME) and ended(provider) == "failed"
    assert "was interrupted" in failure(provider) and provider._engine is engine
    hub.cut_at = {}
    hub.files["config.json"] = json.dumps(json.loads(whole["config.json"]) | {"hidden_size": 128}).encode()
    hub.commit = "2" * 40
    assert provider.switch(NAME) and ended(provider) == "failed"
    assert "1 of another shape: " not in failure(provider) and " of another shape: " in failure(provider)
    assert provider._engine is engine and answer(provider) == CIRCLE.answer
    tensors = load(whole["model.safetensors"])
    hub.files = whole | {"model.safetensors": save(tensors | {TENSOR: torch.zeros(3, 128)}, {"format": "pt"})}
    hub.commit = "4" * 40
    assert provider.switch(NAME) and ended(provider) == "failed"
    assert f"1 of another shape: {TENSOR} (expected {list(tensors[TENSOR].shape)}, got [3, 128])." in failure(provider)
    assert provider._engine is engine, "the running model was never let go"
    names = sorted(tensors)
    halves = {f"model-{i + 1}-of-2.safetensors": {name: tensors[name] for name in names[i::2]} for i in range(2)}
    parts = {file: save(half, {"format": "pt"}) for file, half in halves.items()}
    hub.files = {name: content for name, content in whole.items() if name != "model.safetensors"} | parts
    hub.commit = "3" * 40
    assert provider.switch(NAME) and ended(provider) == "done"
    assert (provider.card.name, answer(provider)) == (NAME, CIRCLE.answer)
    assert provider.switch(BUILT_IN) and ended(provider) == "done"
    assert provider.card.name == BUILT_IN, "and there is a way back"


def test_what_is_offered_in_int8_is_loaded_in_int8(provider: ModelProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 9 * 2**30)  # 16 GiB in bf16
    assert provider.switch(NAME, "bf16", "int8") and ended(provider) == "failed", "an explicit request is not replaced"
    assert "in bf16 needs more than" in failure(provider) and provider.card.name == BUILT_IN
    assert provider.change and provider.change.failure
    translated = texts_in("en").translate(provider.change.failure)
    assert "try the dtype int4 (7.0 GiB) or " in translated, "each page puts it into its own words"
    assert provider.switch(NAME, "auto", "int8") and ended(provider) == "done"
    assert str(provider.dtype) == "int8 (a larger dtype does not fit in memory)"
    assert answer(provider)


def test_the_memory_of_the_old_model_counts_as_free(provider: ModelProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = provider.memory_bytes
    assert weights
    free = {"now": weights // 2}
    monkeypatch.setattr(device_memory, "free_memory", lambda _: free["now"])
    assert provider.switch(BUILT_IN, "fp32")
    assert ended(provider) == "restored", "less was free than expected, which was found out before it was loaded"
    assert "in fp32 needs" in failure(provider) and answer(provider) == CIRCLE.answer
    free["now"] = ENOUGH
    assert provider.switch(BUILT_IN, "bf16") and ended(provider) == "done"
    free["now"] = 0
    assert provider.switch(BUILT_IN, "fp32") and ended(provider) == "failed", "together it is not enough"


def test_a_flag_for_the_revision_is_meant_for_its_own_model(provider: ModelProvider, hub: LocalHub) -> None:
    own = provide({**LOADING, "revision": "v1.0"}, lambda done, total: None)
    own.wait()
    assert own.switch(NAME) and ended(own) == "done"


def test_a_thread_that_is_busy_does_not_keep_the_model_of_a_server_waiting(hub: LocalHub) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)  # Python's own
    try:
        provide(LOADING, lambda done, total: None).wait()
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)


def test_bytes_are_reported_to_the_terminal_too(hub: LocalHub) -> None:
    heard: list[tuple[int, int]] = []
    provider = provide(LOADING, lambda done, total: heard.append((done, total)))
    provider.wait()
    assert not heard
    assert provider.switch(NAME) and ended(provider) == "done"
    assert heard[-1][0] == heard[-1][1] > 0
