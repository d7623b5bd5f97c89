"""One visitor's turns: what is kept, what is not, and that stopping stops."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace

import pytest
from PIL import Image

from omnilmm.conversation import Conversation, Message, Picture, Thought
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta, ThoughtDelta
from omnilmm.engine.options import BeamSearch, Sampling
from omnilmm.errors import InputError
from omnilmm.images.pixels import open_picture
from omnilmm.model_lookup import find
from omnilmm.sentences import Sentence
from omnilmm.ui import session as session_module
from omnilmm.ui.draft import Draft
from omnilmm.ui.note import Note
from omnilmm.ui.samples import samples
from omnilmm.ui.session import Session
from omnilmm.ui.session_store import SavedSession
from omnilmm.ui.texts import ENGLISH, texts_in
from tests.images.real_photo import photo
from tests.ui.scripted import Held, ScriptedEngine, capable, finished
from tests.waiting import wait_until

OPTIONS = Sampling()
ONE, SEVERAL = find("minicpm-v-2"), find("minicpm-v-2.6")  # pictures that they see at a time
RED, BLUE = (Picture(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))


@pytest.fixture(autouse=True)
def _render_every_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "REFRESH_S", 0)


def spoken(session: Session) -> list[str]:
    return [message.text for message in session.conversation.messages]


def said(notes: Iterable[Note | None]) -> list[str]:
    return [ENGLISH.note(note) for note in notes]


def status_text(event: Event) -> str:
    return ENGLISH.note(Draft(Conversation(), Message("user", ("hello",))).after(event).note)


def words(*spoken_words: str) -> Iterable[Event]:
    for word in spoken_words:
        yield TextDelta(word)


def test_a_turn_is_shown_as_it_grows_and_kept() -> None:
    session = Session()
    drafts = list(session.ask(ScriptedEngine(), ("one two three",), OPTIONS))
    assert [draft.text for draft in drafts] == ["", "one", "one two", "one two three", "one two three"]
    assert [draft.state for draft in drafts] == ["generating"] * 4 + ["completed"]
    assert spoken(session) == ["one two three", "one two three"]
    assert said(session.notes) == ["0.5 s to first word · 4 tokens/s · 10 text tokens · 25 picture tokens"]
    assert not session.busy


def test_the_whole_conversation_with_all_pictures_is_asked() -> None:
    engine, session = ScriptedEngine(card=SEVERAL), Session()
    for question in ((RED, "one"), ("two",), (BLUE, "three")):
        list(session.ask(engine, question, OPTIONS))
    asked, options = engine.asked[-1]
    assert asked.pictures == (RED, BLUE)
    assert [message.role for message in asked.messages] == ["user", "assistant"] * 2 + ["user"]
    assert options is OPTIONS


def test_a_model_of_one_picture_sees_the_newest_and_says_so() -> None:
    engine, session = ScriptedEngine(card=ONE), Session()
    for question in ((RED, "one"), ("two",), (BLUE, "three"), ("four",)):
        list(session.ask(engine, question, OPTIONS))
    assert [conversation.pictures for conversation, _ in engine.asked] == [(RED,), (RED,), (BLUE,), (BLUE,)]
    assert [len(conversation.messages) for conversation, _ in engine.asked] == [1, 3, 1, 3]
    assert [ENGLISH.set_aside in note for note in said(session.notes)] == [False, False, True, False]
    assert len(session.conversation.messages) == 8
    list(session.regenerate(engine, OPTIONS))
    list(session.regenerate(engine, OPTIONS))
    assert len(engine.asked[-1][0].messages) == 3
    assert len(session.conversation.messages) == 8


def test_progress_is_noted_until_the_first_word_and_never_after_it() -> None:
    assert status_text(Progress("waiting", total=2)) == "queued: 2 ahead of you"
    assert status_text(Progress("encoding", total=1)) == "looking at the picture …"
    assert status_text(Progress("encoding", total=3)) == "looking at 3 pictures …"
    assert status_text(Progress("encoding", done=2, total=3)) == "looking at picture 2 of 3 …"
    assert status_text(Progress("encoding", done=1, total=1)) == "looking at the picture …"
    assert status_text(Progress("encoding", total=0)) == ENGLISH.thinking
    assert status_text(Progress("prefill", 0, 900)) == "reading the prompt …"
    assert status_text(Progress("prefill", 360, 900)) == "reading the prompt 40% …"
    assert status_text(Progress("downloading", 1, 4)) == "downloading the model 25% …"
    talking = Draft(Conversation(), Message("user", ("hello",))).after(TextDelta("Well"))
    assert talking.after(Progress("encoding", total=1)) == talking


def test_seconds_count_before_the_first_word_and_tokens_after_it() -> None:
    draft = Draft(Conversation(), Message("user", ("hello",)), asked_s=100.0)
    reading = Progress("prefill", 4, 10)
    assert ENGLISH.note(draft.after(reading, 103.9).note) == "reading the prompt 40% … · 3 s"
    assert texts_in("zh").note(draft.after(reading, 165.0).note) == "正在读取提示词 40%… · 1 分 5 秒"
    assert ENGLISH.note(draft.after(TextDelta("Well", 0), 104.0).note) == ""  # an engine that does not count
    grown = draft.after(TextDelta("Well", 4), 110.0)
    assert ENGLISH.note(grown.note) == "4 tokens"
    assert ENGLISH.note(grown.after(TextDelta(",", 9), 110.1).note) == "9 tokens"  # too early for a speed
    grown = grown.after(TextDelta(", yes", 25), 112.0)
    assert ENGLISH.note(grown.note) == "25 tokens · 10 tokens/s"
    slow = draft.after(Preview("Well", 1), 110.0).after(Preview("Yes", 3), 115.0)
    assert ENGLISH.note(slow.note) == f"{ENGLISH.preview} · 3 tokens · 0.4 tokens/s"


def test_a_heartbeat_gives_the_same_draft_again_so_that_a_page_need_not_be_rendered() -> None:
    beat = Progress("encoding", total=1)
    script = [beat, beat, TextDelta("Yes", 1), beat, beat, finished("Yes.")]
    _, *drafts = Session().ask(ScriptedEngine(lambda _: script), ("?",), OPTIONS)
    assert [draft == before for before, draft in itertools.pairwise(drafts)] == [True, False, True, True, False]


def test_a_preview_replaces_the_one_before_and_the_winner_replaces_it() -> None:
    def search(_: Conversation) -> Iterable[Event]:
        yield Preview("A cat")
        yield Preview("The dog")
        yield finished("The dogs.")

    session = Session()
    drafts = list(session.ask(ScriptedEngine(search), ("?",), BeamSearch()))
    assert [(draft.text, *said([draft.note])) for draft in drafts[1:3]] == [
        ("A cat", ENGLISH.preview),
        ("The dog", ENGLISH.preview),
    ]
    assert spoken(session)[-1] == "The dogs."


def test_stop_keeps_what_was_said_and_closes_the_engine() -> None:
    engine, session = ScriptedEngine(lambda _: words("a", "b", "c")), Session()
    drafts = session.ask(engine, ("?",), OPTIONS)
    assert [next(drafts).text for _ in range(3)] == ["", "a", "ab"]
    session.stop()
    assert [draft.state for draft in drafts] == ["completed"]
    assert engine.closed == 1
    assert spoken(session) == ["?", "abc"]  # the word that was on its way when Stop came
    assert said(session.notes) == [ENGLISH.stopped]


def test_stop_before_the_first_word_withdraws_the_question() -> None:
    session = Session()
    drafts = session.ask(ScriptedEngine(lambda _: [Progress("waiting", total=1)] * 9), ("?",), OPTIONS)
    next(drafts)
    session.stop()
    assert [draft.state for draft in drafts] == ["cancelled"]
    assert spoken(session) == []


def test_a_failure_leaves_the_conversation_as_it_was() -> None:
    def fail(_: Conversation) -> Iterable[Event]:
        yield TextDelta("half an")
        raise RuntimeError("the device caught fire")

    engine, session = ScriptedEngine(), Session()
    list(session.ask(engine, ("one",), OPTIONS))
    before = session.conversation
    engine.script = fail
    for turn in (session.ask(engine, ("two",), OPTIONS), session.regenerate(engine, OPTIONS)):
        with pytest.raises(RuntimeError, match="fire"):
            list(turn)
        assert session.conversation is before
        assert not session.busy
    with pytest.raises(InputError, match="empty"):
        list(session.ask(engine, (RED, "  "), OPTIONS))
    assert len(engine.asked) == 3  # the empty question never came that far


def test_regenerate_replaces_the_last_answer_alone() -> None:
    engine, session = ScriptedEngine(), Session()
    with pytest.raises(InputError, match="regenerate"):
        list(session.regenerate(engine, OPTIONS))
    list(session.ask(engine, ("one",), OPTIONS))
    list(session.ask(engine, ("two",), OPTIONS))
    engine.script = lambda _: [TextDelta("new"), finished("new")]
    list(session.regenerate(engine, OPTIONS))
    assert spoken(session) == ["one", "one", "two", "new"]
    assert len(session.notes) == 2


def test_closing_the_iterator_closes_the_engine_and_keeps_nothing() -> None:
    engine, session = ScriptedEngine(lambda _: words("a", "b", "c")), Session()
    drafts = session.ask(engine, ("?",), OPTIONS)
    next(drafts), next(drafts)
    drafts.close()  # type: ignore[attr-defined]
    assert engine.closed == 1
    assert spoken(session) == []
    assert not session.busy


class Slow:
    """A script that goes on until it is stopped, driven by another thread as a page's server does.

    It takes its time, since each of its drafts has all that was said so far.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.spoke = session, threading.Event()
        self.engine = ScriptedEngine(self.script)
        self.drafts: list[Draft] = []
        self.thread = threading.Thread(target=self._drive)
        self.thread.start()
        assert self.spoke.wait(60)

    def script(self, _: Conversation) -> Iterator[Event]:
        while True:
            yield TextDelta("a")
            self.spoke.set()
            time.sleep(0.01)

    def _drive(self) -> None:
        self.drafts.extend(self.session.ask(self.engine, ("endless",), OPTIONS))


