"""Reused = recomputed: with what is cached of earlier turns, every model answers as it does without.

Every test goes through `anew`: one engine that caches and one that does not answer the same, and the first has
read only what the test says it had to; in `again` it has reused something, so that the two are not computed alike.
Three scenarios are tried with every architecture, ours also as on a GPU; the rest with one of each backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from omnilmm.conversation import Conversation, Message, Part, Picture
from omnilmm.engine.backends.base import Request
from omnilmm.engine.backends.native import NativeBackend
from omnilmm.engine.backends.transformers_backend import TransformersBackend
from omnilmm.engine.caches.prefix import common_length
from omnilmm.engine.events import Finished, Preview, TextDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Options, Sampling
from omnilmm.hardware import Choice
from omnilmm.models.library import load_processor
from tests.engine.conftest import CARD, saying, watched
from tests.models.tiny import VERSIONS, save_tiny
from tests.models.tiny_library import MODELS, save_library_model

ME = "me"
SEVERAL = {"2.5", "2.6", *MODELS}  # the others take one picture
EITHER = ("2.6", "minicpm-v-4.6")
MODES: dict[str, Options] = {
    "sampling": Sampling(temperature=1.5, top_p=1.0, seed=3, max_new_tokens=8),
    "greedy": Sampling(top_k=1, seed=0, max_new_tokens=8),
    "beam": BeamSearch(max_new_tokens=8),
}
# As on a GPU the next pass begins before the last token was read, and keys and values may have a fixed length; only
# that nothing is recorded here.
DEVICES = {"in step": (False, 0), "begun ahead": (True, 0), "in a slot": (True, 1)}
NATIVE = (*VERSIONS, "omnilmm")
CASES = [*((name, device) for name in NATIVE for device in DEVICES), *((name, "in step") for name in MODELS)]
RED, WIDE, STRIP = (
    Picture(Image.radial_gradient("L").resize(size).convert("RGB")) for size in ((60, 40), (190, 60), (4, 700))
)


@dataclass
class Twins:
    """The same model twice.

    Attributes:
        name: of the architecture.
        engine: caches features and prefixes.
        forgetful: caches nothing.
    """

    name: str
    engine: LocalEngine
    forgetful: LocalEngine

    @property
    def is_ours(self) -> bool:
        return isinstance(self.engine.backend, NativeBackend)

    def shown(self, conversation: Conversation) -> int:
        """Tokens of a prompt to the end of its last picture: what is kept of the library's models."""
        backend = self.engine.backend
        assert isinstance(backend, TransformersBackend)
        ids = backend.inputs(conversation)["input_ids"][0].tolist()
        end = 1 + max(place for place, token in enumerate(ids) if token in backend.picture_ids)
        return next(place for place in range(end, len(ids)) if ids[place] not in backend.suppressed_ids)

    def anew(self, conversation: Conversation, options: Options) -> Finished:
        """The answer of both, to the token, and all of the prompt is counted by both."""
        reused, recomputed = (
            finished(self.engine, conversation, options),
            finished(self.forgetful, conversation, options),
        )
        assert reused.text == recomputed.text
        assert reused.usage.new_tokens == recomputed.usage.new_tokens
        assert recomputed.usage.reused == 0
        for kind in ("text_tokens", "picture_tokens"):
            assert getattr(reused.usage, kind) == getattr(recomputed.usage, kind)
        if isinstance(backend := self.engine.backend, NativeBackend):
            assert not backend.static_slots.taken, "a slot was not given back"
        return reused

    def again(self, conversation: Conversation, options: Options) -> Finished:
        """As `anew`, where something is reused."""
        found = self.anew(conversation, options)
        assert found.usage.reused
        return found

    def common(self, before: Conversation, after: Conversation) -> int:
        """How many tokens two prompts begin with alike, the last of each left out; pictures count as such."""
        if not self.is_ours:
            return self.shown(after)
        pair = (self.engine.processor.prompt(conversation).input_ids[:-1] for conversation in (before, after))
        return common_length(*pair)


def finished(engine: LocalEngine, conversation: Conversation, options: Options) -> Finished:
    *_, last = engine.stream(conversation, options, ME)
    assert isinstance(last, Finished)
    return last


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """Model and processor of a name, each loaded once from its folder."""
    folder, found = tmp_path_factory.mktemp("reuse"), {}

    def load(name: str) -> tuple[Any, Any]:
        if name not in found:
            save = save_library_model if name in MODELS else save_tiny
            path = save(folder / name, name)
            found[name] = AutoModelForImageTextToText.from_pretrained(path).eval(), load_processor(path)
        return found[name]

    return load


