"""Another model takes the place of the one that answers, and nobody loses anything, whatever goes wrong."""

from __future__ import annotations

import gc
import platform
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator

import psutil
import pytest

from omnilmm.catalog import BUILT_IN
from omnilmm.conversation import Conversation
from omnilmm.engine import provider as providing
from omnilmm.engine.change import ModelRequest
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import Sampling
from omnilmm.engine.provider import PENDING, ModelProvider
from omnilmm.errors import CheckpointError, HardwareError, ModelNotFoundError, SwitchError
from omnilmm.model_lookup import find
from tests.engine.conftest import saying, watched
from tests.engine.gate import Gate, provider_of
from tests.guarded import guarded, guarded_attributes, guarded_calls
from tests.ui.scripted import ScriptedEngine, finished
from tests.waiting import PATIENCE_S, wait_until

OTHER, THIRD = "minicpm-v-2.6", "omnilmm-12b"
HELLO = Conversation().with_message("user", "Hello")
TOO_SMALL = HardwareError("needs 17.1 GiB, 8.0 GiB are free")


def gate(name: str = BUILT_IN, **more: object) -> Gate:
    engine = ScriptedEngine(lambda _: [TextDelta(name), finished(name)], find(name))
    return Gate(lambda: engine, **more)  # type: ignore[arg-type]


def ended(provider: ModelProvider) -> str:
    """Wait until a change is over; how it ended."""
    end = time.monotonic() + PATIENCE_S
    while provider.is_changing:
        assert time.monotonic() < end, provider.change
        time.sleep(0.005)
    assert provider.change
    return provider.change.stage


def at(provider: ModelProvider, stage: str) -> None:
    """Wait until a change is so far."""
    end = time.monotonic() + PATIENCE_S
    while provider.change is None or provider.change.stage != stage:
        assert time.monotonic() < end, provider.change
        time.sleep(0.005)


def answer(provider: ModelProvider, conversation: Conversation = HELLO) -> str:
    *_, last = provider.stream(conversation, Sampling(max_new_tokens=3, seed=0))
    assert isinstance(last, Finished)
    return last.text


def running(provider: ModelProvider) -> ModelProvider:
    provider.wait()
    return provider


# --- the first model --------------------------------------------------------------------------------------------------


def test_whoever_asks_while_it_is_fetched_sees_how_far_it_is_and_is_answered() -> None:
    first = gate()
    first.open.clear()
    provider = provider_of({BUILT_IN: first}, BUILT_IN)
    assert first.reported.wait(PATIENCE_S)
    at(provider, "downloading")
    assert not provider.is_ready and provider.card.name == BUILT_IN
    assert (provider.device, provider.dtype, provider.memory_bytes) == (PENDING, PENDING, None)
    events = provider.stream(HELLO)
    assert next(events) == Progress("downloading", 3 * 2**30, 12 * 2**30)
    first.open.set()
    *_, last = events
    assert isinstance(last, Finished) and last.text == BUILT_IN
    assert ended(provider) == "done" and provider.device == first.make().device


def test_a_first_model_that_cannot_be_loaded_says_why_to_everybody_until_another_is_chosen() -> None:
    provider = provider_of({BUILT_IN: gate(refusal=TOO_SMALL), OTHER: gate(OTHER)}, BUILT_IN)
    with pytest.raises(HardwareError, match=r"17\.1 GiB"):
        provider.wait()
    for _ in range(2):
        with pytest.raises(HardwareError, match=r"17\.1 GiB"):
            list(provider.stream(HELLO))
    assert provider.failure and not provider.is_ready and provider.requested is None
    assert provider.switch(OTHER)
    assert answer(provider) == OTHER and provider.failure is None


