"""What a model thinks before it answers is told apart from the answer, wherever its marks come from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Event, Finished, Preview, TextDelta, ThoughtDelta
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.options import BeamSearch, Options, Sampling, options_for
from omnilmm.engine.thoughts import AnswerStream, ThinkingFormat, ThoughtSplitter
from omnilmm.errors import OptionsError
from omnilmm.hardware import Choice
from omnilmm.models.library import load_processor
from tests.engine.conftest import CARD, heard, saying
from tests.models.tiny import tiny_model, tiny_processor
from tests.models.tiny_library import save_library_model
from tests.prompts.byte_tokenizer import CHATML, byte_tokenizer

CPU, FP32 = Choice("cpu", "test"), Choice("fp32", "test")
QUESTION = Conversation().with_message("user", Picture(Image.new("RGB", (60, 40), "red")), "What is it?")
THINKING: dict[str, Options] = {
    "sampling": Sampling(thinking=True, max_new_tokens=60),
    "beam": BeamSearch(thinking=True, max_new_tokens=60),
}
both_modes = pytest.mark.parametrize("options", THINKING.values(), ids=THINKING)
# As a template of Qwen3's line ends: with its thought open, or with one that is closed at once.
SWITCH = (
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is defined and not "
    "enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif -%}"
)


# --- text in pieces ---------------------------------------------------------------------------------------------------

SAID = {
    "<think>\nHm, <b>.\n</think>\n\nYes. </think>": ("Hm, <b>.", "Yes. </think>"),
    "\n <think>a  b</think>Yes": ("a  b", "Yes"),
    "<think>\n\n</think>\n\nYes": ("", "Yes"),
    "<think>never </thin": ("never </thin", ""),
    "<thin": ("", "<thin"),
    " \n a ": ("", " \n a "),
    "Yes, <think>no</think>": ("", "Yes, <think>no</think>"),
    "<think>思考🙂</think>\n好": ("思考🙂", "好"),
}


def split(pieces: list[str], *, is_open: bool = False) -> tuple[str, str]:
    splitter = ThoughtSplitter(is_open=is_open, by_text=True)
    deltas = [delta for piece in pieces for delta in splitter.feed(piece)] + splitter.finish()
    thought, text = ("".join(text for is_thought, text in deltas if is_thought is kind) for kind in (True, False))
    return thought, text


@given(st.sampled_from(list(SAID)), st.lists(st.integers(0, 45), max_size=45))
def test_marks_are_found_in_the_text_wherever_it_is_cut(said: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    pieces = [said[begin:end] for begin, end in pairwise(places)]
    assert split(pieces) == SAID[said]
    if said.startswith("<think>"):
        opened = ["", *pieces] if not pieces[0] else pieces
        without = "".join(opened).removeprefix("<think>")
        assert split([*without], is_open=True) == SAID[said]


def stream_of(tokenizer: PreTrainedTokenizerFast, said: str, **how: Any) -> AnswerStream:
    stream = AnswerStream(tokenizer, **how)
    deltas = [delta for token in tokenizer(said)["input_ids"] for delta in stream.add([token])] + stream.finish()
    assert "".join(text for is_thought, text in deltas if is_thought) == stream.thought
    assert "".join(text for is_thought, text in deltas if not is_thought) == stream.text
    return stream


def test_a_mark_that_is_a_token_is_that_token_alone() -> None:
    """A model that thinks about `</think>` in letters goes on thinking; suppressed or not, the token is a mark."""
    tokenizer = byte_tokenizer([*CHATML, "<think>", "</think>"])
    added = tokenizer.get_added_vocab()
    marks = added["<think>"], added["</think>"]
    thinking = ThinkingFormat(False, frozenset({True}), marks)
    letters = [*tokenizer("<")["input_ids"], *tokenizer("/think>")["input_ids"]]
    ids = [*tokenizer("Hm ")["input_ids"], *letters, *tokenizer(" 🙂\n</think>\n\nYes 🙂")["input_ids"]]
    for suppressed in (frozenset[int](), frozenset(marks)):
        stream = AnswerStream(tokenizer, suppressed, thinking, is_open=True)
        for token in ids:
            stream.add([token])
        stream.finish()
        assert (stream.thought, stream.text) == ("Hm </think> 🙂", "Yes 🙂")
        assert stream.thought_tokens == ids.index(marks[1]) + 1
    whole = AnswerStream(tokenizer, frozenset(), thinking, is_open=True)
    whole.add(ids)
    whole.finish()
    assert (whole.thought, whole.text, whole.thought_tokens) == (stream.thought, stream.text, stream.thought_tokens)


@pytest.mark.parametrize("said", SAID)
def test_marks_of_several_tokens_are_found_as_well(said: str) -> None:
    thinking = ThinkingFormat(None, frozenset(), None)
    stream = stream_of(byte_tokenizer(CHATML), said, thinking=thinking)
    assert (stream.thought, stream.text) == SAID[said]
    closed = said.find("</think>") + len("</think>")
    if stream.thought and not stream.in_thought:  # from "<think>" to "</think>": a token is a byte here
        assert stream.thought_tokens >= len(said[:closed].lstrip().encode()) - len("<think>")


def test_without_a_format_marks_are_text() -> None:
    said = "<think>a</think> b"
    assert stream_of(byte_tokenizer(CHATML), said).text == said


# --- MiniCPM-V 4.5 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    card = CARD.model_copy(update={"family": "minicpm-v-4.5"})
    return LocalEngine(tiny_model("4.5"), tiny_processor("4.5"), card, CPU, FP32)


def ids_of(engine: LocalEngine, text: str) -> list[int]:
    ids: list[int] = engine.backend.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def last(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@both_modes
def test_a_thought_comes_before_the_answer_and_is_no_part_of_it(engine: LocalEngine, options: Options) -> None:
    ids = ids_of(engine, "Red? 🙂\n</think>\n\nIt is red.")
    with saying(engine, ids):
        events = heard(engine, QUESTION, options)
    done = last(events)
    assert done.thought and done.thought.text == "Red? 🙂" and done.thought.is_closed
    assert done.thought.tokens == ids.index(engine.backend.tokenizer.get_added_vocab()["</think>"]) + 1
    assert done.thought.seconds >= 0
    assert (done.text, done.reason, done.usage.new_tokens) == ("It is red.", "end", len(ids) + 1)
    if isinstance(options, BeamSearch):
        previews = [event for event in events if isinstance(event, Preview)]
        assert any(shown.thought and not shown.thought.is_closed and not shown.text for shown in previews)
        assert previews[-1].text == done.text and previews[-1].thought is not None
    else:
        said = [event for event in events if isinstance(event, ThoughtDelta | TextDelta)]
        kinds = [type(event) for event in said]
        assert kinds == sorted(kinds, key=lambda kind: kind is TextDelta) and len(set(kinds)) == 2
        assert "".join(event.text for event in said if isinstance(event, ThoughtDelta)) == done.thought.text
        assert "".join(event.text for event in said if isinstance(event, TextDelta)) == done.text
        counts = [event.new_tokens for event in said]
        assert counts == sorted(counts)


@both_modes
def test_the_length_limit_counts_both_and_says_what_was_cut(engine: LocalEngine, options: Options) -> None:
    ids = ids_of(engine, "Hm</think>Yes, it is")
    for most, cut_in_thought in ((2, True), (len(ids), False)):
        with saying(engine, ids):
            done = last(list(engine.stream(QUESTION, type(options)(thinking=True, max_new_tokens=most))))
        assert (done.reason, done.usage.new_tokens, done.is_cut_in_thought) == ("length", most, cut_in_thought)
        assert done.thought and done.thought.is_closed is not cut_in_thought
        assert done.text == ("" if cut_in_thought else "Yes, it is")
    assert done.thought.text == "Hm"


@both_modes
def test_a_thought_that_the_model_never_closes_is_no_answer(engine: LocalEngine, options: Options) -> None:
    with saying(engine, ids_of(engine, "Well")):
        done = last(list(engine.stream(QUESTION, options)))
    assert (done.text, done.reason, done.is_cut_in_thought) == ("", "end", False)
    assert done.thought and done.thought.text == "Well" and not done.thought.is_closed


def test_off_is_the_published_default_and_an_empty_thought_is_none(engine: LocalEngine) -> None:
    assert engine.card.thinking is False
    for options in (Sampling(max_new_tokens=60), Sampling(thinking=False, max_new_tokens=60)):
        with saying(engine, ids_of(engine, "It is red.")):
            done = last(list(engine.stream(QUESTION, options)))
        assert (done.text, done.thought) == ("It is red.", None)
    prompts = [engine.backend.processor.apply_chat_template(QUESTION, enable_thinking=on) for on in (None, False, True)]
    assert prompts[0] == prompts[1] and prompts[0].endswith("assistant\n<think>\n\n</think>\n\n")
    assert prompts[2].endswith("<|im_start|>assistant\n<think>\n")
    lengths = [engine.backend.length(QUESTION, Sampling(thinking=on)) for on in (None, False, True)]
    assert lengths[0] == lengths[1] == lengths[2] + 4  # of single bytes


def test_earlier_thoughts_and_typed_marks_do_not_reach_the_prompt(engine: LocalEngine) -> None:
    with saying(engine, ids_of(engine, "Secret</think>Red.")):
        done = last(list(engine.stream(QUESTION, THINKING["sampling"])))
    said = Conversation(QUESTION.messages).with_message("assistant", done.text)
    asked = said.with_message("user", "<think>\nI am done.\n</think>\n\nWhy?")
    ids = engine.backend.processor.prompt(asked, thinking=True).input_ids
    assert "Secret" not in engine.backend.tokenizer.decode(ids)
    added = engine.backend.tokenizer.get_added_vocab()
    assert (ids.count(added["<think>"]), ids.count(added["</think>"])) == (1, 0)


@pytest.mark.parametrize(
    "options", [Sampling(0, thinking=True, max_new_tokens=10), BeamSearch(thinking=True, max_new_tokens=10)]
)
def test_a_turn_after_a_thought_is_reused_as_it_is_recomputed(engine: LocalEngine, options: Options) -> None:
    forgetful = LocalEngine(engine.model, engine.processor, engine.card, CPU, FP32, feature_bytes=0, prefix_bytes=0)
    with saying(engine, ids_of(engine, "Hm, hm.</think>Red.")):
        first = last(list(engine.stream(QUESTION, Sampling(thinking=True, max_new_tokens=60), "me")))
    assert first.text == "Red."
    more = QUESTION.with_message("assistant", first.text).with_message("user", "Why?")
    again, anew = (last(list(one.stream(more, options, "me"))) for one in (engine, forgetful))
    assert again.usage.reused > 0 == anew.usage.reused
    assert again.thought is not None and anew.thought is not None
    assert (again.text, again.thought.text) == (anew.text, anew.thought.text)


def test_closing_it_in_the_thought_stops_the_model(engine: LocalEngine) -> None:
    with saying(engine, ids_of(engine, "Hm, hm, hm, hm")):
        events = engine.stream(QUESTION, THINKING["sampling"])
        next(event for event in events if isinstance(event, ThoughtDelta))
        events.close()
    assert not engine.scheduler.count


def test_a_model_without_a_switch_says_so(make_engine: Callable[..., LocalEngine]) -> None:
    plain = make_engine()
    assert plain.card.thinking is None
    for ask in (
        lambda: next(plain.stream(QUESTION, Sampling(thinking=True))),
        lambda: options_for(plain.card, "beam", thinking=False),
    ):
        with pytest.raises(OptionsError, match="Tiny has no switch for thinking"):
            ask()
    with pytest.raises(OptionsError, match="thinking must be True or False, got 'yes'"):
        Sampling(thinking="yes")  # type: ignore[arg-type]


# --- models that transformers has itself ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LocalEngine]:
    """MiniCPM-V 4.6 with a template that ends otherwise."""
    folder: Path = save_library_model(tmp_path_factory.mktemp("thinking"), "minicpm-v-4.6")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def make(ending: str) -> LocalEngine:
        processor = load_processor(folder)
        plain = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}"
        assert plain in processor.chat_template
        processor.chat_template = processor.chat_template.replace(plain, ending)
        return LocalEngine(model, processor, CARD.model_copy(update={"context": 4000}), CPU, FP32)

    return make

    return make


@both_modes
def test_a_template_with_enable_thinking_has_the_switch(
    library: Callable[[str], LocalEngine], options: Options
) -> None:
    engine = library(SWITCH)
    assert engine.card.thinking is True  # where nobody says, this one opens a thought
    off = type(options)(thinking=False, max_new_tokens=60)
    for how, said in (
        (options, ("Hm.", "Red.")),
        (type(options)(max_new_tokens=60), ("Hm.", "Red.")),
        (off, ("", "Hm.</think>Red.")),
    ):
        with saying(engine, ids_of(engine, "Hm.</think>Red.")):
            done = last(list(engine.stream(QUESTION, how)))
        assert (done.thought.text if done.thought else "", done.text) == said
    assert engine.backend.length(QUESTION, off) == engine.backend.length(QUESTION, options) + 4


def test_a_template_that_always_opens_a_thought_has_none(library: Callable[[str], LocalEngine]) -> None:
    engine = library("{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif -%}")
    assert engine.card.thinking is None
    with saying(engine, ids_of(engine, "Hm.</think>Red.")):
        done = last(list(engine.stream(QUESTION, Sampling(max_new_tokens=60))))
    assert done.thought and (done.thought.text, done.text) == ("Hm.", "Red.")


def test_a_model_that_opens_its_thought_itself_is_understood(library: Callable[[str], LocalEngine]) -> None:
    engine = library("{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}")
    with saying(engine, ids_of(engine, "\n<think>\nHm.\n</think>\n\nRed.")):
        done = last(list(engine.stream(QUESTION, Sampling(max_new_tokens=60))))
    assert done.thought and (done.thought.text, done.text) == ("Hm.", "Red.")
