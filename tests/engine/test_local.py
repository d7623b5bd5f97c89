"""The engine on a real, random model: events, stopping, waiting, failing, seeds."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
import torch
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta
from omnilmm.engine.local import LocalEngine, generate_arguments
from omnilmm.engine.options import BeamSearch, Greedy, Options, Sampling
from omnilmm.engine.placement.estimate import cache_bytes
from omnilmm.errors import ContextLengthError, HardwareError, InputError
from tests.engine.conftest import heard, is_left, saying, watched
from tests.waiting import wait_until

SAMPLING = Sampling(temperature=1.5, top_p=1.0, seed=1, max_new_tokens=12)
BEAM = BeamSearch(max_new_tokens=12)
MANY = {"sampling": Sampling(temperature=1.5, seed=1, max_new_tokens=300), "beam": BeamSearch(max_new_tokens=300)}
both_modes = pytest.mark.parametrize("options", [SAMPLING, BEAM], ids=["sampling", "beam"])
both_modes_long = pytest.mark.parametrize("options", MANY.values(), ids=MANY)


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def answer(engine: LocalEngine, conversation: Conversation, options: Options | None = None) -> str:
    return finished(list(engine.stream(conversation, options))).text


def until_it_speaks(stream: Any) -> None:
    """Take events up to the first delta or preview."""
    assert any(isinstance(event, TextDelta | Preview) for event in stream)


def is_free(engine: LocalEngine) -> bool:
    """Nobody runs or waits, and no `generate` is left standing in its thread."""
    return not engine.scheduler.count and not any(thread.name == "generate" for thread in threading.enumerate())


# What an answer is


@both_modes
def test_events_come_in_order(
    engine: LocalEngine, question: Conversation, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilmm.engine.generation.HEARTBEAT_S", 60)  # else it says between slow words how far it is
    kinds = [type(event) for event in engine.stream(question, options)]
    spoken = Preview if isinstance(options, BeamSearch) else TextDelta
    assert [kind for kind, _ in itertools.groupby(kinds)] == [Progress, spoken, Finished]
    assert kinds.count(Finished) == 1


@both_modes
def test_before_the_first_word_it_says_how_far_it_is(
    engine: LocalEngine, question: Conversation, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which picture of those that are new, and how much of what is not known from earlier turns is read."""
    monkeypatch.setattr("omnilmm.engine.backends.native.PREFILL_TOKENS", 8)
    monkeypatch.setattr("omnilmm.engine.generation.HEARTBEAT_S", 60)  # nothing is said twice
    blue, red = Picture(Image.new("RGB", (40, 60), "blue")), question.pictures[0]
    asked = Conversation().with_message("user", red, blue, red, "Which?")

    def progress(conversation: Conversation, stage: str) -> list[tuple[int, int]]:
        events = list(engine.stream(conversation, options, "me"))
        return [(event.done, event.total) for event in events if isinstance(event, Progress) and event.stage == stage]

    tokens = engine.backend.length(asked)
    assert progress(asked, "encoding") == [(0, 3), (1, 2), (2, 2)]
    engine.forget("me")
    end = [(tokens - 1, tokens)] if isinstance(options, BeamSearch) else []  # `generate` reads the last one itself
    assert progress(asked, "prefill") == [(done, tokens) for done in range(0, tokens - 1, 8)] + end
    more = asked.with_message("assistant", "Red.").with_message("user", "And what else do you see?")
    assert progress(more, "encoding") == [(0, 0)]
    engine.forget("me")
    list(engine.stream(asked, options, "me"))
    (begun, left), *_ = progress(more, "prefill")
    assert begun == 0 and 0 < left < engine.backend.length(more) - tokens + 12


@both_modes
def test_words_come_with_the_number_of_tokens_so_far(
    engine: LocalEngine, question: Conversation, options: Options
) -> None:
    events = list(engine.stream(question, options))
    counts = [event.new_tokens for event in events if isinstance(event, TextDelta | Preview)]
    assert counts[0] >= 1 and counts[-1] == finished(events).usage.new_tokens
    if isinstance(options, BeamSearch):
        counts.pop()  # the winner may be shorter than the best candidate of the last step
    assert counts == sorted(counts)


