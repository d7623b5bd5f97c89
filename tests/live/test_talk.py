"""One tab's talk: what it hears becomes a question, and everything of an old answer ends when the user speaks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from omnilmm.conversation import Conversation
from omnilmm.images.pixels import open_picture
from omnilmm.live.hearing import BYTES_PER_CHUNK, CHUNK, RATE, STARTS, Sound
from omnilmm.live.recognition import Recogniser
from omnilmm.live.talk import LATEST_S, Answer, Command, Parts, Talk, _Inbox
from tests.guarded import guarded, guarded_attributes, guarded_calls
from tests.live.sounds import WORDS, chunks, spoken
from tests.waiting import wait_until


class Sent(list[Any]):
    """What a talk sends to its tab."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in list(self) if isinstance(message, dict) and message["type"] == kind]

    @property
    def state(self) -> str:
        return str(self.of("state")[-1]["state"]) if self.of("state") else ""


class Slow:
    """A recogniser that waits until the test lets it go on."""

    name = "slow"

    def __init__(self) -> None:
        self.goes_on, self.heard = threading.Event(), threading.Event()

    def words(self, sound: Sound, language: str) -> str:
        self.heard.set()
        self.goes_on.wait(60)
        return "too late"


class Growing:
    """An answer that the test makes."""

    def __init__(self) -> None:
        self.text, self.done, self.stops = "", threading.Event(), 0

    def answer(self) -> Answer:
        return Answer(lambda: self.text, self.done, self.stop)

    def stop(self) -> None:
        self.stops += 1
        self.done.set()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def talk(sent: Sent, recogniser: Recogniser) -> Any:
    talk = Talk(Parts(recogniser, lambda: None, "browser"), sent.append)
    yield talk
    talk.close()


def do(talk: Talk, kind: Any, **more: Any) -> None:
    talk.receive(Command(type=kind, **more))


def ask_aloud(talk: Talk, name: str) -> None:
    do(talk, "press")
    for chunk in chunks(spoken(name)):
        talk.receive_sound(chunk)
    do(talk, "release")


def test_a_spoken_question_is_recognised_and_its_answer_spoken_by_sentences(talk: Talk, sent: Sent) -> None:
    ask_aloud(talk, "what_color")
    wait_until(lambda: sent.of("heard"))
    assert sent.of("heard")[0]["text"] == WORDS["what_color"] and sent.state == "thinking"
    growing = Growing()
    talk.speak(growing.answer())
    growing.text = "The circle is red. It"
    wait_until(lambda: sent.state == "speaking")
    assert sent.of("first_word") and len(sent.of("say")) == 1
    growing.text = "The circle is red. It is big."
    growing.done.set()
    wait_until(lambda: len(sent.of("say")) == 2)
    do(talk, "silent")
    wait_until(lambda: sent.state == "idle")
    assert [one["text"] for one in sent.of("say")] == ["The circle is red.", "It is big."]
    assert all(one["browser"] and not one["sound"] for one in sent.of("say"))


@pytest.mark.parametrize("kind", ["press", "stop"])
def test_speech_and_stop_end_the_answer_and_its_sound(talk: Talk, sent: Sent, kind: str) -> None:
    growing = Growing()
    talk.speak(growing.answer())
    growing.text = "One. Two"
    wait_until(lambda: sent.of("say"))
    do(talk, kind)
    growing.text = "One. Two. Three."
    assert growing.stops == 1 and sent.of("hush")
    said = len(sent.of("say"))
    wait_until(lambda: sent.state == ("listening" if kind == "press" else "idle"))
    talk.close()
    assert len(sent.of("say")) == said


def test_a_voice_ends_the_answer_when_hands_free(sent: Sent, recogniser: Recogniser) -> None:
    talk, growing = Talk(Parts(recogniser, lambda: lambda _: 1.0, "browser"), sent.append), Growing()
    do(talk, "hands_free", on=True)
    growing.text = "One. Two"
    talk.speak(growing.answer())
    wait_until(lambda: sent.of("say"))
    for chunk in chunks(spoken("what_shape"))[:STARTS]:
        talk.receive_sound(chunk)
    wait_until(lambda: sent.of("hush") and sent.state == "listening")
    assert growing.stops == 1
    assert sent.of("started")[0]["seconds_ago"] >= STARTS * CHUNK / RATE, "the frame is of when the voice began"
    talk.close()


