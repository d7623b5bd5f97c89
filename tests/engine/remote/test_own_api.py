"""The remote engine before our own API with the built-in model: its answers are those of the engine behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from omnilmm.api.app import application
from omnilmm.conversation import Conversation
from omnilmm.engine.events import Event, Finished, TextDelta, ThoughtDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.servers import Servers
from omnilmm.errors import ServerError
from omnilmm.images.pixels import open_picture
from omnilmm.ui.boxes import regions
from omnilmm.ui.samples import samples
from tests.api.serving import served
from tests.pages.visitor import Pace, wait_until_free
from tests.ui.scripted import ScriptedEngine, Thinking
from tests.waiting import wait_until

KEY = "a key"
PICTURES = [open_picture(sample.picture) for sample in samples()[:2]]
ASKED = Conversation().with_message("user", PICTURES[0], "What colour is the heart?")


@pytest.fixture(scope="module")
def url(engine: LocalEngine) -> Iterator[str]:
    with served(application(engine, key=KEY)) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def remote(url: str) -> RemoteEngine:
    return Servers([url], [KEY]).choose(None).load()


def answer(engine: object, conversation: Conversation, mode: str = "greedy", **options: object) -> Finished:
    owner = "somebody"
    *_, last = engine.stream(conversation, options_for(engine.card, mode, **options), owner)  # type: ignore[attr-defined]
    assert isinstance(last, Finished)
    return last


def test_the_card_is_that_of_the_catalog(remote: RemoteEngine, engine: LocalEngine) -> None:
    there, here = remote.card, engine.card
    assert (there.name, there.title, there.context, there.boxes) == (here.name, here.title, here.context, here.boxes)
    assert remote.slices(PICTURES[0]) == engine.slices(PICTURES[0]) and not there.are_slices_assumed
    assert there.beam_search and {name.partition(".")[2] for name in there.without_effect} == {"max_slices"}


def test_pictures_a_follow_up_and_boxes(remote: RemoteEngine, engine: LocalEngine) -> None:
    first = answer(remote, ASKED)
    assert first.text == answer(engine, ASKED).text
    assert first.usage.picture_tokens > 0 and first.usage.new_tokens > 0
    assert first.timings.total_s >= first.timings.first_token_s > 0
    longer = ASKED.with_message("assistant", first.text).with_message("user", PICTURES[1], "And what is in this one?")
    second = answer(remote, longer)
    assert second.text == answer(engine, longer).text
    assert second.usage.reused >= first.usage.picture_tokens, "the same picture arrives as the same bytes"
    box = next(sample for sample in samples() if "box" in sample.picture.stem)
    boxed = Conversation().with_message("user", open_picture(box.picture), box.question)
    found = answer(remote, boxed).text
    assert regions(found) and found == answer(engine, boxed).text


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("beam", {"beams": 3, "length_penalty": 0.5}),
        ("sampling", {"temperature": 1.5, "seed": 3, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.3}),
        ("greedy", {"max_new_tokens": 3}),
    ],
)
def test_options(remote: RemoteEngine, engine: LocalEngine, mode: str, options: dict[str, object]) -> None:
    there, here = answer(remote, ASKED, mode, **options), answer(engine, ASKED, mode, **options)
    assert (there.text, there.reason, there.without_effect) == (here.text, here.reason, ())


def test_closing_stops_the_model_behind(remote: RemoteEngine, engine: LocalEngine, pace: Pace) -> None:
    events = remote.stream(ASKED)
    pace.allow(2)
    assert any(isinstance(event, TextDelta) for event in events)
    assert {"remote answer", "api answer"} <= {thread.name for thread in threading.enumerate()}
    events.close()
    assert pace.was_closed()
    passes = pace.passes
    pace.allow()
    wait_until_free(engine)
    assert pace.passes <= passes + 1
    wait_until(lambda: not any(thread.name in ("remote answer", "api answer") for thread in threading.enumerate()))


def test_sixteen_people_at_once(remote: RemoteEngine, engine: LocalEngine) -> None:
    texts: list[str] = []

    def ask(number: int) -> None:
        events: list[Event] = [*remote.stream(ASKED, options_for(remote.card, "greedy", max_new_tokens=6), number)]
        assert isinstance(events[-1], Finished)
        texts.append(events[-1].text)

    running = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert texts == [answer(engine, ASKED, max_new_tokens=6).text] * 16
    wait_until_free(engine)


def test_thoughts_go_through() -> None:
    """The built-in model has none, so a scripted engine stands behind the API."""
    script = Thinking()
    script.goes_on.release(2)
    with served(application(ScriptedEngine(script))) as address:
        remote = Servers([f"{address}/v1"]).choose(None).load()
        *events, last = remote.stream(Conversation().with_message("user", "Is it red?"))
    assert "".join(event.text for event in events if isinstance(event, ThoughtDelta)) == script.THOUGHT
    assert isinstance(last, Finished) and last.thought
    assert (last.text, last.thought.text, last.thought.tokens) == (
        script.ANSWER,
        script.THOUGHT,
        script.REPORTED.tokens,
    )


def test_what_is_left_out_there_is_said_here(remote: RemoteEngine) -> None:
    conversation = Conversation()
    for words in (2500, 50):  # of a context of 2048 tokens
        conversation = conversation.with_message("user", "word " * words).with_message("assistant", "Yes.")
    assert answer(remote, conversation.with_message("user", "Hello"), max_new_tokens=4).dropped_messages == 2


def test_without_the_key(url: str) -> None:
    with pytest.raises(ServerError, match=r"--engine-key .* or in OPENAI_API_KEY") as refused:
        Servers([url], ["wrong"]).choose(None)
    assert "wrong" not in str(refused.value)
