"""The remote engine before a real llama.cpp."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, Finished, Progress, TextDelta
from omnilmm.engine.options import options_for
from omnilmm.engine.remote.dialects import LLAMA_CPP
from omnilmm.engine.remote.engine import RemoteEngine
from omnilmm.engine.servers import Servers
from omnilmm.errors import ContextLengthError, InputError, ModelNotFoundError, OptionsError, ServerError
from tests.engine.remote.llama_server import CONTEXT, LlamaServer
from tests.engine.remote.tiny_gguf import write_tiny
from tests.waiting import wait_until

HELLO = Conversation().with_message("user", "Hello")


@pytest.fixture
def engine(llama: LlamaServer) -> RemoteEngine:
    served = Servers([llama.url]).choose(None)
    model = served.model
    assert (model.id, model.dialect, model.context, model.pictures) == ("tiny", LLAMA_CPP, CONTEXT, False)
    return served.load()


def ask(engine: RemoteEngine, conversation: Conversation = HELLO, **options: object) -> list[Event]:
    return [*engine.stream(conversation, options_for(engine.card, **options))]  # type: ignore[arg-type]


def test_an_answer_streams_and_a_follow_up_reuses_the_prompt(engine: RemoteEngine) -> None:
    *events, finished = ask(engine, temperature=0, max_new_tokens=24)
    assert isinstance(finished, Finished)
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert "".join(delta.text for delta in deltas) == finished.text and len(finished.text) == 24
    assert [delta.new_tokens for delta in deltas] == [*range(1, 25)]
    assert finished.reason == "length" and finished.usage.new_tokens == 24 and not finished.without_effect
    assert [event for event in events if isinstance(event, Progress) and event.stage == "prefill" and event.total]
    longer = HELLO.with_message("assistant", finished.text).with_message("user", "And then?")
    follow_up = ask(engine, longer, temperature=0, max_new_tokens=4)[-1]
    assert isinstance(follow_up, Finished) and follow_up.usage.reused >= finished.usage.text_tokens


def test_options_have_the_effect_that_they_have_here(engine: RemoteEngine) -> None:
    def text(**options: object) -> str:
        finished = ask(engine, max_new_tokens=24, **options)[-1]
        assert isinstance(finished, Finished)
        return finished.text

    greedy = text(temperature=0)
    assert text(temperature=2, top_p=1, top_k=1, seed=1) == greedy  # of one token to draw from
    drawn = {"temperature": 2, "top_p": 1, "top_k": 50}
    assert text(seed=1, **drawn) == text(seed=1, **drawn) != text(seed=2, **drawn)
    assert text(temperature=0, repetition_penalty=3) != greedy
    stop = greedy[5:7]
    (cut,) = [event for event in [*engine.stream(HELLO, _stopping(engine, stop))] if isinstance(event, Finished)]
    assert cut.text == greedy[: greedy.index(stop)] and cut.reason == "end"
    with pytest.raises(OptionsError, match="beam"):
        ask(engine, mode="beam")


def _stopping(engine: RemoteEngine, stop: str) -> object:
    return options_for(engine.card, temperature=0, max_new_tokens=24, stop=(stop,))


@pytest.mark.parametrize("after", ["the first word", "nothing"])
def test_closing_frees_the_slot(engine: RemoteEngine, llama: LlamaServer, after: str) -> None:
    threads = threading.active_count()
    asked = HELLO if after == "the first word" else Conversation().with_message("user", "word " * 3000)
    events = engine.stream(asked, options_for(engine.card, max_new_tokens=8192))
    for event in events:
        if isinstance(event, TextDelta) or (after == "nothing" and llama.busy):
            break
    assert llama.busy == 1
    events.close()
    wait_until(lambda: not llama.busy and threading.active_count() <= threads)


def test_what_does_not_fit_is_left_out_or_said(engine: RemoteEngine) -> None:
    conversation = Conversation()
    for length in (300, 17_000, 300, 300):
        conversation = conversation.with_message("user", "a" * length).with_message("assistant", "Yes.")
    finished = ask(engine, conversation.with_message("user", "Now?"), max_new_tokens=4)[-1]
    assert isinstance(finished, Finished) and finished.dropped_messages == 4 and finished.usage.text_tokens > 600
    with pytest.raises(ContextLengthError, match=rf"20.* tokens.* {CONTEXT}"):
        ask(engine, Conversation().with_message("user", "a" * 20_000))


def test_pictures_for_a_text_model_and_models_that_are_not_there(engine: RemoteEngine, llama: LlamaServer) -> None:
    shown = Conversation().with_message("user", Picture(Image.new("RGB", (9, 9))), "What is this?")
    with pytest.raises(InputError, match="takes no pictures"):
        ask(engine, shown)
    unaware = RemoteEngine(llama.url, "tiny", dialect=LLAMA_CPP)  # the server says it
    assert unaware.card.pictures
    with pytest.raises(InputError, match="takes no pictures"):
        ask(unaware, shown)
    with pytest.raises(ModelNotFoundError, match=r"'other'.*tiny"):
        Servers([llama.url]).choose("other")


def test_a_server_that_is_killed_in_an_answer_and_comes_back(
    engine: RemoteEngine, llama: LlamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnilmm.engine.remote.engine.CHECK_S", 60.0)
    events = engine.stream(HELLO, options_for(engine.card, max_new_tokens=8192))
    assert any(isinstance(event, TextDelta) for event in events)
    llama.kill()
    with pytest.raises(ServerError, match=r"connection.*broke"):
        for _ in events:
            pass
    with pytest.raises(ServerError, match="No server answers"):
        ask(engine)
    with pytest.raises(ServerError, match="No server answers"):
        Servers([llama.url]).choose(None)
    llama.start(write_tiny(tmp_path / "other.gguf", seed=1), "other")  # it would answer under any name
    with pytest.raises(ServerError, match=r"no longer has the model tiny. It lists: other"):
        ask(engine, max_new_tokens=8192)
    wait_until(lambda: not llama.busy)
    llama.kill()
    llama.start()
    assert isinstance(ask(engine, max_new_tokens=4)[-1], Finished)


def test_sixteen_at_once(engine: RemoteEngine, llama: LlamaServer) -> None:
    threads = threading.active_count()
    answers: dict[str, str] = {}

    def one(word: str) -> None:
        finished = ask(engine, Conversation().with_message("user", word), temperature=0, max_new_tokens=16)[-1]
        answers[word] = finished.text if isinstance(finished, Finished) else ""

    alone = dict.fromkeys(map(str, range(16)), "")
    for word in ("0", "7", "15"):
        one(word)
    alone |= answers
    running = [threading.Thread(target=one, args=(word,)) for word in alone]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert [answers[word] for word in ("0", "7", "15")] == [alone[word] for word in ("0", "7", "15")]
    assert all(len(text) == 16 for text in answers.values()) and len(answers) == 16
    wait_until(lambda: not llama.busy and threading.active_count() <= threads)
