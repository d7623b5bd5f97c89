"""On a Space: what does not fit is replaced, and each answer may be given in a forked process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Finished, Progress, TextDelta
from omnilmm.engine.loading import load_engine
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import options_for
from omnilmm.engine.placement import device_memory
from omnilmm.engine.spaces import zero_gpu
from omnilmm.engine.spaces.fallback import load_page_engine
from omnilmm.engine.spaces.zero_gpu import ZeroGpuEngine
from omnilmm.errors import HardwareError, InputError
from omnilmm.hardware import Choice
from omnilmm.images.pixels import open_picture
from omnilmm.models.library import load_processor
from omnilmm.prompts import template_pool
from omnilmm.prompts.template_pool import Renderer
from omnilmm.ui.samples import samples
from tests.engine.conftest import CARD
from tests.guarded import guarded_calls
from tests.models.tiny_library import save_library_model

STAND_INS = Path(__file__).parents[2] / "stand_ins"
CIRCLE = samples()[0]


@pytest.fixture(scope="module")
def local() -> LocalEngine:
    return load_engine()


@pytest.fixture
def zero(local: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZeroGpuEngine]:
    monkeypatch.syspath_prepend(STAND_INS)
    yield ZeroGpuEngine(local)
    sys.modules.pop("spaces")


def asked(*more: str) -> Conversation:
    conversation = Conversation().with_message("user", open_picture(CIRCLE.picture), CIRCLE.question)
    for question in more:
        conversation = conversation.with_message("assistant", CIRCLE.answer).with_message("user", question)
    return conversation


def answer_of(engine: ZeroGpuEngine | LocalEngine, conversation: Conversation, owner: object = None) -> Finished:
    *_, last = engine.stream(conversation, options_for(engine.card, seed=1), owner)
    assert isinstance(last, Finished)
    return last


def test_an_answer_in_another_process_is_the_same(zero: ZeroGpuEngine, local: LocalEngine) -> None:
    events = list(zero.stream(asked(), options_for(zero.card, seed=1)))
    assert isinstance(events[0], Progress)
    assert events[-1].text == answer_of(local, asked()).text == CIRCLE.answer  # type: ignore[union-attr]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == CIRCLE.answer
    pids = sys.modules["spaces"].pids
    assert len(pids) == 1 and pids[0] != os.getpid()


def test_nothing_is_kept_between_answers_and_the_device_says_so(zero: ZeroGpuEngine, local: LocalEngine) -> None:
    owner = object()
    answer_of(zero, asked(), owner)
    assert answer_of(zero, asked("And what is its shape?"), owner).usage.reused == 0
    assert len(sys.modules["spaces"].pids) == 2
    assert "encoded again" in str(zero.device.reason) and "encoded again" not in str(local.device.reason)
    zero.forget(owner)
    assert zero.slices(open_picture(CIRCLE.picture)) == local.slices(open_picture(CIRCLE.picture))


def test_prompts_of_a_library_model_are_rendered_before_the_gpu_is_lent(
    zero: ZeroGpuEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_library_model(tmp_path / "model", "minicpm-v-4.6")
    model = AutoModelForImageTextToText.from_pretrained(path).eval()
    card = CARD.model_copy(update={"family": "library", "context": 2000, "several_pictures": True})
    own = LocalEngine(model, load_processor(path), card, Choice("cpu", "test"), Choice("fp32", "test"), max_slices=2)
    library = ZeroGpuEngine(own)
    questions = asked("And what is its shape?"), asked()
    here = [answer_of(own, conversation) for conversation in questions]
    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "PROGRAM", "sys.exit(7)")  # any further one
        there = [answer_of(library, conversation) for conversation in questions]
    assert [(end.text, end.usage.picture_tokens) for end in there] == [
        (end.text, end.usage.picture_tokens) for end in here
    ]
    count = len(sys.modules["spaces"].pids)
    with pytest.raises(InputError, match="The question is empty"):
        list(library.stream(Conversation().with_message("user", " ")))
    assert len(sys.modules["spaces"].pids) == count  # no GPU for what cannot be answered


def test_prompts_are_made_by_one_thread_at_a_time(zero: ZeroGpuEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = guarded_calls(monkeypatch, zero_gpu, "fitted", zero_gpu._processing.locked)
    zero_gpu._prompts(asked(), options_for(zero.card))
    assert alone == [True]


def test_a_process_that_is_used_again_keeps_nobodys_prompts(zero: ZeroGpuEngine) -> None:
    for prompts in ({"of one visitor": "a"}, {"of another": "b"}):
        list(zero_gpu._answer(asked(), options_for(zero.card, seed=1), prompts))
        assert template_pool.rendered_before == prompts
    template_pool.rendered_before.clear()


def test_closing_ends_the_process(zero: ZeroGpuEngine) -> None:
    events = zero.stream(asked(), options_for(zero.card, seed=1))
    while not isinstance(next(events), TextDelta):
        pass
    events.close()
    with pytest.raises(ProcessLookupError):
        os.kill(sys.modules["spaces"].pids[-1], 0)


def test_errors_come_across_as_they_are(zero: ZeroGpuEngine) -> None:
    with pytest.raises(InputError, match="The question is empty"):
        list(zero.stream(Conversation().with_message("user", " ")))


def test_what_the_service_says_reaches_the_reader(zero: ZeroGpuEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "stream", lambda *_: _broken())
    with pytest.raises(HardwareError, match="There is no GPU for this answer: RuntimeError"):
        list(zero.stream(asked()))


def _broken() -> Iterator[None]:
    raise RuntimeError("the device caught fire")
    yield


def test_a_model_that_does_not_fit_is_replaced_by_the_built_in_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 2**30)
    with pytest.raises(HardwareError, match="Nothing was fetched"):  # elsewhere a wish is not replaced
        load_page_engine(model="minicpm-v-2.6", dtype="bf16", revision="main")
    monkeypatch.setenv("SPACE_ID", "somebody/chat")
    engine = load_page_engine(model="minicpm-v-2.6", dtype="bf16", revision="main")
    assert engine.card.name == BUILT_IN
    assert "MiniCPM-V 2.6 does not fit on this hardware" in str(engine.device.reason)
    assert "Nothing was fetched" in caplog.text


def test_the_built_in_model_itself_has_no_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "somebody/chat")
    with pytest.raises(HardwareError):
        load_page_engine(device="cuda:9")


def test_on_zero_gpu_the_model_is_lent_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.syspath_prepend(STAND_INS)
    engine = load_page_engine()
    assert isinstance(engine, ZeroGpuEngine)
    sys.modules.pop("spaces")