def test_a_new_question_stops_the_running_answer_and_follows_it() -> None:
    session = Session()
    slow = Slow(session)
    list(session.ask(ScriptedEngine(), ("next",), OPTIONS))
    slow.thread.join(60)
    assert spoken(session)[0::2] == ["endless", "next"]
    assert spoken(session)[1].startswith("a")
    assert said(session.notes)[0] == ENGLISH.stopped
    assert slow.engine.closed == 1


class LateForNewChat:
    """A turn lock that the thread of "New chat" gets last, as it may happen on a busy server."""

    def __init__(self) -> None:
        self.lock, self.is_free = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread().name == "new chat":
            assert self.is_free.wait(60)
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_a_question_right_after_new_chat_is_answered_and_stays() -> None:
    engine, session, late = ScriptedEngine(), Session(), LateForNewChat()
    list(session.ask(engine, ("Old?",), OPTIONS))
    session._turn = late  # type: ignore[assignment]
    new_chat = threading.Thread(target=session.clear, name="new chat")
    new_chat.start()
    wait_until(lambda: not session.conversation.messages)
    assert [draft.state for draft in session.ask(engine, ("New?",), OPTIONS)][-1] == "completed"
    late.is_free.set()
    new_chat.join(60)
    assert spoken(session) == ["New?", "New?"]
    assert [message.text for message in engine.asked[-1][0].messages] == ["New?"]


