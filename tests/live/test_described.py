"""A text model answers from what another one has seen: the newest frames, bounded, without a picture of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from PIL import Image

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, Progress, TextDelta
from omnilmm.images.pixels import open_picture
from omnilmm.live.described import KEPT, Described, Watcher
from tests.ui.scripted import ScriptedEngine, capable, finished, saying
from tests.waiting import wait_until


def frame(number: int) -> Picture:
    return open_picture(Image.new("RGB", (8, 8), (number, 0, 0)))


def number_of(conversation: Conversation) -> int:
    return int(conversation.pictures[0].image.getpixel((0, 0))[0])  # type: ignore[index]


class Seeing:
    """Describes a frame by its number, once the test lets it."""

    def __init__(self) -> None:
        self.goes_on = threading.Semaphore(0)
        self.seen: list[int] = []

    def __call__(self, asked: Conversation) -> Iterable[Event]:
        number = number_of(asked)
        self.seen.append(number)
        while not self.goes_on.acquire(timeout=0.05):
            yield Progress("encoding")
        yield TextDelta(f"frame {number}")
        yield finished(f"frame {number}")


def test_the_text_model_reads_the_newest_descriptions_and_the_talk() -> None:
    seeing, text = Seeing(), ScriptedEngine(saying("It is red."), card=capable())
    watcher = Watcher(ScriptedEngine(seeing), "en")
    described = Described(text, watcher)
    for number in range(KEPT + 2):
        watcher.add_frame(frame(number))
        seeing.goes_on.release()
        wait_until(lambda number=number: watcher.descriptions and watcher.descriptions[-1][1] == f"frame {number}")
    conversation = Conversation(system="Be brief.").with_message("user", frame(0), "What is it?")
    assert isinstance(next(iter(described.stream(conversation))), TextDelta)
    asked, _ = text.asked[0]
    assert asked.pictures == () and asked.messages[-1].text == "What is it?"
    lines = [line for line in (asked.system or "").splitlines() if line.startswith("- ")]
    assert [line.rpartition(": ")[2] for line in lines] == [f"frame {number}" for number in range(2, KEPT + 2)]
    assert (asked.system or "").startswith("Be brief.")
    watcher.close()


def test_only_the_newest_frame_waits_while_one_is_described() -> None:
    seeing = Seeing()
    watcher = Watcher(ScriptedEngine(seeing), "zh")
    watcher.add_frame(frame(0))
    wait_until(lambda: seeing.seen == [0])
    for number in range(1, 9):
        watcher.add_frame(frame(number))
    seeing.goes_on.release(2)
    wait_until(lambda: len(watcher.descriptions) == 2)
    assert seeing.seen == [0, 8]
    watcher.close()


def test_closing_stops_the_description_that_is_running() -> None:
    seeing, before = Seeing(), set(threading.enumerate())
    engine = ScriptedEngine(seeing)
    watcher = Watcher(engine, "en")
    watcher.add_frame(frame(3))
    wait_until(lambda: seeing.seen == [3])
    watcher.close()
    wait_until(lambda: engine.closed == 1 and set(threading.enumerate()) <= before)
    assert watcher.descriptions == [] and engine.forgotten


def test_before_anything_is_seen_the_text_model_is_told_so() -> None:
    text = ScriptedEngine(card=capable())
    watcher = Watcher(ScriptedEngine(), "zh")
    list(Described(text, watcher).stream(Conversation().with_message("user", "你好？")))
    assert "还没有" in (text.asked[0][0].system or "")
    watcher.close()


def test_a_text_model_without_a_system_prompt_reads_the_descriptions_before_the_question() -> None:
    text = ScriptedEngine(card=capable(system_prompt=False))
    watcher = Watcher(ScriptedEngine(), "en")
    talk = Conversation().with_message("user", "Hello.").with_message("assistant", "Hello.")
    list(Described(text, watcher).stream(talk.with_message("user", "What is it?")))
    asked, _ = text.asked[0]
    assert asked.system is None and asked.messages[:-1] == talk.messages
    assert "nothing yet" in asked.messages[-1].text and asked.messages[-1].text.endswith("\n\nWhat is it?")
    watcher.close()