def twins_of(name: str, loaded: Callable[[str], tuple[Any, Any]], device: str = "in step", **card: Any) -> Twins:
    several = {"several_pictures": name in SEVERAL, "system_prompt": name in SEVERAL, "context": 2000}
    given = (*loaded(name), CARD.model_copy(update=several | card), Choice("cpu", "test"), Choice("fp32", "test"))
    twins = Twins(name, LocalEngine(*given), LocalEngine(*given, feature_bytes=0, prefix_bytes=0))
    if isinstance(backend := twins.engine.backend, NativeBackend):
        backend.works_ahead, backend.static_slots.most = DEVICES[device]
    return twins


@pytest.fixture(params=CASES, ids=" ".join)
def twins(request: pytest.FixtureRequest, loaded: Callable[[str], tuple[Any, Any]]) -> Twins:
    """Every architecture in turn, on every kind of device."""
    return twins_of(request.param[0], loaded, request.param[1])


@pytest.fixture(params=EITHER, ids=["native", "of transformers"])
def either(request: pytest.FixtureRequest, loaded: Callable[[str], tuple[Any, Any]]) -> Twins:
    """One architecture of each backend, where all of a backend go the same way."""
    return twins_of(request.param, loaded)


@pytest.fixture(params=MODES)
def options(request: pytest.FixtureRequest) -> Options:
    return MODES[request.param]


def talk(*parts: Part) -> Conversation:
    return Conversation().with_message("user", *parts)


def test_a_further_question_in_every_mode(twins: Twins) -> None:
    """Each mode goes on from what each other has left."""
    conversation = talk(RED, "What is it?")
    said = twins.anew(conversation, MODES["sampling"]).text
    for mode in ("beam", "beam", "greedy", "sampling"):
        before = conversation
        conversation = before.with_message("assistant", said).with_message("user", "And where?")
        again = twins.again(conversation, MODES[mode])
        assert again.usage.reused >= twins.common(before, conversation)
        said = again.text


def test_words_alone(either: Twins, options: Options) -> None:
    first = talk("Hello!")
    said = either.anew(first, options).text
    again = either.anew(first.with_message("assistant", said).with_message("user", "And now?"), options)
    assert bool(again.usage.reused) == either.is_ours, "of the library's models only pictures are cached"


def test_regenerate_reads_one_token(twins: Twins) -> None:
    """Also with another mode than before, and with another seed."""
    question = talk(WIDE, "What is it?")
    twins.anew(question, MODES["beam"])
    for other in (*MODES.values(), Sampling(1.5, 1.0, seed=9, max_new_tokens=8)):
        usage = twins.anew(question, other).usage
        whole = usage.text_tokens + usage.picture_tokens
        assert usage.reused == (whole - 1 if twins.is_ours else twins.shown(question))


def test_an_edited_question_is_read_from_where_it_differs(either: Twins, options: Options) -> None:
    first = talk(RED, "What is it?")
    said = either.anew(first, options).text
    asked = first.with_message("assistant", said).with_message("user", "Where is it?")
    either.again(asked, options)
    edited = first.with_message("assistant", said).with_message("user", "Where was it?")
    assert either.again(edited, options).usage.reused >= either.common(first, edited)
    other = talk(RED, "What was it?")
    assert either.again(other, options).usage.reused == either.common(first, other)


def test_undo_and_another_question(either: Twins, options: Options) -> None:
    first = talk(RED, "What is it?")
    said = either.anew(first, options).text
    second = first.with_message("assistant", said).with_message("user", "And where?")
    either.again(second.with_message("assistant", "There.").with_message("user", "Sure?"), options)
    either.again(second, options)


def test_another_picture_is_not_taken_for_the_same(either: Twins, options: Options) -> None:
    """Same words, same number of slots: only what is in the picture differs."""
    other = Picture(Image.new("RGB", RED.image.size, "blue"))
    question = talk(RED, "What is it?")
    either.anew(question, options)
    reused = either.anew(talk(other, "What is it?"), options).usage.reused
    assert reused == (either.engine.processor.prompt(question).image_slots.index(True) if either.is_ours else 0)


@pytest.mark.parametrize("name", ["2.5", *EITHER])
def test_a_further_picture(name: str, loaded: Callable[[str], tuple[Any, Any]], options: Options) -> None:
    twins = twins_of(name, loaded)
    first = talk(RED, "What is it?")
    said = twins.anew(first, options).text
    second = first.with_message("assistant", said).with_message("user", WIDE, RED, "And these?")
    twins.anew(second, options)
    third = second.with_message("assistant", "Red.").with_message("user", STRIP, "And this?")
    end = twins.anew(third, options)
    if twins.name == "2.6":
        assert end.usage.reused >= twins.common(second, third)
    if twins.name == "2.5":  # a longer slice changes the features of all others
        assert end.usage.reused == twins.engine.processor.prompt(third).image_slots.index(True)