@pytest.mark.parametrize(("text", "reason"), [("oops", "oops"), ("", "ZeroDivisionError")])
def test_an_unexpected_failure_is_one_line_too(text: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    provider = provider_of({BUILT_IN: gate(breaks=[ZeroDivisionError(text)])}, BUILT_IN)
    with pytest.raises(CheckpointError, match=rf"^Built-in model could not be loaded: {reason}\."):
        list(provider.stream(HELLO))
    assert "ZeroDivisionError" in caplog.text


def test_an_unknown_first_model_is_said_at_once() -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean"):
        provider_of({}, "bilt-in")


def test_the_end_of_the_program_ends_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    first = gate()
    first.open.clear()
    provider = provider_of({BUILT_IN: first}, BUILT_IN)
    at(provider, "downloading")
    monkeypatch.setattr(providing, "STOP_S", PATIENCE_S)
    provider.stop()
    assert not provider.is_changing and not first.loaded
    with pytest.raises(SwitchError, match="resumes it"):
        provider.wait()


def test_the_first_model_is_warmed_up_and_can_be_asked_meanwhile(
    make_engine: Callable[..., LocalEngine], question: Conversation
) -> None:
    engine = make_engine(max_new_tokens=400)  # a whole answer would take 40 seconds
    with watched(engine, pause_s=0.1) as passes, saying(engine, [5] * engine.card.max_new_tokens):
        provider = provider_of({BUILT_IN: Gate(lambda: engine)}, BUILT_IN)
        provider.wait()
        wait_until(lambda: passes.count)
        assert answer(provider, question)
        wait_until(lambda: not engine.scheduler.count)
    assert passes.count < engine.card.max_new_tokens, "a whole answer was generated for nobody"


def test_a_first_model_whose_warm_up_fails_is_left_to_the_first_answer(
    engine: LocalEngine, question: Conversation
) -> None:
    with watched(engine, fail_at=1) as passes:
        provider = provider_of({BUILT_IN: Gate(lambda: engine)}, BUILT_IN)
        provider.wait()
        wait_until(lambda: passes.count and not engine.scheduler.count)
    assert answer(provider, question) is not None and provider.is_ready


# --- another model ----------------------------------------------------------------------------------------------------


def test_the_old_model_answers_until_the_new_one_is_here_and_success_is_said_after_it() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER)}
    gates[OTHER].open.clear()
    provider = running(provider_of(gates, BUILT_IN))
    version = provider.version
    assert provider.switch(OTHER, "bf16", "int8")
    at(provider, "downloading")
    assert provider.change and provider.change.progress == (3 * 2**30, 12 * 2**30)
    assert provider.change.before == find(BUILT_IN) and provider.change.card == find(OTHER)
    assert answer(provider) == BUILT_IN and provider.version == version
    gates[OTHER].loads.clear()
    gates[OTHER].open.set()
    assert gates[OTHER].loading.wait(PATIENCE_S)
    assert provider.is_changing and not provider.is_ready and provider.card.name == OTHER
    events = provider.stream(HELLO)
    assert next(events) == Progress("loading"), "the question waits"
    gates[OTHER].loads.set()
    assert [event.text for event in events if isinstance(event, Finished)] == [OTHER]
    assert ended(provider) == "done" and provider.version > version
    wish, freed_bytes = gates[OTHER].wishes[0]
    assert wish == ModelRequest(OTHER, "bf16", "int8") == provider.requested
    assert freed_bytes == gates[BUILT_IN].make().memory_bytes, "the memory of the old one counts as free"


def test_the_old_model_is_gone_before_the_new_one_is_loaded(
    make_engine: Callable[..., LocalEngine], question: Conversation
) -> None:
    first = make_engine()
    engines = {"first": first}
    old, found = weakref.ref(first), []

    def second() -> LocalEngine:
        found.append(old())
        return make_engine()

    provider = running(provider_of({BUILT_IN: Gate(lambda: engines.pop("first")), OTHER: Gate(second)}, BUILT_IN))
    del first
    assert answer(provider, question) is not None
    assert provider.switch(OTHER) and ended(provider) == "done"
    assert found == [None]


class Cyclic(ScriptedEngine):
    """Refers to itself, as torch's modules with hooks do, and may fail when it is warmed up."""

    def __init__(self, name: str, fails: bool = False) -> None:
        super().__init__(lambda _: [TextDelta(name), finished(name)], find(name))
        self.itself, self.fails = self, fails

    def warm_up(self) -> None:
        if self.fails:
            raise HardwareError("out_of_memory_answering")


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected but by those who ask for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_models_in_reference_cycles_are_freed_before_another_is_loaded_and_after_a_failure() -> None:
    made: list[weakref.ref[Cyclic]] = []
    alive: list[int] = []

    def make(name: str, fails: bool = False) -> Callable[[], Cyclic]:
        def engine() -> Cyclic:
            alive.append(sum(one() is not None for one in made))
            made.append(weakref.ref(found := Cyclic(name, fails)))
            return found

        return engine

    gates = {BUILT_IN: Gate(make(BUILT_IN)), OTHER: Gate(make(OTHER, fails=True))}
    provider = running(provider_of(gates, BUILT_IN))
    assert answer(provider) == BUILT_IN
    assert provider.switch(OTHER) and ended(provider) == "restored"
    assert alive == [0, 0, 0], "one model at a time"
    assert answer(provider) == BUILT_IN