@pytest.mark.parametrize("seed", range(8))
def test_joined_deltas_are_the_answer(engine: LocalEngine, question: Conversation, seed: int) -> None:
    """Random weights say random bytes: mostly no valid text."""
    events = list(engine.stream(question, Sampling(2.0, 1.0, 200, seed=seed, max_new_tokens=40)))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == finished(events).text


def test_an_answer_is_the_text_of_what_generate_gives(engine: LocalEngine, question: Conversation) -> None:
    inputs = engine.processor.inputs(question)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        output = engine.model.generate(**inputs, **generate_arguments(SAMPLING, engine.processor.stop_ids))
    assert answer(engine, question, SAMPLING) == text_of(engine, output[0].tolist())


def test_temperature_0_is_generate_without_sampling(engine: LocalEngine, question: Conversation) -> None:
    before = torch.get_rng_state()
    said = {answer(engine, question, Sampling(0, 0.5, 3, 1.2, seed, max_new_tokens=40)) for seed in (None, 1, 2)}
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn, not even a seed
    inputs, ends = engine.processor.inputs(question), engine.processor.stop_ids
    plain = {"do_sample": False, "repetition_penalty": 1.2, "max_new_tokens": 40, "eos_token_id": ends}
    assert said == {text_of(engine, engine.model.generate(**inputs, **plain, pad_token_id=ends[0])[0].tolist())}
    assert said == {answer(engine, question, Greedy(1.2, max_new_tokens=40))}
    assert said != {answer(engine, question, Greedy(max_new_tokens=40))}


def test_previews_end_with_the_winner_that_generate_gives(engine: LocalEngine, question: Conversation) -> None:
    events = heard(engine, question, BEAM)
    previews = [event.text for event in events if isinstance(event, Preview)]
    output = engine.model.generate(
        **engine.processor.inputs(question), **generate_arguments(BEAM, engine.processor.stop_ids)
    )
    assert finished(events).text == text_of(engine, output[0].tolist())
    assert len(previews) >= 2 and len(set(previews)) > 1