def test_clear_forgets_the_running_answer_too() -> None:
    session = Session()
    slow = Slow(session)
    session.clear()
    assert slow.engine.closed == 1
    slow.thread.join(60)
    assert slow.drafts[-1].state == "discarded"
    assert spoken(session) == []


class InOrder(ScriptedEngine):
    """Notes how many streams were closed when it was told to forget."""

    def forget(self, owner: Hashable) -> None:
        super().forget(self.closed)


def test_a_new_chat_is_empty_at_once_and_the_engine_forgets_what_the_old_answer_left() -> None:
    held, session = Held("a", "b"), talked("before")
    engine = InOrder(held)
    drafts: list[Draft] = []
    answer = threading.Thread(target=lambda: drafts.extend(session.ask(engine, ("held",), OPTIONS)))
    answer.start()
    assert held.waits.wait(60), "an answer that has not taken its first word yet ends with it"
    clearing = threading.Thread(target=session.clear)
    clearing.start()
    wait_until(lambda: engine.forgotten)
    assert spoken(session) == [] and clearing.is_alive(), "the page is drawn anew while the old answer still ends"
    held.goes_on.set()
    answer.join(60), clearing.join(60)
    assert drafts[-1].state == "discarded" and spoken(session) == []
    assert engine.forgotten == [0, 1], "an ending answer leaves its prefix, which is forgotten after it"


