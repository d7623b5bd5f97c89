"""Who comes back within the time finds their conversation, and only their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture, Thought
from omnilmm.ui.session_store import BrowserState, SavedSession, SessionStore
from tests.guarded import guarded, guarded_attributes


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def talk(text: str, pixels: int = 0) -> SavedSession:
    parts = (Picture(Image.new("RGB", (pixels, 1))), text) if pixels else (text,)
    return SavedSession(Conversation().with_message("user", *parts).with_message("assistant", "yes"), (None,))


def test_a_visitor_finds_their_own_conversation_again() -> None:
    store = SessionStore()
    mine, yours = store.new_token(), store.new_token()
    assert mine != yours and len(mine) >= 32
    store.save(mine, talk("mine"))
    store.save(yours, talk("yours"))
    kept = store.get(mine)
    assert kept is not None and kept.conversation.messages[0].text == "mine"
    assert store.get("guessed") is None
    store.save(mine, SavedSession(Conversation(), ()))
    assert store.get(mine) is None and len(store) == 1


def test_after_the_time_it_is_gone_and_asking_on_prolongs_it() -> None:
    clock = Clock()
    store = SessionStore(lifetime_s=100, now=clock)
    store.save("a", talk("a"))
    store.save("b", talk("b"))
    clock.now = 90
    store.save("a", talk("a, later"))
    clock.now = 150
    assert store.get("a") is not None
    assert store.get("b") is None
    assert len(store) == 1


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    store = SessionStore(max_bytes=100_000)
    for name in "abc":
        store.save(name, talk(name, pixels=12_000))
    assert [name for name in "abc" if store.get(name)] == ["b", "c"]
    store.save("d", talk("d", pixels=60_000))
    assert store.get("d") is None and store.get("c") is not None


def test_what_was_replaced_or_taken_away_counts_no_more() -> None:
    store = SessionStore(max_bytes=100_000)
    for _ in range(5):
        store.save("a", talk("a", pixels=12_000))
    store.save("b", talk("b", pixels=12_000))
    store.save("b", SavedSession(Conversation(), ()))
    store.save("c", talk("c", pixels=12_000))
    assert store.get("a") and store.get("c")


def test_sessions_are_stored_and_counted_under_the_lock_alone() -> None:
    store = SessionStore(max_bytes=100_000)
    is_held = store._lock.locked
    store._saved, of_saved = guarded(store._saved, is_held)
    of_bytes = guarded_attributes(store, is_held, "_bytes")
    for name in "aabc":  # of which the last one takes the place of the first
        store.save(name, talk(name, pixels=12_000))
    assert store.get("c") and (of_saved, of_bytes) == ([], [])


def test_saving_one_session_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page saves whenever it is drawn: with thousands of visitors it did little else."""
    counted: list[SavedSession] = []
    size = SavedSession.size.fget
    monkeypatch.setattr(SavedSession, "size", property(lambda saved: counted.append(saved) or size(saved)))  # type: ignore[func-returns-value, misc]
    store = SessionStore()
    for name in "abcdefgh":
        store.save(name, talk(name))
        assert store.get(name)
    assert len(counted) == 8


def test_what_can_be_gone_back_to_is_kept_and_counts() -> None:
    whole = replace(talk("b"), earlier=talk("a", pixels=60_000))
    assert whole.size > talk("a", pixels=60_000).size
    store = SessionStore(max_bytes=100_000)
    store.save("a", whole)
    assert store.get("a") is None


def test_an_empty_conversation_takes_the_kept_one_away() -> None:
    store = SessionStore()
    store.save("a", talk("a"))
    store.save("a", SavedSession(Conversation(), ()))
    assert len(store) == 0


def test_the_browser_remembers_the_text_for_a_new_server() -> None:
    kept = talk("What?", pixels=3)
    memory = BrowserState.read(BrowserState.of("a-token", "zh", kept.conversation).model_dump_json())
    assert (memory.token, memory.language) == ("a-token", "zh")
    back = memory.conversation("[gone]")
    assert [message.text for message in back.messages] == ["[gone]\nWhat?", "yes"]
    assert not back.pictures


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "{",
        "[]",
        '{"token": 1}',
        '{"token": "a", "more": 1}',
        '{"messages": [["assistant", "x", 0]]}',
        '{"messages": [["user", "x", 0]]}',
    ],
)
def test_what_is_not_ours_in_the_browser_is_left_alone(stored: str) -> None:
    assert BrowserState.read(stored) == BrowserState()


def test_a_browser_keeps_thoughts_beside_their_answers() -> None:
    answer = Message("assistant", ("Red.",), Thought("Hm.", 4, 1.5))
    conversation = Conversation(
        (Message("user", ("What?",)), answer, Message("user", ("Sure?",)), Message("assistant", ("Yes.",)))
    )
    state = BrowserState.of("token", "en", conversation)
    assert BrowserState.read(state.model_dump_json()).conversation("lost") == conversation
    without = BrowserState.of("token", "en", Conversation(conversation.messages[2:]))
    assert without.thoughts == () and BrowserState.read(without.model_dump_json()).conversation("lost").messages