def text_of(engine: LocalEngine, ids: list[int]) -> str:
    """Up to the first end token, nothing skipped."""
    spoken = list(itertools.takewhile(lambda token: token not in engine.processor.stop_ids, ids))
    return str(engine.processor.tokenizer.decode(spoken, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@both_modes
@pytest.mark.parametrize("text", ["Hi! A red circle .", "图中有一只猫！🙂", "!", " \n a ", "<box>1</box>"])
def test_what_the_model_says_arrives_unchanged(
    engine: LocalEngine, question: Conversation, options: Options, text: str
) -> None:
    """Token 0 ("!") does not vanish, spaces stay, no character is broken, stream and answer agree."""
    ids = list(engine.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
    options = type(options)(max_new_tokens=60)
    with saying(engine, ids):
        events = list(engine.stream(question, options))
    assert finished(events).text == text and finished(events).reason == "end"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) in ("", text)
    assert not any("\N{REPLACEMENT CHARACTER}" in event.text for event in events if isinstance(event, TextDelta))


@both_modes
def test_an_answer_may_be_empty(engine: LocalEngine, question: Conversation, options: Options) -> None:
    with saying(engine, []):
        end = finished(list(engine.stream(question, options)))
    assert (end.text, end.reason, end.usage.new_tokens) == ("", "end", 1)


@both_modes
def test_reason_and_usage_are_counted(engine: LocalEngine, question: Conversation, options: Options) -> None:
    with saying(engine, [5, 6, 7]):
        end = finished(list(engine.stream(question, options)))
    prompt = engine.processor.prompt(question)
    assert end.reason == "end" and end.usage.new_tokens == 4  # with its end token
    assert end.usage.picture_tokens == sum(prompt.image_slots) == 4
    assert end.usage.text_tokens + end.usage.picture_tokens == len(prompt)
    with saying(engine, [5] * 50):
        end = finished(list(engine.stream(question, options)))
    assert end.reason == "length" and end.usage.new_tokens == 12
    assert 0 <= end.timings.first_token_s <= end.timings.total_s and end.dropped_messages == 0


@both_modes
def test_an_end_exactly_at_the_limit_is_an_end(engine: LocalEngine, question: Conversation, options: Options) -> None:
    with saying(engine, [5] * 11):
        assert finished(list(engine.stream(question, options))).reason == "end"


def test_options_default_to_the_models_own(engine: LocalEngine, question: Conversation) -> None:
    with saying(engine, [5] * 100):
        assert finished(list(engine.stream(question))).usage.new_tokens == engine.card.max_new_tokens


def test_a_second_turn_and_several_pictures_are_answered(engine: LocalEngine, question: Conversation) -> None:
    again = question.with_message("assistant", "Red.").with_message("user", *question.pictures, "And this?")
    end = finished(list(engine.stream(again, SAMPLING)))
    assert end.usage.picture_tokens == 8


# Seeds


def test_same_seed_same_answer(engine: LocalEngine, question: Conversation) -> None:
    seeded = [Sampling(temperature=1.5, seed=seed, max_new_tokens=12) for seed in (1, 2, 3)]
    first, second = ([answer(engine, question, options) for options in seeded] for _ in range(2))
    assert first == second and len(set(first)) > 1


def test_without_a_seed_torchs_own_counts(engine: LocalEngine, question: Conversation) -> None:
    free = Sampling(temperature=1.5, max_new_tokens=12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = answer(engine, question, free), answer(engine, question, free)
        torch.manual_seed(0)
        assert (answer(engine, question, free), answer(engine, question, free)) == (first, second)
    assert first != second


@both_modes
def test_the_callers_random_numbers_are_left_alone(
    engine: LocalEngine, question: Conversation, options: Options
) -> None:
    state = torch.random.get_rng_state()
    answer(engine, question, options)
    assert torch.equal(torch.random.get_rng_state(), state)


# Stopping


@both_modes_long
def test_closing_stops_within_one_token(engine: LocalEngine, question: Conversation, options: Options) -> None:
    with watched(engine, most=9) as passes:
        stream = engine.stream(question, options)
        until_it_speaks(stream)
        wait_until(lambda: passes.count == 10)  # in the midst of which it is when the stream is closed
        stream.close()
        assert passes.count == 10
        assert is_free(engine)
    answer(engine, question, SAMPLING)  # the next one is served at once
    assert passes.count == 10


def test_closing_while_the_picture_is_read_starts_no_word(engine: LocalEngine, question: Conversation) -> None:
    seeing = engine.model.tower.register_forward_pre_hook(lambda *_: wait_until(lambda: is_left(engine)))
    with seeing, watched(engine) as passes:
        stream = engine.stream(question, SAMPLING)
        assert next(stream) == Progress("encoding", total=1)
        stream.close()
        assert passes.count == 0 and is_free(engine)


def test_forgetting_a_stream_stops_it_too(engine: LocalEngine, question: Conversation) -> None:
    with watched(engine, most=9) as passes:
        stream = engine.stream(question, MANY["sampling"])
        until_it_speaks(stream)
        del stream
        gc.collect()
        assert passes.count <= 10 and is_free(engine)


def test_breaking_out_of_the_loop_stops(engine: LocalEngine, question: Conversation) -> None:
    def first_word() -> str:
        return next(event.text for event in engine.stream(question, MANY["sampling"]) if isinstance(event, TextDelta))

    with watched(engine, most=9) as passes:
        assert first_word()
        gc.collect()
        assert passes.count <= 10 and is_free(engine)


def test_a_slow_start_does_not_block_the_listener(engine: LocalEngine, question: Conversation) -> None:
    reading, early = Progress("prefill", 0, engine.backend.length(question)), list[Event]()
    with watched(engine, most=0):  # it reads until nobody listens any more
        stream = engine.stream(question, SAMPLING)
        while early.count(reading) < 2:
            early.append(next(stream))
        stream.close()
    said = [event for event, _ in itertools.groupby(early)]
    assert said == [Progress("encoding", total=1), Progress("encoding", 1, 1), reading]


# Failing


@both_modes_long
@pytest.mark.parametrize("fail_at", [1, 4])
def test_a_failure_reaches_the_listener_and_frees_the_model(
    engine: LocalEngine, question: Conversation, options: Options, fail_at: int
) -> None:
    with watched(engine, fail_at=fail_at), pytest.raises(RuntimeError, match="the model broke"):
        list(engine.stream(question, options))
    assert is_free(engine)
    assert answer(engine, question, SAMPLING) == answer(engine, question, SAMPLING)


def test_too_little_memory_says_what_to_do(engine: LocalEngine, question: Conversation) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    with watched(engine, fail_at=2, error=error), pytest.raises(HardwareError, match="smaller picture") as caught:
        list(engine.stream(question, SAMPLING))
    assert caught.value.__cause__ is error and is_free(engine)


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation(),
        Conversation().with_message("user", ""),
        Conversation().with_message("user", " \n\t"),
        Conversation().with_message("user", Picture(Image.new("RGB", (4, 4)))),
        Conversation().with_message("assistant", "Hi"),
        Conversation().with_message("user", "Hi").with_message("assistant", "Hello"),
        Conversation().with_message("user", "Hi").with_message("user", "Hello?"),
    ],
    ids=["nothing", "empty", "blank", "picture alone", "assistant first", "answered", "two questions"],
)
def test_what_cannot_be_answered_is_refused(engine: LocalEngine, conversation: Conversation) -> None:
    with watched(engine) as passes, pytest.raises(InputError):
        list(engine.stream(conversation, SAMPLING))
    assert passes.count == 0 and is_free(engine)


def test_the_cards_context_counts(make_engine: Callable[..., LocalEngine], question: Conversation) -> None:
    tokens = len(make_engine().processor.prompt(question))
    with saying(make_engine(), [5]):
        finished(list(make_engine(context=tokens + 12).stream(question, SAMPLING)))
    with pytest.raises(ContextLengthError, match=f"{tokens} tokens, but only {tokens - 1} fit"):
        list(make_engine(context=tokens + 11).stream(question, SAMPLING))


def test_a_question_of_100_000_characters_is_refused_with_the_numbers(engine: LocalEngine) -> None:
    conversation = Conversation().with_message("user", "word " * 20_000)
    tokens = len(engine.processor.prompt(conversation))
    with pytest.raises(ContextLengthError, match=f"takes {tokens} tokens, but only 588 fit.*600 tokens, of which 12"):
        list(engine.stream(conversation, SAMPLING))
    assert is_free(engine)


def test_a_long_conversation_loses_its_oldest_turns_and_says_so(engine: LocalEngine, question: Conversation) -> None:
    conversation = question
    for _ in range(6):
        conversation = conversation.with_message("assistant", "It is red. " * 8).with_message("user", "And what else?")
    end = finished(list(engine.stream(conversation, SAMPLING)))
    assert end.dropped_messages >= 2 and end.dropped_messages % 2 == 0
    assert end.usage.picture_tokens == 4  # the picture is still seen
    assert end.usage.text_tokens + end.usage.picture_tokens <= 600 - 12


# Several at once


def test_a_second_answer_begins_while_the_first_is_given(engine: LocalEngine, question: Conversation) -> None:
    """Each is the same as alone."""
    alone = [finished(list(engine.stream(question, options))) for options in (SAMPLING, BEAM)]
    with watched(engine, most=6) as passes:
        first, second = engine.stream(question, SAMPLING), engine.stream(question, BEAM)
        until_it_speaks(first)
        assert next(second) == Progress("encoding", total=1)  # it has its place: from here on they take turns
        passes.most = 14  # the first one takes 12 alone
        until_it_speaks(second)
        assert engine.scheduler.count == 2
        passes.most = inf
        ends = [finished(list(first)), finished(list(second))]
    assert [(end.text, end.usage) for end in ends] == [(end.text, end.usage) for end in alone]
    assert is_free(engine)


def test_many_at_once_say_what_they_say_alone(engine: LocalEngine, question: Conversation) -> None:
    """Sampling with seeds, beams among them, in threads as pages ask."""
    options = [Sampling(1.5, seed=seed, max_new_tokens=12) for seed in range(5)] + [BEAM, BEAM]
    alone = [answer(engine, question, each) for each in options]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = answer(engine, question, options[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(options))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[number] for number in range(len(options))] == alone
    assert is_free(engine)


def test_who_stops_leaves_the_others_alone(engine: LocalEngine, question: Conversation) -> None:
    expected = answer(engine, question, SAMPLING)
    with watched(engine):
        first, second = engine.stream(question, MANY["beam"]), engine.stream(question, SAMPLING)
        until_it_speaks(first)
        until_it_speaks(second)
        first.close()
        assert engine.scheduler.count <= 1
        assert finished(list(second)).text == expected


def test_who_fails_leaves_the_others_alone(engine: LocalEngine, question: Conversation) -> None:
    expected = answer(engine, question, SAMPLING)
    with watched(engine, most=6) as passes:
        first, second = engine.stream(question, MANY["sampling"]), engine.stream(question, SAMPLING)
        until_it_speaks(first)
        wait_until(lambda: passes.count == 7)  # where it stands while the second one comes
        next(second)
        passes.fail_at = 8
        passes.most = inf
        ends = []
        for stream in (first, second):
            try:
                ends.append(finished(list(stream)).text)
            except RuntimeError:
                ends.append("broke")
    long = answer(engine, question, MANY["sampling"])
    assert ends in (["broke", expected], [long, "broke"])
    assert is_free(engine)


def test_the_smaller_the_caches_the_more_are_answered_at_once(
    make_engine: Callable[..., LocalEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(count: int, context: int) -> int:
        """How many, if so many caches of this model may be in use."""
        each = cache_bytes(make_engine().model.config, "fp32", "cpu", min(context, 4096))
        monkeypatch.setattr("omnilmm.engine.local.CACHES_BYTES", count * each)
        return make_engine(at_once=None, context=context).scheduler.at_once

    for context in (1000, 100_000):  # of which no more is expected to be in use
        assert [at_once(count, context) for count in (1, 12, 1000)] == [8, 12, 32]


def test_more_than_go_at_once_wait_for_a_place(make_engine: Callable[..., LocalEngine], question: Conversation) -> None:
    engine = make_engine(at_once=1)
    with watched(engine, most=6):
        first, second, third = (engine.stream(question, MANY["sampling"]) for _ in range(3))
        until_it_speaks(first)
        assert next(second) == Progress("waiting", total=1)
        assert next(second) == Progress("waiting", total=1)  # again and again, so that nobody is blocked
        assert next(third) == Progress("waiting", total=2)
        second.close()
        assert next(third) == Progress("waiting", total=1)
        first.close()
        assert next(third) == Progress("encoding", total=1)
        third.close()
    assert is_free(engine)


def test_waiting_is_timed_apart(make_engine: Callable[..., LocalEngine], question: Conversation) -> None:
    engine = make_engine(at_once=1)
    with watched(engine, most=6) as passes:
        first, second = engine.stream(question, SAMPLING), engine.stream(question, SAMPLING)
        until_it_speaks(first)
        assert next(second) == Progress("waiting", total=1)
        passes.most = inf
        end = finished(list(second))
    assert end.timings.waited_s > 0 and end.timings.total_s >= end.timings.first_token_s > 0
    list(first)


def test_waiting_ends_when_the_first_fails(make_engine: Callable[..., LocalEngine], question: Conversation) -> None:
    engine = make_engine(at_once=1)
    first, second = engine.stream(question, SAMPLING), engine.stream(question, SAMPLING)
    with watched(engine, fail_at=2, most=1) as passes:
        next(first)
        assert next(second) == Progress("waiting", total=1)
        passes.most = inf
        with pytest.raises(RuntimeError, match="the model broke"):
            list(first)
    assert isinstance(list(second)[-1], Finished)


# Options reach the model


def test_sampling_options_reach_the_model(engine: LocalEngine, question: Conversation) -> None:
    best = {answer(engine, question, Sampling(top_k=1, seed=seed, max_new_tokens=12)) for seed in range(4)}
    assert len(best) == 1  # the best token every time
    arguments = generate_arguments(Sampling(0.5, 0.6, 7, 1.1, None, 9), [3, 4])
    assert {key: arguments[key] for key in ("temperature", "top_p", "top_k", "repetition_penalty", "do_sample")} == {
        "temperature": 0.5,
        "top_p": 0.6,
        "top_k": 7,
        "repetition_penalty": 1.1,
        "do_sample": True,
    }
    assert (arguments["max_new_tokens"], arguments["eos_token_id"]) == (9, [3, 4])


def test_beam_options_reach_the_model() -> None:
    arguments = generate_arguments(BeamSearch(4, 1.3, 0.5, 9), [3, 4])
    assert {key: arguments[key] for key in ("num_beams", "repetition_penalty", "length_penalty", "do_sample")} == {
        "num_beams": 4,
        "repetition_penalty": 1.3,
        "length_penalty": 0.5,
        "do_sample": False,
    }


@pytest.mark.parametrize("name", ["top_k", "max_new_tokens", "seed"])
def test_a_sliders_float_works_for_whole_numbers(engine: LocalEngine, question: Conversation, name: str) -> None:
    assert finished(list(engine.stream(question, Sampling(**{"max_new_tokens": 3, name: 3.0})))).usage.new_tokens <= 3
