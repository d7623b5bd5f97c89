"""A conversation that is too long loses its oldest turns, and never what the newest question is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from omnilmm.catalog import ROOT
from omnilmm.conversation import Conversation, Message, Picture
from omnilmm.engine import context
from omnilmm.engine.backends import backend_for
from omnilmm.engine.context import PIECE, ContextWindow, fitted
from omnilmm.errors import ContextLengthError
from omnilmm.prompts.pieces import PieceEncoder
from tests.models.tiny import VERSIONS, tiny_model, tiny_processor
from tests.prompts.byte_tokenizer import MINICPM

RED, BLUE = (Picture(Image.new("RGB", (2, 2), colour)) for colour in ("red", "blue"))


def length(conversation: Conversation) -> int:
    """A token per letter, 10 per picture."""
    return sum(10 if isinstance(part, Picture) else len(part) for m in conversation.messages for part in m.parts)


def fit(
    conversation: Conversation,
    length: Callable[[Conversation], int],
    context: int,
    max_new_tokens: int,
    count: Callable[[str], int] = len,
) -> tuple[Conversation, int]:
    """What the engine makes of a conversation."""
    return fitted(ContextWindow(length, count, context).fit(conversation, max_new_tokens))


def fit_by_trying(conversation: Conversation, length: Callable[[Conversation], int], room: int) -> int | None:
    """How many of the oldest messages go: the first number with which the whole prompt fits, one turn after another."""
    for dropped in range(0, len(conversation.messages), 2):
        kept = conversation.messages[dropped:]
        if dropped and not any(message.pictures for message in kept):
            shown = next((m.pictures for m in reversed(conversation.messages[:dropped]) if m.pictures), ())
            kept = (Message("user", (*shown, *kept[0].parts)), *kept[1:])
        if length(replace(conversation, messages=kept)) <= room:
            return dropped
    return None


def turns(*sizes: int) -> Conversation:
    """Questions and answers of these lengths, a question last."""
    conversation = Conversation(system="kept")
    for number, size in enumerate(sizes):
        conversation = conversation.with_message("assistant" if number % 2 else "user", str(number) * size)
    return conversation


def test_what_fits_is_left_alone() -> None:
    conversation = turns(5, 5, 5)
    assert fit(conversation, length, context=20, max_new_tokens=5) == (conversation, 0)


def test_oldest_turns_go_first_and_as_few_as_needed() -> None:
    conversation = turns(5, 5, 5, 5, 5)
    shorter, dropped = fit(conversation, length, context=25, max_new_tokens=5)
    assert dropped == 2 and shorter.messages == conversation.messages[2:] and shorter.system == "kept"
    shorter, dropped = fit(conversation, length, context=19, max_new_tokens=5)
    assert dropped == 4 and shorter.messages == conversation.messages[4:]


def test_room_for_the_answer_is_reserved() -> None:
    assert fit(turns(5, 5, 5), length, context=15, max_new_tokens=0)[1] == 0
    assert fit(turns(5, 5, 5), length, context=15, max_new_tokens=1)[1] == 2


def test_pictures_of_a_dropped_turn_move_to_the_oldest_question_that_stays() -> None:
    conversation = Conversation().with_message("user", RED, BLUE, "a" * 9).with_message("assistant", "b" * 9)
    conversation = conversation.with_message("user", "c").with_message("assistant", "d").with_message("user", "e")
    shorter, dropped = fit(conversation, length, context=30, max_new_tokens=5)
    assert dropped == 2
    assert shorter.messages[0].parts == (RED, BLUE, "c")
    assert [message.text for message in shorter.messages] == ["c", "d", "e"]


def test_only_the_last_pictures_shown_move() -> None:
    conversation = Conversation().with_message("user", RED, "a").with_message("assistant", "b" * 20)
    conversation = conversation.with_message("user", BLUE, "c").with_message("assistant", "d" * 20)
    shorter, dropped = fit(conversation.with_message("user", "e"), length, context=20, max_new_tokens=5)
    assert dropped == 4 and shorter.messages[0].parts == (BLUE, "e")


def test_no_picture_moves_where_a_newer_one_stays() -> None:
    conversation = Conversation().with_message("user", RED, "a").with_message("assistant", "b" * 20)
    shorter, dropped = fit(conversation.with_message("user", BLUE, "c"), length, context=20, max_new_tokens=5)
    assert dropped == 2 and shorter.pictures == (BLUE,)


def test_what_must_stay_and_does_not_fit_is_an_error_with_the_numbers() -> None:
    with pytest.raises(ContextLengthError, match=r"takes 30 tokens, but only 15 fit.*20 tokens, of which 5 are"):
        fit(turns(5, 5, 30), length, context=20, max_new_tokens=5)
    conversation = Conversation().with_message("user", RED, RED, "a").with_message("assistant", "b")
    with pytest.raises(ContextLengthError, match="takes 21 tokens, but only 15 fit"):
        fit(conversation.with_message("user", "c"), length, context=20, max_new_tokens=5)


def test_a_limit_larger_than_the_context_leaves_no_room() -> None:
    with pytest.raises(ContextLengthError, match="only 0 fit"):
        fit(turns(1), length, context=10, max_new_tokens=20)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=7), st.integers(1, 90))
def test_the_result_fits_ends_with_the_question_and_still_shows_the_last_pictures(
    drawn: list[tuple[int, int]], room: int
) -> None:
    conversation = Conversation()
    for number, (size, pictures) in enumerate(drawn[: len(drawn) - 1 + len(drawn) % 2]):
        shown = () if number % 2 else (Picture(Image.new("RGB", (1 + number, 1))),) * pictures
        conversation = conversation.with_message("assistant" if number % 2 else "user", *shown, "x" * size)
    try:
        shorter, dropped = fit(conversation, length, context=room + 5, max_new_tokens=5)
    except ContextLengthError:
        return
    assert length(shorter) <= room and dropped % 2 == 0
    assert shorter.messages[0].role == "user" and shorter.messages[-1].text == conversation.messages[-1].text
    assert len(shorter.messages) == len(conversation.messages) - dropped
    last = next((m.pictures for m in reversed(conversation.messages) if m.pictures), ())
    assert next((m.pictures for m in reversed(shorter.messages) if m.pictures), ()) == last
    if dropped:  # one turn more would not have fitted
        more = conversation.messages[dropped - 2 :]
        shown = sum(len(message.pictures) for message in more) or len(last)
        assert sum(len(message.text) for message in more) + 10 * shown > room


# What templates and tokenizers treat in their own way: headers, control tokens, tags, thoughts, blanks, halves, merges.
WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["<AI>", "<用户>", "<|im_end|>", "<box>", "</s>", "<think>x</think>", "\n \n", "aaaaaaaaa"]),
    st.sampled_from(["👩\u200d👩\u200d👧\u200d👦", "e\u0301" * 9, "?<", "><", "<用户>?<AI>", "ab?", "b?a"]),
)
TURN = st.tuples(st.lists(WORDS, min_size=1, max_size=3).map("".join), st.integers(0, 1), st.booleans())


def merging() -> PieceEncoder:
    """Merges go across speakers, as in 1.0 and 2.0, whose headers are plain text: taught by what is said there."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.train_from_iterator(["<用户>?ab<AI>aaa<用户>?b?a<AI>?<><用户>?e\u0301<AI>x</think>" * 9] * 9, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    fast.add_special_tokens({"additional_special_tokens": list(MINICPM)})
    return PieceEncoder(fast, 4)