def test_what_answers_leave_in_reference_cycles_is_freed_no_matter_how_much_lives_on() -> None:
    libraries: list[list[int]] = []

    def engine() -> Cyclic:
        libraries.extend([number] for number in range(500_000))
        return Cyclic(BUILT_IN)

    provider = running(provider_of({BUILT_IN: Gate(engine)}, BUILT_IN))
    answered = Cyclic(BUILT_IN)
    gc.collect(1)  # it has been there for a while
    left = weakref.ref(answered)
    del answered
    later = [[number] for number in range(100_000)]  # a fifth more, and Python waits for a quarter
    assert left() is None
    assert provider.is_ready and libraries and later


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators give memory back by themselves")
def test_memory_between_pieces_in_use_goes_back_to_the_system() -> None:
    provider = running(provider_of({BUILT_IN: gate(), OTHER: gate(OTHER)}, BUILT_IN))
    process, kept = psutil.Process(), [b"x" * 100_000 for _ in range(3000)]
    kept = kept[::100]
    before = process.memory_info().rss
    assert provider.switch(OTHER) and ended(provider) == "done"
    assert before - process.memory_info().rss > 200 * 2**20 and kept


@pytest.mark.usefixtures("no_collection")
def test_nothing_stays_of_a_first_model_that_fails_while_it_is_loaded() -> None:
    made: list[weakref.ref[Cyclic]] = []

    def fails() -> Cyclic:
        made.append(weakref.ref(half := Cyclic(BUILT_IN)))
        raise HardwareError("out_of_memory_loading", title=half.card.title)

    provider = provider_of({BUILT_IN: Gate(fails)}, BUILT_IN)
    assert ended(provider) == "failed"
    assert [one() for one in made] == [None]


@pytest.mark.parametrize("refusal", [TOO_SMALL, CheckpointError("cannot be fetched from the hub"), OSError("oops")])
def test_what_cannot_be_fetched_changes_nothing(refusal: Exception) -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER, refusal=refusal)}
    provider = running(provider_of(gates, BUILT_IN))
    version = provider.version
    assert provider.switch(OTHER)
    assert ended(provider) == "failed"
    assert provider.change and str(refusal) in str(provider.change.failure)
    assert answer(provider) == BUILT_IN and provider.version == version and provider.failure is None
    assert gates[BUILT_IN].loaded == 1, "the old model was never let go"
    assert provider.requested == ModelRequest(BUILT_IN)
    gates[OTHER].refusal = None
    assert provider.switch(OTHER), "the next attempt is not taken for the first"
    assert ended(provider) == "done" and answer(provider) == OTHER


def test_what_cannot_be_loaded_is_followed_by_the_old_model_again() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER, breaks=[TOO_SMALL])}
    provider = running(provider_of(gates, BUILT_IN))
    gates[OTHER].loads.clear()
    assert provider.switch(OTHER)
    assert gates[OTHER].loading.wait(PATIENCE_S)
    events = provider.stream(HELLO)
    next(events)
    gates[OTHER].loads.set()
    assert [event.text for event in events if isinstance(event, Finished)] == [BUILT_IN], "who waited is answered"
    assert ended(provider) == "restored"
    assert provider.change and str(provider.change.failure) == str(TOO_SMALL)
    assert (gates[BUILT_IN].loaded, provider.card.name, provider.requested) == (2, BUILT_IN, ModelRequest(BUILT_IN))
    assert len(gates[BUILT_IN].wishes) == 1, "nothing is fetched to go back"


def test_a_model_that_does_not_answer_is_no_success(engine: LocalEngine, question: Conversation) -> None:
    gates = {BUILT_IN: gate(), OTHER: Gate(lambda: engine)}
    provider = running(provider_of(gates, BUILT_IN))
    with watched(engine, fail_at=1):
        assert provider.switch(OTHER)
        assert ended(provider) == "restored"
    assert provider.change and "the model broke" in str(provider.change.failure)
    assert answer(provider) == BUILT_IN