def test_what_the_model_should_keep_in_mind_may_change_while_it_answers() -> None:
    session, engine = Session(), ScriptedEngine(card=SEVERAL)
    session.set_system("Be brief.")
    drafts = session.ask(engine, ("one",), OPTIONS)
    next(drafts)
    session.set_system("Rhyme.")
    list(drafts)
    list(session.ask(engine, ("two",), OPTIONS))
    assert [conversation.system for conversation, _ in engine.asked] == ["Be brief.", "Rhyme."]
    assert session.conversation.system == "Rhyme."


class Watched(Session):
    """Somebody takes a snapshot in the middle of a change."""

    seen: SavedSession | None = None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "conversation" and getattr(self, "watches", False):
            self.watches = False
            self.other = threading.Thread(target=lambda: setattr(self, "seen", self.snapshot))
            self.other.start()
            self.other.join(0.2)  # without a lock it is done by now


def test_a_chat_is_never_seen_with_the_notes_of_another_one() -> None:
    session = Watched()
    two = talked("one", "two").snapshot
    session.watches = True
    session.load(two.conversation, two.notes, two.chat)
    session.other.join(60)
    assert session.seen == two


def test_who_left_is_stopped_and_forgotten() -> None:
    slow = Slow(Session())
    slow.session.close()
    slow.thread.join(60)
    assert slow.engine.closed == 1
    assert slow.drafts[-1].state == "discarded" and spoken(slow.session) == []
    engine = ScriptedEngine()
    assert list(slow.session.ask(engine, ("more",), OPTIONS)) == []
    assert engine.asked == []


def test_many_words_are_not_rendered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "REFRESH_S", 60)
    session = Session()
    drafts = list(session.ask(ScriptedEngine(), ("word " * 1000,), OPTIONS))
    assert len(drafts) <= 3
    assert drafts[-1].text == "word " * 1000


def test_notes_say_what_went_differently() -> None:
    plain: Finished = finished("Well.")
    assert status_text(plain) == "0.5 s to first word · 4 tokens/s · 10 text tokens · 25 picture tokens"
    cut = finished("Well", reason="length", dropped_messages=4)
    assert status_text(cut).endswith(f"{ENGLISH.length_limit} · the oldest 4 messages no longer fit")
    assert ENGLISH.silent in status_text(finished(""))


def test_each_visitor_has_a_key_of_their_own_and_the_engine_forgets_it_with_them() -> None:
    engine, a, b = ScriptedEngine(), Session(), Session()
    for session in (a, b, a):
        list(session.ask(engine, ("hello",), OPTIONS))
    first, second, third = engine.owners
    assert first == third != second and None not in engine.owners
    assert not engine.forgotten
    a.close()
    assert engine.forgotten == [first]
    b.clear()
    assert set(engine.forgotten) == {first, second}


def test_who_never_asked_leaves_quietly() -> None:
    Session().clear()
    Session().close()


def talked(*questions: str, engine: ScriptedEngine | None = None) -> Session:
    session = Session()
    for question in questions:
        list(session.ask(engine or ScriptedEngine(), (question,), OPTIONS))
    return session