@pytest.fixture(scope="module", params=[*VERSIONS, "merging", "built-in"])
def lengths(request: pytest.FixtureRequest) -> tuple[Callable[[Conversation], int], Callable[[str], int]]:
    version = {"merging": "2.0", "built-in": "2.6"}.get(request.param, request.param)
    processor = tiny_processor(version)
    if request.param == "merging":
        processor.encoder = merging()
    if request.param == "built-in":
        words = PreTrainedTokenizerFast.from_pretrained(ROOT / "assets" / "built-in")
        processor.encoder = PieceEncoder(words, 4)
    backend = backend_for(tiny_model(version), processor, 0, 0, 1)
    return backend.length, backend.count


@settings(deadline=None, max_examples=60)
@given(st.lists(TURN, min_size=1, max_size=12), st.integers(20, 400), st.integers(1, 40))
def test_the_same_turns_go_as_by_trying_one_after_another(
    lengths: tuple[Callable[[Conversation], int], Callable[[str], int]],
    drawn: list[tuple[str, int, bool]],
    room: int,
    piece: int,
) -> None:
    length, count = lengths
    conversation = Conversation()
    for words, pictures, is_long in drawn:
        shown = (RED, BLUE)[:pictures]
        conversation = conversation.with_message("user", *shown, "?" + words * (9 if is_long else 1))
        conversation = conversation.with_message("assistant", words)
    conversation = conversation.without_last()
    expected = fit_by_trying(conversation, length, room)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("PIECE", piece), ("FEW", 40)):  # so that few words are many
            patch.setattr(context, name, value)
        try:
            assert fit(conversation, length, room + 5, 5, count)[1] == expected
        except ContextLengthError:
            assert expected is None


class Counting:
    """A token per letter; adds up how many were counted in all."""

    def __init__(self) -> None:
        self.counted = 0

    def length(self, conversation: Conversation) -> int:
        self.counted += length(conversation)
        return length(conversation)

    def count(self, text: str) -> int:
        self.counted += len(text)
        return len(text)


@pytest.mark.parametrize("turns_before", [50, 500])
def test_a_long_history_costs_what_fits_however_long_it_is(turns_before: int) -> None:
    counting = Counting()
    conversation = turns(*[5_000] * 2 * turns_before, 5)
    window = ContextWindow(counting.length, counting.count, 40_010)
    heard = 0
    for asked in (conversation, conversation.with_message("assistant", "x").with_message("user", "y")):
        counting.counted = 0
        for _ in window.fit(asked, 10):
            heard += 1
        assert counting.counted < (4 if asked is conversation else 3) * 40_000  # the second time all is counted
    assert heard > 10


@pytest.mark.parametrize("sign", ["a", " ", "👩‍👩‍👧‍👦", "中", "e\u0301"])
def test_one_huge_message_is_refused_after_a_part_of_it(sign: str) -> None:
    counting = Counting()
    conversation = Conversation(system=None).with_message("user", "?" + sign * 3_000_000 + "?")
    with pytest.raises(ContextLengthError, match="takes far more than 90 tokens, and only so many fit"):
        fit(conversation, counting.length, 100, 10, counting.count)
    assert counting.counted <= 2 * PIECE


def test_a_huge_system_prompt_is_refused_likewise() -> None:
    counting = Counting()
    conversation = Conversation(system="x" * 3_000_000).with_message("user", "?")
    with pytest.raises(ContextLengthError, match="far more than"):
        fit(conversation, counting.length, 100, 10, counting.count)
    assert counting.counted <= 2 * PIECE