def test_when_even_the_old_model_does_not_come_back_another_can_be_chosen() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER, breaks=[TOO_SMALL]), THIRD: gate(THIRD)}
    provider = running(provider_of(gates, BUILT_IN))
    gates[BUILT_IN].breaks = [OSError("the disk is gone")]
    assert provider.switch(OTHER)
    assert ended(provider) == "lost"
    with pytest.raises(HardwareError, match=r"17\.1 GiB"):
        answer(provider)
    assert provider.switch(THIRD)
    assert answer(provider) == THIRD


# --- answers that are being given -------------------------------------------------------------------------------------


class Talking:
    """Says a word, then waits for the test, then says another."""

    def __init__(self, first: Event | None) -> None:
        self.first, self.go_on, self.heard = first, threading.Event(), threading.Event()

    def __call__(self, _: Conversation) -> Iterable[Event]:
        if self.first:
            yield self.first
        while not self.go_on.wait(0.02):
            self.heard.set()
            yield Progress("encoding")
        yield TextDelta(" two")
        yield finished("one two")


def asked(provider: ModelProvider) -> tuple[threading.Thread, list[Event]]:
    """Ask on a thread of its own; what is answered grows."""
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(provider.stream(HELLO)))
    thread.start()
    return thread, events


def talking(first: Event | None) -> tuple[ModelProvider, Talking]:
    script = Talking(first)
    engine = ScriptedEngine(script, find(BUILT_IN))
    return running(provider_of({BUILT_IN: Gate(lambda: engine), OTHER: gate(OTHER)}, BUILT_IN)), script


def test_an_answer_ends_before_its_model_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providing, "FINISH_S", PATIENCE_S)
    provider, script = talking(TextDelta("one"))
    thread, events = asked(provider)
    assert script.heard.wait(PATIENCE_S)
    assert provider.switch(OTHER)
    at(provider, "ending")
    waiting = provider.stream(HELLO)
    assert next(waiting) == Progress("loading"), "a new question is not answered by the model that leaves"
    assert provider.card.name == BUILT_IN and provider.is_changing
    script.go_on.set()
    thread.join()
    assert isinstance(events[-1], Finished) and (events[-1].text, events[-1].reason) == ("one two", "end")
    assert [event.text for event in waiting if isinstance(event, Finished)] == [OTHER]


@pytest.mark.parametrize("first", [TextDelta("one"), Preview("one")])
def test_an_answer_without_end_is_cut_off_and_told_so(first: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providing, "FINISH_S", 0.1)
    provider, script = talking(first)
    thread, events = asked(provider)
    assert script.heard.wait(PATIENCE_S)
    assert provider.switch(OTHER)
    assert ended(provider) == "done"
    thread.join()
    assert isinstance(events[-1], Finished) and (events[-1].text, events[-1].reason) == ("one", "switched")


def test_a_question_without_a_word_of_answer_is_answered_by_the_next_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providing, "FINISH_S", 0.1)
    provider, script = talking(None)
    thread, events = asked(provider)
    assert script.heard.wait(PATIENCE_S)
    assert provider.switch(OTHER)
    thread.join()
    assert isinstance(events[-1], Finished) and (events[-1].text, events[-1].reason) == (OTHER, "end")


def test_where_answers_do_not_end_the_old_model_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providing, "FINISH_S", 0.05)
    monkeypatch.setattr(providing, "LEAVE_S", 0.05)
    provider, _ = talking(TextDelta("one"))
    events = provider.stream(HELLO)
    next(events)  # and nobody asks for the next
    assert provider.switch(OTHER)
    assert ended(provider) == "failed"
    assert provider.change and "did not end" in str(provider.change.failure)
    assert provider.card.name == BUILT_IN and provider.is_ready
    events.close()
    assert provider.switch(OTHER) and ended(provider) == "done"


# --- more than one who chooses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "dtype", "says"),
    [
        ([OTHER], "auto", "There is no model"),
        (None, "auto", "There is no model"),
        ({"name": OTHER}, "auto", "There is no model"),
        ("/etc", "auto", "There is no model '/etc' to choose here"),
        ("somebody/model", "auto", "There is no model"),
        ("x" * 10_000, "auto", "There is no model"),
        (OTHER, "fp64", "Unknown dtype 'fp64': expected auto, bf16"),
        (OTHER, ["bf16"], "Unknown dtype"),
        (OTHER, None, "Unknown dtype"),
    ],
)
def test_a_wish_that_makes_no_sense_changes_nothing(model: object, dtype: object, says: str) -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER)}
    provider = running(provider_of(gates, BUILT_IN))
    change = provider.change
    with pytest.raises(SwitchError, match=says) as error:
        provider.switch(model, dtype)
    assert len(str(error.value)) < 200
    assert provider.change is change and not gates[OTHER].wishes
    assert answer(provider) == BUILT_IN