def test_an_edited_question_replaces_what_followed_once_it_is_answered() -> None:
    session = talked("one", "two", "three")
    drafts = session.edit(ScriptedEngine(), 2, (RED, "other"), OPTIONS)
    first = next(drafts)
    assert [message.text for message in first.history.messages] == ["one", "one"]
    assert spoken(session) == ["one", "one", "two", "two", "three", "three"]
    list(drafts)
    assert spoken(session) == ["one", "one", "other", "other"]
    assert session.conversation.pictures == (RED,) and len(session.notes) == 2


def test_a_failed_edit_leaves_the_conversation_as_it_was() -> None:
    def fails(_: Conversation) -> Iterator[Event]:
        yield TextDelta("half")
        raise RuntimeError("out of luck")

    session = talked("one", "two")
    before = session.conversation, session.notes
    with pytest.raises(RuntimeError):
        list(session.edit(ScriptedEngine(fails), 0, ("other",), OPTIONS))
    assert (session.conversation, session.notes) == before


@pytest.mark.parametrize("number", [-1, 1, 4, 99])
def test_only_a_question_can_be_edited(number: int) -> None:
    session = talked("one", "two")
    with pytest.raises(InputError, match=f"no question number {number}"):
        list(session.edit(ScriptedEngine(), number, ("other",), OPTIONS))
    assert len(session.conversation.messages) == 4


def test_undo_gives_the_last_question_back() -> None:
    session = talked("one", "two")
    assert session.undo().text == "two"
    assert spoken(session) == ["one", "one"] and len(session.notes) == 1
    session.undo()
    with pytest.raises(InputError, match=str(Sentence("nothing_to_undo"))):
        session.undo()


def test_a_cut_answer_can_go_on_and_a_whole_one_cannot() -> None:
    def cut(_: Conversation) -> Iterator[Event]:
        yield TextDelta("half")
        yield finished("half", reason="length")

    session = talked("one")
    assert not session.can_continue and not Session().can_continue
    list(session.ask(ScriptedEngine(cut), ("two",), OPTIONS))
    assert session.can_continue


def test_the_system_prompt_counts_from_the_next_question_and_outlives_a_new_chat() -> None:
    engine, session = ScriptedEngine(card=find("minicpm-v-2.6")), Session()
    session.set_system("  Be brief. ")
    list(session.ask(engine, ("one",), OPTIONS))
    session.clear()
    session.set_system("")
    list(session.ask(engine, ("two",), OPTIONS))
    assert [conversation.system for conversation, _ in engine.asked] == ["Be brief.", None]
    without = ScriptedEngine()
    session.set_system("Be brief.")
    list(session.ask(without, ("three",), OPTIONS))
    assert without.asked[0][0].system is None


def test_a_conversation_can_be_loaded_and_another_model_continues_it() -> None:
    first, second, session = ScriptedEngine(), ScriptedEngine(), talked("old")
    imported = Conversation().with_message("user", RED, "one").with_message("assistant", "1")
    session.load(imported)
    assert session.conversation == imported and session.notes == (None,)
    list(session.ask(first, ("two",), OPTIONS))
    list(session.ask(second, ("three",), OPTIONS))
    assert [message.text for message in second.asked[0][0].messages] == ["one", "1", "two", "two", "three"]
    assert len(first.forgotten) == 1  # what the first model kept of it is of no use any more


def test_notes_are_said_in_the_language_of_the_visitor() -> None:
    session = talked("one")
    assert "首字" in texts_in("zh").note(session.notes[0])
    session.texts = texts_in("zh")
    session.undo()
    with pytest.raises(InputError) as refused:
        session.undo()
    assert session.texts.translate(refused.value) == "还没有可以撤销的内容。"


def asked_after(change: str) -> Conversation:
    """What a model that takes one picture is asked after two questions about two pictures, and then this."""
    engine, session = ScriptedEngine(card=ONE), Session()
    list(session.ask(engine, (RED, "one"), OPTIONS))
    list(session.ask(engine, (BLUE, "two"), OPTIONS))
    if change == "undo":
        session.undo()
    elif change == "edit":
        list(session.edit(engine, 2, ("other",), OPTIONS))
    elif change == "import":
        turns = Conversation().with_message("user", BLUE, "a").with_message("assistant", "1")
        session.load(turns.with_message("user", "b").with_message("assistant", "2"))
    list(session.ask(engine, ("three",), OPTIONS))
    return engine.asked[-1][0]