@pytest.mark.parametrize(
    ("twins", "mode"),
    [*((case, "sampling") for case in CASES), *((case, "beam") for case in CASES if case[1] == "in step")],
    indirect=["twins"],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_after_stop(twins: Twins, mode: str) -> None:
    question, options = talk(RED, "What is it?"), MODES[mode]
    stream = twins.engine.stream(question, replace(options, max_new_tokens=300), ME)
    said = ""
    for event in stream:
        if isinstance(event, TextDelta | Preview):
            said = said + event.text if isinstance(event, TextDelta) else event.text
            if len(said) > 2:
                break
    stream.close()
    twins.again(question.with_message("assistant", said).with_message("user", "Go on."), options)
    twins.again(question, options)


def test_after_stop_while_reading(either: Twins, options: Options) -> None:
    question = talk(WIDE, "What is it?")
    for events in range(1, 4):
        stream = either.engine.stream(question, options, ME)
        for _ in range(events):
            next(stream)
        stream.close()
        either.anew(question, options)


@pytest.mark.parametrize("fail_at", [1, 3])
def test_after_a_failure(either: Twins, options: Options, fail_at: int) -> None:
    question = talk(RED, "What is it?")
    said = either.anew(question, options).text
    second = question.with_message("assistant", said).with_message("user", "And where?")
    with watched(either.engine, fail_at=fail_at), pytest.raises(RuntimeError, match="the model broke"):
        list(either.engine.stream(second, options, ME))
    either.anew(second, options)
    either.again(second, options)


def test_after_a_failure_between_two_layers(loaded: Callable[[str], tuple[Any, Any]], options: Options) -> None:
    """The first layer has read more than the second."""
    twins = twins_of("2.6", loaded)
    question = talk(RED, "What is it?")
    said = twins.anew(question, options).text
    second = question.with_message("assistant", said).with_message("user", "And where?")

    def fail(*_: Any) -> None:
        raise RuntimeError("the model broke")

    handle = twins.engine.model.get_decoder().layers[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the model broke"):
        list(twins.engine.stream(second, options, ME))
    handle.remove()
    assert twins.anew(second, options).usage.reused == 0


@pytest.mark.parametrize("name", EITHER)
def test_after_the_oldest_turns_were_dropped(
    name: str, loaded: Callable[[str], tuple[Any, Any]], options: Options
) -> None:
    room = twins_of(name, loaded).engine.backend.length(talk(RED, "And what else is there to be seen?")) + 150
    twins = twins_of(name, loaded, context=room)
    conversation, dropped, reused = talk(RED, "What is it?"), 0, []
    for _ in range(5):
        said = twins.anew(conversation, options)
        dropped, reused = said.dropped_messages, [*reused, said.usage.reused]
        conversation = conversation.with_message("assistant", "It is a red one. " * 2)
        conversation = conversation.with_message("user", "And what else is there to be seen?")
    assert dropped and all(reused[1:])


def test_a_system_prompt_changes_the_beginning(either: Twins, options: Options) -> None:
    question = talk(RED, "What is it?")
    either.anew(question, options)
    ruled = Conversation(question.messages, system="Be short.")
    assert either.anew(ruled, options).usage.reused == (either.common(question, ruled) if either.is_ours else 0)


def test_what_is_read_in_parts_is_read_the_same(
    either: Twins, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = talk(RED, "What is it, and what else do you see in this picture?")
    whole = finished(either.forgetful, question, options)
    monkeypatch.setattr("omnilmm.engine.backends.native.PREFILL_TOKENS", 7)
    parts = finished(either.forgetful, question, options)
    assert (parts.text, parts.usage) == (whole.text, whole.usage)
    said = either.anew(question, options).text
    either.again(question.with_message("assistant", said).with_message("user", "Where?"), options)


@torch.inference_mode()
def test_stopped_anywhere_in_a_prompt(either: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a picture's slots too."""
    question, options, reused = talk(WIDE, "What is it?"), MODES["greedy"], []
    for steps in range(1, 10):
        with monkeypatch.context() as patch:
            patch.setattr("omnilmm.engine.backends.native.PREFILL_TOKENS", 7)
            answer = either.engine.backend.generate(Request(question, options, 0, ME))
            for _ in range(steps):
                next(answer)
            answer.close()
        reused.append(either.anew(question, options).usage.reused)
        either.engine.forget(ME)
    assert not reused[0] and reused[-1] and reused == sorted(reused)


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "begun ahead"])
def test_an_answer_is_not_read_again(
    loaded: Callable[[str], tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    """`ahead` is as on a GPU, where the next pass begins before the last token has been read."""
    twins = twins_of("2.6", loaded)
    monkeypatch.setattr(twins.engine.backend, "works_ahead", ahead)
    question = talk(RED, "What is it?")
    ids = twins.engine.processor.tokenizer("Red.", add_special_tokens=False)["input_ids"]
    with saying(twins.engine, ids):
        assert finished(twins.engine, question, MODES["sampling"]).text == "Red."
    second = question.with_message("assistant", "Red.").with_message("user", "Where?")
    assert twins.anew(second, MODES["sampling"]).usage.reused == twins.engine.backend.length(question) + len(ids)


@pytest.mark.parametrize("name", ["omnilmm", "2.6"])
def test_how_many_tokens_are_heard_together_changes_nothing(
    name: str, loaded: Callable[[str], tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights say random bytes: mostly no valid text."""
    twins, found = twins_of(name, loaded), []
    for gather_s in (0, 0.1):
        monkeypatch.setattr("omnilmm.engine.generation.GATHER_S", gather_s)
        seeds = (Sampling(2.0, 1.0, 200, seed=seed, max_new_tokens=30) for seed in range(6))
        found.append([finished(twins.engine, talk("Hello!"), options).text for options in seeds])
    assert found[0] == found[1]


def test_several_owners_at_once_keep_to_themselves(either: Twins) -> None:
    """Interleaved token by token, each with turns of their own."""
    first = [talk(picture, f"What is it, {number}?") for number, picture in enumerate((RED, WIDE, RED))]
    options = [*MODES.values()]
    expected: list[list[str]] = []
    for question, each in zip(first, options, strict=True):
        said = finished(either.forgetful, question, each).text
        again = question.with_message("assistant", said).with_message("user", "Where?")
        expected.append([said, finished(either.forgetful, again, each).text])
    found: dict[int, list[str]] = {}
    reused: list[int] = []

    def ask(number: int) -> None:
        conversation, said = first[number], []
        for _ in range(2):
            *_, last = either.engine.stream(conversation, options[number], f"owner {number}")
            assert isinstance(last, Finished)
            said.append(last.text)
            reused.append(last.usage.reused)
            conversation = conversation.with_message("assistant", last.text).with_message("user", "Where?")
        found[number] = said

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[number] for number in range(3)] == expected and sum(map(bool, reused)) == 3


def test_without_an_owner_nothing_is_kept_and_who_leaves_is_forgotten(either: Twins) -> None:
    question, options = talk(RED, "What is it?"), MODES["greedy"]
    list(either.engine.stream(question, options))
    assert either.anew(question, options).usage.reused == 0
    either.engine.forget(ME)
    assert either.anew(question, options).usage.reused == 0
    list(either.engine.stream(question, options, "you"))
    *_, last = either.engine.stream(question, options, "somebody else")
    assert isinstance(last, Finished) and last.usage.reused == 0


def test_too_little_memory_gives_up_what_is_kept_and_begins_anew(
    loaded: Callable[[str], tuple[Any, Any]],
) -> None:
    twins = twins_of("2.6", loaded)
    question, options = talk(WIDE, "What is it?"), MODES["sampling"]
    expected = twins.anew(question, options).text
    second = talk(WIDE, "What else?")
    wanted = finished(twins.forgetful, second, options).text
    with watched(twins.engine, fail_at=1, error=torch.OutOfMemoryError("CUDA out of memory")) as passes:
        *_, last = twins.engine.stream(second, options, "you")
        assert isinstance(last, Finished) and last.text == wanted and passes.count > 1
    assert twins.anew(question, options).text == expected
    usage = finished(twins.engine, question, options).usage
    assert usage.reused == usage.text_tokens + usage.picture_tokens - 1


def test_pictures_of_a_cached_prefix_are_not_encoded_again(loaded: Callable[[str], tuple[Any, Any]]) -> None:
    """Not even their cached features are needed."""
    twins = twins_of("2.6", loaded)
    question = talk(WIDE, "What is it?")
    twins.anew(question, MODES["greedy"])
    backend = twins.engine.backend
    assert isinstance(backend, NativeBackend)
    before = (backend.image_encoder.cache.hits, backend.image_encoder.cache.misses)
    twins.anew(question.with_message("assistant", "Red.").with_message("user", "Where?"), MODES["greedy"])
    assert (backend.image_encoder.cache.hits, backend.image_encoder.cache.misses) == before


def test_another_turn_from_a_message_on(either: Twins) -> None:
    """A conversation that begins as another one in the middle of a picture's slots, or of a word."""
    options = MODES["greedy"]
    either.anew(Conversation((Message("user", (WIDE, "abcdef")),)), options)
    either.anew(Conversation((Message("user", (WIDE, "abcxyz")),)), options)
    either.anew(Conversation((Message("user", ("abc",)),)), options)
