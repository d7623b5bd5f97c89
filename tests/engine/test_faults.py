"""Faults put into a running engine: the request fails with its line, the next one works, nobody else is hurt."""

from __future__ import annotations

import gc
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.backends.decoder import Decoder
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.events import Event, Finished, TextDelta
from omnilmm.engine.loading import prepare
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Options, Sampling
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import CheckpointError, HardwareError
from tests.models.tiny import save_tiny

SAMPLING, BEAM = Sampling(seed=1, max_new_tokens=12), BeamSearch(2, max_new_tokens=6)
OTHERS = Sampling(seed=2, max_new_tokens=60)
LONG = 200  # tokens: the prompt of whom the faults are meant for is longer, all others' are shorter
SHORTAGES = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    "Metal": RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)"),
    "NumPy": MemoryError("Unable to allocate 9.00 GiB for an array"),
}
STAGES: dict[str, tuple[str, Options, Callable[[Tensor, int], bool]]] = {
    "vision": ("vpm", SAMPLING, lambda _, __: True),
    "prefill": ("llm.model", SAMPLING, lambda given, _: given.shape[1] > 1),
    "decoding": ("llm.model", SAMPLING, lambda given, known: given.shape[:2] == (1, 1) and known > LONG),
    "beam": ("llm.model", BEAM, lambda given, _: given.shape[0] > 1),
}
colours = itertools.count(1)


def asking(words: str) -> Conversation:
    """About a new picture: one that was encoded before would come from the feature cache."""
    picture = Picture(Image.new("RGB", (60, 40), (next(colours), 7, 7)))
    return Conversation().with_message("user", picture, words)


@contextmanager
def broken(engine: LocalEngine, stage: str, error: BaseException) -> Iterator[list[int]]:
    """Every pass of one stage of one answer fails; how many did is counted."""
    part, _, is_meant = STAGES[stage]
    failed: list[int] = []

    def fail(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*given, *named.values()) if isinstance(value, Tensor) and value.ndim > 1]
        cache = named.get("past_key_values")
        if is_meant(tensors[0], cache.get_seq_length() if cache is not None else 0):
            failed.append(1)
            raise error

    handle = engine.model.get_submodule(part).register_forward_pre_hook(fail, with_kwargs=True)
    try:
        yield failed
    finally:
        handle.remove()


def said(events: Iterator[Event]) -> str:
    return next(event.text for event in events if isinstance(event, Finished))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", [*SHORTAGES, "unexpected"])
def test_a_fault_anywhere_costs_one_answer(make_engine: Callable[..., LocalEngine], stage: str, kind: str) -> None:
    engine = make_engine()
    error = SHORTAGES.get(kind, ZeroDivisionError("unexpected"))
    options, other = STAGES[stage][1], asking("!")
    alone = said(engine.stream(other, OTHERS))
    with closing(engine.stream(other, OTHERS, owner="other")) as others:
        first = next(event for event in others if isinstance(event, TextDelta))
        with broken(engine, stage, error) as failed:
            expected = type(error) if kind == "unexpected" else HardwareError
            with pytest.raises(expected, match=r"smaller picture|unexpected") as caught:
                list(engine.stream(asking("?" * LONG), options, owner="me"))
            assert "\n" not in str(caught.value) and failed
        assert first.text + "".join(event.text for event in others if isinstance(event, TextDelta)) == alone
    assert not engine.scheduler.count
    again = asking("?" * LONG)
    assert said(engine.stream(again, options, owner="me")) == said(make_engine().stream(again, options))


def test_a_fault_leaves_nothing_of_its_conversation_in_memory(engine: LocalEngine) -> None:
    gc.collect()
    before = sum(type(thing) is Decoder for thing in gc.get_objects())
    for _ in range(3):
        with broken(engine, "decoding", MemoryError()), pytest.raises(HardwareError):
            list(engine.stream(asking("?" * LONG), SAMPLING))
    gc.collect()
    assert sum(type(thing) is Decoder for thing in gc.get_objects()) <= before + 1


def test_files_that_are_removed_are_missed_by_the_next_loading_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    ready = prepare(str(folder), device="cpu")
    engine, question = ready.load(), asking("?")
    expected = said(engine.stream(question, SAMPLING))
    shutil.rmtree(folder)
    assert said(engine.stream(question, SAMPLING)) == expected
    with pytest.raises(CheckpointError, match="model") as caught:
        ready.load()
    assert "\n" not in str(caught.value)


def test_a_model_whose_files_go_while_another_is_loaded_is_missed_and_another_one_can_be_chosen(tmp_path: Path) -> None:
    folders = {name: save_tiny(tmp_path / name) for name in ("first", "second", "third")}

    def get_ready(request: ModelRequest, freed: int, report: Any) -> Any:
        ready = prepare(request.model, device="cpu")
        if request.model.endswith("second"):  # all are gone when it is to be loaded
            for name in ("first", "second"):
                shutil.rmtree(folders[name])
        return ready

    provider = ModelProvider(get_ready, map(str, folders.values()))
    provider.begin(ModelRequest(str(folders["first"])))
    provider.wait()
    provider.switch(str(folders["second"]))
    with pytest.raises(CheckpointError) as caught:
        provider.wait()
    assert "\n" not in str(caught.value) and provider.change and provider.change.stage == "lost"
    provider.switch(str(folders["third"]))
    provider.wait()
    assert said(provider.stream(asking("?"), SAMPLING))


def test_a_clock_that_jumps_changes_nothing(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sets it, or a laptop wakes up: what takes how long is asked of the clock that only goes forward."""
    question = asking("?")
    expected = said(engine.stream(question, SAMPLING))
    real, jumps = time.time, itertools.cycle([0, 10**9, -(10**9)])
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    finished = [event for event in engine.stream(asking("?"), SAMPLING) if isinstance(event, Finished)]
    assert 0 <= finished[0].timings.waited_s < 600 and 0 < finished[0].timings.total_s < 600
    assert said(engine.stream(question, SAMPLING)) == expected


def test_an_answer_that_fails_leaves_no_thread(engine: LocalEngine) -> None:
    said(engine.stream(asking("?"), BEAM))
    before = threading.active_count()
    for stage in STAGES:
        with broken(engine, stage, SHORTAGES["NumPy"]), pytest.raises(HardwareError):
            list(engine.stream(asking("?" * LONG), STAGES[stage][1]))
    assert threading.active_count() <= before