@pytest.mark.parametrize(
    ("change", "picture", "texts_asked"),
    [
        ("nothing", BLUE, ["two", "two", "three"]),
        ("undo", RED, ["one", "one", "three"]),
        ("edit", RED, ["one", "one", "other", "other", "three"]),
        ("import", BLUE, ["a", "1", "b", "2", "three"]),
    ],
)
def test_a_model_of_one_picture_sees_the_newest_that_is_left(
    change: str, picture: Picture, texts_asked: list[str]
) -> None:
    asked = asked_after(change)
    assert asked.pictures == (picture,)
    assert [message.text for message in asked.messages] == texts_asked


def test_after_a_model_of_several_pictures_one_of_one_goes_on_with_the_newest() -> None:
    several, one, session = ScriptedEngine(card=SEVERAL), ScriptedEngine(card=ONE), Session()
    list(session.ask(several, (RED, BLUE, "both"), OPTIONS))
    list(session.ask(several, ("and?",), OPTIONS))
    list(session.ask(one, ("plain",), OPTIONS))
    assert one.asked[-1][0].pictures == (BLUE,)
    assert [message.text for message in one.asked[-1][0].messages] == ["both", "both", "and?", "and?", "plain"]
    assert len(session.conversation.pictures) == 2


def sampled(session: Session, number: int, engine: ScriptedEngine | None = None) -> list[Draft]:
    """Click a sample."""
    parts = (open_picture(samples()[number].picture), samples()[number].question)
    return list(session.ask_in_new_chat(engine or ScriptedEngine(), parts, OPTIONS))


def test_a_sample_is_asked_in_a_new_chat_and_undo_brings_the_one_before_back() -> None:
    engine, session = ScriptedEngine(), talked("mine")
    before = session.snapshot
    drafts = sampled(session, 0, engine)
    assert all(draft.starts_new_chat for draft in drafts) and session.reopens
    assert len(engine.asked[0][0].messages) == 1, "the model sees the sample alone"
    assert spoken(session) == [samples()[0].question] * 2
    list(session.ask(engine, ("and?",), OPTIONS))
    assert not session.reopens
    session.undo()
    assert session.reopens and not sampled(session, 1)[-1].starts_new_chat, (
        "nothing of the visitor's own was in the first one"
    )
    assert session.undo().text == samples()[1].question
    assert session.snapshot == before and not session.reopens
    sampled(session, 0)
    session.clear()
    assert session.earlier is None


def test_a_sample_that_fails_or_is_stopped_leaves_the_chat_as_it_was() -> None:
    def fails(_: Conversation) -> Iterator[Event]:
        yield TextDelta("half")
        raise RuntimeError("boom")

    session = talked("mine")
    before = session.snapshot
    with pytest.raises(RuntimeError):
        sampled(session, 0, ScriptedEngine(fails))
    assert session.snapshot == before

    def stopped(_: Conversation) -> Iterator[Event]:
        session.stop()
        yield Progress("encoding")

    assert sampled(session, 0, ScriptedEngine(stopped))[-1].state == "cancelled"
    assert session.snapshot == before


def test_each_turn_about_a_photo_says_so_where_the_model_knows_drawings_only() -> None:
    cat, drawing = photo(), open_picture(samples()[0].picture)
    session, engine = Session(), ScriptedEngine(card=capable(drawings_only=True))
    for parts in ((cat, "one"), ("two",), (drawing, "three"), ("four",), (drawing, cat, "five")):
        first, *_ = list(session.ask(engine, parts, OPTIONS))
        assert first.is_photo == (parts[-1] not in ("three", "four")), parts[-1]
    assert [note.is_photo for note in session.notes if note] == [True, True, False, False, True]
    list(session.ask(ScriptedEngine(card=SEVERAL), ("six",), OPTIONS))
    assert session.notes[-1] and not session.notes[-1].is_photo, "this model knows photos"