def test_a_second_wish_waits_for_its_turn_and_the_same_one_is_one() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER), THIRD: gate(THIRD)}
    gates[OTHER].open.clear()
    provider = running(provider_of(gates, BUILT_IN))
    assert not provider.switch(BUILT_IN), "it answers already"
    assert provider.switch(OTHER)
    assert not provider.switch(OTHER)
    with pytest.raises(SwitchError, match=r"MiniCPM-V 2\.6 is on its way already: .* cancel it first"):
        provider.switch(THIRD)
    with pytest.raises(SwitchError, match="on its way already"):
        provider.switch(OTHER, "int8")
    gates[OTHER].open.set()
    assert ended(provider) == "done" and len(gates[OTHER].wishes) == 1
    assert provider.switch(OTHER, "int8"), "the same model in another dtype is another wish"
    assert ended(provider) == "done" and provider.requested == ModelRequest(OTHER, "int8")


def test_a_download_can_be_cancelled_and_a_loading_cannot() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER), THIRD: gate(THIRD)}
    gates[OTHER].open.clear()
    provider = running(provider_of(gates, BUILT_IN))
    assert not provider.cancel(), "there is nothing to cancel"
    assert provider.switch(OTHER)
    at(provider, "downloading")
    assert provider.cancel()
    assert ended(provider) == "cancelled"
    assert answer(provider) == BUILT_IN and gates[BUILT_IN].loaded == 1
    gates[THIRD].loads.clear()
    assert provider.switch(THIRD)
    assert gates[THIRD].loading.wait(PATIENCE_S)
    assert not provider.cancel()
    gates[THIRD].loads.set()
    assert ended(provider) == "done" and answer(provider) == THIRD


def test_cancelled_when_the_last_byte_came_is_cancelled() -> None:
    gates = {BUILT_IN: gate(), OTHER: gate(OTHER)}
    provider = running(provider_of(gates, BUILT_IN))
    whole = gates[OTHER].prepare

    def late(*arguments: object) -> Gate:
        ready = whole(*arguments)  # type: ignore[arg-type]
        assert provider.cancel()
        return ready

    gates[OTHER].prepare = late  # type: ignore[method-assign]
    assert provider.switch(OTHER)
    assert ended(provider) == "cancelled" and not gates[OTHER].loaded and answer(provider) == BUILT_IN


def test_the_model_and_its_change_are_changed_under_the_lock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    warmed, engine = threading.Event(), ScriptedEngine()
    engine.warm_up = warmed.set  # type: ignore[attr-defined]
    gates = {BUILT_IN: Gate(lambda: engine), OTHER: gate(OTHER)}
    gates[OTHER].open.clear()
    provider = provider_of(gates)
    is_held = provider._changed._is_owned  # type: ignore[attr-defined]
    provider._answers, of_answers = guarded(provider._answers, is_held)
    cancelled = guarded_calls(monkeypatch, provider._cancelled, "set", is_held)
    of_provider = guarded_attributes(provider, is_held, "change", "version", "_engine", "_loaded", "_waits")
    provider.begin(ModelRequest(BUILT_IN))
    assert answer(running(provider)) and warmed.wait(PATIENCE_S)
    assert provider.switch(OTHER)
    at(provider, "downloading")
    assert provider.cancel() and ended(provider) == "cancelled"
    gates[OTHER].open.set()
    assert provider.switch(OTHER) and ended(provider) == "done" and answer(provider) == OTHER
    assert (of_answers, of_provider, cancelled) == ([], [], [True])


def test_a_page_whose_engine_was_given_keeps_it() -> None:
    provider = ModelProvider.holding(ScriptedEngine())
    assert provider.is_ready and not provider.is_changing and provider.change is None
    assert answer(provider) == "Hello"
    with pytest.raises(SwitchError, match="no model"):
        provider.switch(OTHER)