def test_stop_drops_what_is_being_said(talk: Talk, sent: Sent) -> None:
    do(talk, "press")
    for chunk in chunks(spoken("what_color")):
        talk.receive_sound(chunk)
    do(talk, "stop")
    do(talk, "release")
    ask_aloud(talk, "what_shape")
    wait_until(lambda: sent.of("heard"))
    assert [one["text"] for one in sent.of("heard")] == [WORDS["what_shape"]]


def test_stop_drops_the_voice_that_waits_behind_slow_recognition(sent: Sent) -> None:
    slow = Slow()
    talk = Talk(Parts(slow, lambda: lambda _: 1.0, "none"), sent.append)
    ask_aloud(talk, "what_color")
    assert slow.heard.wait(60)
    do(talk, "hands_free", on=True)
    for chunk in chunks(spoken("what_shape")):
        talk.receive_sound(chunk)
    do(talk, "stop")
    slow.goes_on.set()
    wait_until(lambda: not talk._inbox._items)
    talk.close()
    assert not sent.of("started") and sent.state == "idle"


@pytest.mark.parametrize(("kind", "state"), [("press", "listening"), ("stop", "idle")])
def test_a_question_that_comes_after_the_user_speaks_again_is_not_answered(
    talk: Talk, sent: Sent, kind: str, state: str
) -> None:
    ask_aloud(talk, "what_color")
    wait_until(lambda: sent.of("heard"))
    do(talk, kind)  # while the page still sends the frame
    growing = Growing()
    talk.speak(growing.answer(), sent.of("heard")[0]["turn"])
    assert growing.stops == 1 and sent.state == state
    growing = Growing()
    talk.speak(growing.answer())  # typed
    assert growing.stops == 0 and sent.state == "thinking"


def test_words_of_an_interrupted_turn_are_not_asked(sent: Sent) -> None:
    slow = Slow()
    talk = Talk(Parts(slow, lambda: None, "none"), sent.append)
    ask_aloud(talk, "what_color")
    assert slow.heard.wait(60)
    do(talk, "stop")
    slow.goes_on.set()
    do(talk, "press")
    do(talk, "release")
    wait_until(lambda: sent.of("nothing_heard"))  # of the second, empty one
    assert not sent.of("heard")
    talk.close()


def test_no_queue_grows_while_something_is_recognised(sent: Sent) -> None:
    slow = Slow()
    talk = Talk(Parts(slow, lambda: None, "none"), sent.append)
    ask_aloud(talk, "what_color")
    assert slow.heard.wait(60)
    do(talk, "press")
    second = chunks(spoken("everything"))
    for _ in range(20):
        for chunk in second:
            talk.receive_sound(chunk)
    do(talk, "release")
    kept = talk._inbox
    assert kept.dropped == 20 * len(second) - int(LATEST_S * 16000 / 512), "sound of more than 10 s is dropped"
    assert [item.type for item in kept._items if isinstance(item, Command)] == ["press", "release"], "no command is"
    slow.goes_on.set()
    talk.close()


def test_a_refused_question_ends_the_turn(talk: Talk, sent: Sent) -> None:
    ask_aloud(talk, "what_shape")
    wait_until(lambda: sent.of("heard"))
    talk.give_up()
    assert sent.state == "idle"


def test_a_frame_is_left_out_only_while_the_newest_picture_is_the_one_that_shows_the_same(talk: Talk) -> None:
    first, other = (open_picture(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))
    asked = Conversation().with_message("user", first, "What is it?").with_message("assistant", "It is red.")
    assert talk.new_to(Conversation(), [first], is_same=True) == [first], "nothing was asked about yet"
    assert talk.new_to(asked, [other], is_same=True) == []
    assert talk.new_to(asked, [other], is_same=False) == [other]
    assert talk.new_to(asked, [first], is_same=True) == [first], "the newest picture is another one by now"
    assert talk.new_to(Conversation(), [first], is_same=True) == [first], "the chat is a new one"


def test_muted_answers_are_shown_and_not_spoken(talk: Talk, sent: Sent) -> None:
    do(talk, "mute", on=True)
    growing = Growing()
    growing.text = "One. Two."
    growing.done.set()
    talk.speak(growing.answer())
    wait_until(lambda: len(sent.of("say")) == 2)
    wait_until(lambda: sent.state == "idle")
    assert not any(one["browser"] or one["sound"] for one in sent.of("say"))