# What a model thinks before its answer

THOUGHT = Thought("Hm, well.", 3, 12.4)


def test_a_thought_grows_before_the_answer_and_is_kept_beside_it() -> None:
    script = [ThoughtDelta("Hm,", 2), ThoughtDelta(" well.", 3), TextDelta("Yes", 4), finished("Yes.", thought=THOUGHT)]
    draft = Draft(Conversation(), Message("user", ("Is it?",)), asked_s=0.0)
    grown = draft.after(script[0], 2.0).after(script[1], 5.0)
    assert grown.thought == Thought("Hm, well.", 3, 3.0, is_closed=False) and not grown.text
    assert ENGLISH.note(grown.note) == "3 tokens · 0.33 tokens/s"
    assert ENGLISH.thought_line(grown.thought, is_partial=True) == "Thinking …"
    answered = grown.after(script[2], 6.0)
    assert answered.text == "Yes" and answered.thought == replace(grown.thought, is_closed=True)
    session, engine = Session(), ScriptedEngine(lambda _: script, capable(thinking=False))
    *_, last = session.ask(engine, ("Is it?",), Sampling(thinking=True))
    assert last.thought == THOUGHT == session.conversation.messages[-1].thought
    assert session.conversation.messages[-1].text == "Yes."
    assert engine.asked[0][1] == Sampling(thinking=True)
    engine.card = capable()  # without a switch: what was set for the model before is left out
    list(session.ask(engine, ("And?",), Sampling(thinking=True)))
    assert engine.asked[1][1] == Sampling()


def test_stop_in_the_thought_keeps_it_and_there_is_nothing_to_continue() -> None:
    def think(_: Conversation) -> Iterator[Event]:
        yield ThoughtDelta("Hm", 1)
        session.stop()
        yield ThoughtDelta(", well", 2)

    session = Session()
    *_, last = session.ask(ScriptedEngine(think), ("Is it?",), Sampling())
    assert last.state == "completed" and last.thought and not last.thought.is_closed and last.text == ""
    assert session.conversation.messages[-1].thought == last.thought
    assert ENGLISH.note(session.notes[-1]) == "stopped" and not session.can_continue
    assert ENGLISH.thought_line(last.thought) == "Thought, cut off, 2 tokens"
    assert session.undo().text == "Is it?"


def test_beams_show_the_thought_of_the_best_so_far() -> None:
    draft = Draft(Conversation(), Message("user", ("Is it?",)))
    opened = draft.after(Preview("", 2, Thought("A", 2, 0.1, is_closed=False)))
    assert opened.thought and (opened.thought.text, opened.text) == ("A", "")
    assert opened.after(Preview("No", 3)).thought is None


@pytest.mark.parametrize(
    ("thought", "said"),
    [
        (THOUGHT, ("Thought for 12 s, 3 tokens", "思考了 12 秒，3 词元")),
        (Thought("a", 340, 190.0), ("Thought for 3 min 10 s, 340 tokens", "思考了 3 分 10 秒，340 词元")),
        (Thought("a"), ("Thought", "思考过程")),
        (Thought("a", 5, 2.0, is_closed=False), ("Thought, cut off, 5 tokens", "思考被中断，5 词元")),
    ],
)
def test_the_fold_says_how_long_it_took(thought: Thought, said: tuple[str, str]) -> None:
    assert tuple(texts_in(code).thought_line(thought) for code in ("en", "zh")) == said


def test_a_note_says_that_the_limit_was_reached_in_the_thought() -> None:
    cut = finished("", reason="length", thought=replace(THOUGHT, is_closed=False))
    assert ENGLISH.note(Note(cut)).endswith("the length limit was reached while thinking, before the answer: raise it")
    assert "empty answer" not in ENGLISH.note(Note(cut))
    assert ENGLISH.note(Note(finished("Yes", reason="length", thought=THOUGHT))).endswith("stopped at the length limit")
