"""Who comes back within the time finds their conversation, and only their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.ui.session_store import Keeper, Kept, Memory


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def talk(text: str, pixels: int = 0) -> Kept:
    parts = (Picture(Image.new("RGB", (pixels, 1))), text) if pixels else (text,)
    return Kept(Conversation().with_message("user", *parts).with_message("assistant", "yes"), (None,))


def test_a_visitor_finds_their_own_conversation_again() -> None:
    keeper = Keeper()
    mine, yours = keeper.new_token(), keeper.new_token()
    assert mine != yours and len(mine) >= 32
    keeper.keep(mine, talk("mine"))
    keeper.keep(yours, talk("yours"))
    kept = keeper.get(mine)
    assert kept is not None and kept.conversation.messages[0].text == "mine"
    assert keeper.get("guessed") is None
    keeper.forget(mine)
    assert keeper.get(mine) is None and len(keeper) == 1


def test_after_the_time_it_is_gone_and_asking_on_prolongs_it() -> None:
    clock = Clock()
    keeper = Keeper(kept_s=100, now=clock)
    keeper.keep("a", talk("a"))
    keeper.keep("b", talk("b"))
    clock.now = 90
    keeper.keep("a", talk("a, later"))
    clock.now = 150
    assert keeper.get("a") is not None
    assert keeper.get("b") is None
    assert len(keeper) == 1


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    keeper = Keeper(most_bytes=100_000)
    for name in "abc":
        keeper.keep(name, talk(name, pixels=12_000))
    assert [name for name in "abc" if keeper.get(name)] == ["b", "c"]
    keeper.keep("d", talk("d", pixels=60_000))
    assert keeper.get("d") is None and keeper.get("c") is not None


def test_what_can_be_gone_back_to_is_kept_and_counts() -> None:
    whole = replace(talk("b"), earlier=talk("a", pixels=60_000))
    assert whole.size > talk("a", pixels=60_000).size
    keeper = Keeper(most_bytes=100_000)
    keeper.keep("a", whole)
    assert keeper.get("a") is None


def test_an_empty_conversation_takes_the_kept_one_away() -> None:
    keeper = Keeper()
    keeper.keep("a", talk("a"))
    keeper.keep("a", Kept(Conversation(), ()))
    assert len(keeper) == 0


def test_the_browser_remembers_the_text_for_a_new_server() -> None:
    kept = talk("What?", pixels=3)
    memory = Memory.read(Memory.of("a-token", "zh", kept.conversation).model_dump_json())
    assert (memory.token, memory.language) == ("a-token", "zh")
    back = memory.conversation("[gone]")
    assert [message.text for message in back.messages] == ["[gone]\nWhat?", "yes"]
    assert not back.pictures


@pytest.mark.parametrize(
    "stored",
    ["", "{", "[]", '{"token": 1}', '{"said": [["assistant", "x", 0]]}', '{"said": [["user", "x", 0]]}', '{"more": 1}'],
)
def test_what_is_not_ours_in_the_browser_is_left_alone(stored: str) -> None:
    assert Memory.read(stored) == Memory()