def test_without_a_recogniser_sound_is_not_kept(sent: Sent) -> None:
    talk = Talk(Parts(None, lambda: None, "none"), sent.append)
    assert not talk.abilities["hears"] and not talk.abilities["hands_free"]
    talk.receive_sound(bytes(BYTES_PER_CHUNK))
    assert not talk._inbox._items
    talk.close()


def test_a_closed_talk_leaves_no_thread(recogniser: Recogniser, sent: Sent) -> None:
    before = set(threading.enumerate())
    talks = [Talk(Parts(recogniser, lambda: None, "none"), sent.append) for _ in range(3)]
    growing = Growing()
    talks[0].speak(growing.answer())
    for talk in talks:
        talk.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert growing.stops == 1


@pytest.mark.parametrize("text", ['{"type": "shout"}', '{"type": "mute", "on": 1}', '{"type": "press", "x": 1}', "[]"])
def test_other_commands_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Command.model_validate_json(text)


def test_of_two_threads_that_tell_the_state_the_last_one_tells_that_of_now(sent: Sent) -> None:
    def send(message: Any) -> None:
        if message == {"type": "state", "state": "idle"} and other.ident is None:
            other.start()
            other.join(0.2)  # without a lock it is done by now
        sent.append(message)

    talk = Talk(Parts(None, lambda: None, "none"), send)
    other = threading.Thread(target=do, args=(talk, "press"))
    do(talk, "stop")
    other.join(60)
    assert sent.state == "listening"
    talk.close()


def test_whose_turn_it_is_changes_under_the_lock_alone(talk: Talk, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    is_held, turns = talk._lock.locked, talk._turns
    names = [name for name in dir(turns) if callable(getattr(turns, name)) and not name.startswith("_")]
    of_turns = [guarded_calls(monkeypatch, turns, name, is_held) for name in names]
    of_answer = guarded_attributes(talk, is_held, "_answer")
    ask_aloud(talk, "what_color")
    wait_until(lambda: sent.of("heard"))
    growing = Growing()
    growing.text = "Red."
    growing.done.set()
    talk.speak(growing.answer(), sent.of("heard")[0]["turn"])
    wait_until(lambda: sent.state == "speaking" and talk._answer is None)
    do(talk, "silent")
    talk.give_up()
    do(talk, "press")
    do(talk, "release")
    wait_until(lambda: sent.of("nothing_heard"))
    monkeypatch.setattr(talk, "_handle", lambda _: 1 / 0)
    do(talk, "stop")
    wait_until(lambda: sent.of("failed") and sent.state == "idle")
    assert all(of_turns) and all(map(all, of_turns)) and of_answer == []


def test_what_is_to_be_handled_changes_under_the_lock_alone() -> None:
    inbox = _Inbox()
    inbox._items, uses = guarded(inbox._items, inbox._new._is_owned)  # type: ignore[attr-defined]
    for item in (bytes(BYTES_PER_CHUNK), Command(type="press"), Command(type="stop")):
        inbox.put(item)
    assert inbox.get() and inbox.has_stop
    inbox.drop_sound()
    assert uses == []


def test_a_failure_is_reported_and_the_next_question_is_heard(sent: Sent, recogniser: Recogniser) -> None:
    class Failing:
        name = "failing"
        words: Callable[..., str] = staticmethod(lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))  # type: ignore[assignment]

    talk = Talk(Parts(Failing(), lambda: None, "none"), sent.append)
    ask_aloud(talk, "what_color")
    wait_until(lambda: sent.of("failed"))
    ask_aloud(talk, "what_color")
    wait_until(lambda: len(sent.of("failed")) == 2 and sent.state == "idle")
    talk.close()


def test_a_recogniser_that_is_loaded_later_is_taken_into_use(sent: Sent, recogniser: Recogniser) -> None:
    parts = Parts(None, lambda: lambda _: 1.0, "none", is_loading=True)
    talk = Talk(parts, sent.append)
    assert (talk.abilities["hears"], talk.abilities["loading"]) == (False, True)
    parts.recogniser, parts.is_loading = recogniser, False
    talk.get_ready()
    assert (talk.abilities["hears"], talk.abilities["loading"], talk.abilities["hands_free"]) == (True, False, True)
    ask_aloud(talk, "what_color")
    wait_until(lambda: sent.of("heard"))
    talk.close()
