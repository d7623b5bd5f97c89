"""From an index to a sample and a batch: reproducible, cut by the product's rules, and only answers have labels."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch

from built_in.cells import CELL_LABELS, CELL_PRINT, CELLS, PLACE_WORDS, WORDS
from built_in.data import BOX_WEIGHT, PATCH_PRINT, Lessons, Sample, collate, conversation_of, regions
from built_in.labels import IGNORED, PATCH_LABELS
from built_in.lessons import Drawn, Sort, lesson_of, random_lesson, random_sort
from built_in.scenes import SIZES
from built_in.tokenizer import SPECIAL_TOKENS
from omnilmm.conversation import Conversation, Picture
from omnilmm.images.pixels import cut
from omnilmm.models.processor import MiniCPMVProcessor
from tests.built_in.truth import is_chinese

GROUP = 4


@pytest.fixture(scope="module")
def lessons(processor: MiniCPMVProcessor) -> Lessons:
    return Lessons(3, processor.encoder, processor.config.slicing_rules, count=1000, group=GROUP)


def sort_of(number: int) -> Sort:
    """Of a lesson of seed 3."""
    return random_sort(random.Random(f"3/group {number // GROUP}"))


def is_sliced(lessons: Lessons, number: int) -> bool:
    """As the prompt of a lesson tells."""
    return lessons.encoder.control_id("<slice>") in lessons[number].prompt.input_ids


@pytest.fixture(scope="module")
def sliced(lessons: Lessons) -> int:
    """Where the first group of sliced lessons begins."""
    return next(number * GROUP for number in range(200) if is_sliced(lessons, number * GROUP))


def test_a_sample_depends_on_the_seed_and_its_number_alone(processor: MiniCPMVProcessor, lessons: Lessons) -> None:
    again = Lessons(3, processor.encoder, processor.config.slicing_rules, group=GROUP)
    other = Lessons(4, processor.encoder, processor.config.slicing_rules, group=GROUP)
    numbers = [0, 7, 5, -1]
    for number in numbers:
        one, same = lessons[number], again[number]
        assert one.prompt == same.prompt
        assert len(one.views) == len(same.views)
        for view, twin in zip(one.views, same.views, strict=True):
            assert np.array_equal(view.strip, twin.strip) and all(
                np.array_equal(view.cells[name], twin.cells[name]) for name in view.cells
            )
        assert one.prompt != other[number].prompt
    assert len({tuple(lessons[number].prompt.input_ids) for number in numbers}) == len(numbers)
    assert len(lessons) == 1000


def test_all_lessons_of_a_group_are_sliced_or_none_is(lessons: Lessons) -> None:
    groups = [[is_sliced(lessons, group * GROUP + place) for place in range(GROUP)] for group in range(40)]
    assert all(len(set(group)) == 1 for group in groups)
    assert 0 < sum(map(all, groups)) < 0.25 * len(groups)


def test_views_are_those_of_the_product(processor: MiniCPMVProcessor, lessons: Lessons, sliced: int) -> None:
    """The processor, which serves the page, cuts the same pictures into the same pixels."""
    for number in (sliced, sliced + 1, sliced + GROUP, sliced + GROUP + 1):
        lesson = random_lesson(random.Random(f"3/{number}"), sort_of(number))
        sample, pictures = lessons[number], [Picture(drawn.image) for drawn in lesson.pictures]
        if not pictures:
            assert not sample.views
            continue
        strips, sizes = processor.pixel_values(pictures)
        batch = collate([sample])
        assert torch.equal(batch["pixel_values"], strips)
        assert torch.equal(batch["target_sizes"], sizes)
        conversation = conversation_of(lesson)
        assert sample.prompt == processor.prompt(conversation)
        assert len(sample.views) == sum(len(processor.plan(picture).sizes) for picture in pictures)


def test_slots_are_as_many_as_features(processor: MiniCPMVProcessor, lessons: Lessons, sliced: int) -> None:
    for number in (0, 1, 2, sliced):
        assert sum(lessons[number].prompt.image_slots) == len(lessons[number].views) * processor.config.query_num


def test_a_conversation_gives_each_picture_when_the_lesson_does() -> None:
    for number in range(10):
        lesson = lesson_of("pictures", random.Random(number))
        conversation = conversation_of(lesson)
        questions, answers = conversation.messages[::2], conversation.messages[1::2]
        assert [len(message.pictures) for message in questions] == list(lesson.given)
        assert [message.text for message in questions] == [turn.question for turn in lesson.turns]
        assert [message.text for message in answers] == [turn.answer for turn in lesson.turns]
        assert [picture.image for picture in conversation.pictures] == [drawn.image for drawn in lesson.pictures]


def test_regions_cover_the_picture_once(processor: MiniCPMVProcessor) -> None:
    for number in range(20):
        (drawn,) = lesson_of("page", random.Random(number)).pictures
        plan = processor.plan(Picture(drawn.image))
        whole, *slices = regions(drawn, plan)
        width, height = drawn.image.size
        assert whole == (0, 0, width, height)
        assert plan.grid is not None and len(slices) == plan.grid[0] * plan.grid[1]
        assert sum((r - x) * (b - y) for x, y, r, b in slices) == pytest.approx(width * height)
        assert min(x for x, *_ in slices) == min(y for _, y, *_ in slices) == 0
        assert max(r for *_, r, _ in slices) == pytest.approx(width)
        assert max(b for *_, b in slices) == pytest.approx(height)


def test_a_region_is_the_part_of_the_picture_that_its_view_shows(processor: MiniCPMVProcessor) -> None:
    """The region cut out of the picture and shrunk looks like the slice shrunk likewise."""
    (drawn,) = lesson_of("page", random.Random(5)).pictures
    plan = processor.plan(Picture(drawn.image))
    for view, region in zip(cut(drawn.image, plan), regions(drawn, plan), strict=True):
        own = np.asarray(view.resize((40, 40), box=None, reducing_gap=None), dtype=float)
        part = np.asarray(drawn.image.resize((40, 40), box=region), dtype=float)
        assert np.abs(own - part).mean() < 6


def test_only_answers_have_labels(processor: MiniCPMVProcessor, lessons: Lessons, sliced: int) -> None:
    end = processor.encoder.control_id("<|im_end|>")
    for number in [*range(12), sliced]:
        lesson = random_lesson(random.Random(f"3/{number}"), sort_of(number))
        batch = collate([lessons[number]])
        labels = batch["labels"][batch["labels"] != IGNORED].tolist()
        said = processor.tokenizer.decode(labels).split("<|im_end|>")
        assert labels.count(end) == len(lesson.turns)
        assert said == [*(turn.answer for turn in lesson.turns), ""]
        assert not batch["image_slots"][batch["labels"] != IGNORED].any()


def test_a_batch_pads_each_conversation_and_each_view(lessons: Lessons) -> None:
    samples = [lessons[number] for number in range(8)]
    batch = collate(samples)
    lengths = [len(sample.prompt) for sample in samples]
    views = [view for sample in samples for view in sample.views]
    patches = [view.grid[0] * view.grid[1] for view in views]
    assert batch["input_ids"].shape == batch["labels"].shape == batch["image_slots"].shape == (8, max(lengths))
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
        assert batch["input_ids"][row, :length].tolist() == sample.prompt.input_ids
        assert (batch["labels"][row, length:] == IGNORED).all() and not batch["image_slots"][row, length:].any()
    assert batch["pixel_values"].shape == (len(views), 3, 12, 12 * max(patches))
    assert batch["target_sizes"].tolist() == [list(view.grid) for view in views]
    assert batch["cell_labels"].shape == (len(views), CELLS**2, CELL_LABELS)
    assert batch["cell_words"].shape == (len(views), CELLS**2, len(WORDS))
    assert batch["cell_boxes"].shape == (len(views), CELLS**2, 4)
    assert batch["cell_grid"].shape == (len(views), CELLS**2, 2)
    assert batch["cell_print"].shape == (len(views), CELLS**2, CELL_PRINT)
    for name in (*PATCH_LABELS, *PATCH_PRINT):
        assert batch[f"patch_{name}"].shape == (len(views), max(patches))
    assert (batch["patch_kind"] != IGNORED).sum(dim=1).tolist() == patches
    assert (~batch["patch_position"].isnan()).all(dim=2).sum(dim=1).tolist() == patches


def test_positions_of_patches_go_across_and_down(lessons: Lessons) -> None:
    view = lessons[0].views[0]
    rows, columns = view.grid
    positions = view.patches["position"].reshape(rows, columns, 2)
    assert np.allclose(positions[:, 0, 0], (np.arange(rows) + 0.5) / rows * 2 - 1)
    assert np.allclose(positions[0, :, 1], (np.arange(columns) + 0.5) / columns * 2 - 1)


def test_only_an_overview_says_where_in_the_picture_a_thing_is(lessons: Lessons, sliced: int) -> None:
    places = [number for number, word in enumerate(WORDS) if word.strip() in (*PLACE_WORDS, *SIZES, *"上下左右小中大")]
    overviews = slices = 0
    for number in range(sliced, sliced + GROUP):
        sample = lessons[number]
        if sample.prompt.input_ids.count(lessons.encoder.control_id("<image>")) > 1:
            continue  # each picture has an overview
        overview, *others = sample.views
        overviews += overview.cells["words"][:, places].sum()
        slices += sum(view.cells["words"][:, places].sum() for view in others)
        assert all((view.cells[name] == IGNORED).all() for view in others for name in ("boxes", "grid"))
    assert overviews > 0 and slices == 0


def test_a_photo_has_nothing_to_name(processor: MiniCPMVProcessor, lessons: Lessons) -> None:
    drawn: Drawn = lesson_of("photo", random.Random(2)).pictures[0]
    for view in lessons._views(drawn, processor.plan(Picture(drawn.image))):
        assert not any(view.cells[name].any() for name in ("labels", "words", "print", "grid"))
        assert (view.cells["boxes"] == IGNORED).all()
        assert not any(view.patches[name].any() for name in (*PATCH_LABELS, *PATCH_PRINT))
        assert len(view.patches["kind"]) == view.grid[0] * view.grid[1]


def test_a_batch_without_pictures_has_no_pixels(processor: MiniCPMVProcessor) -> None:
    prompt = processor.prompt(Conversation().with_message("user", "Hi").with_message("assistant", "Hello!"))
    batch = collate([Sample((), prompt, (1.0,) * len(prompt))] * 2)
    assert set(batch) == {"input_ids", "image_slots", "attention_mask", "labels", "weights"}


def test_every_word_of_an_answer_about_a_cell_is_one_token(processor: MiniCPMVProcessor) -> None:
    assert len({processor.encoder.word_id(word) for word in WORDS}) == len(WORDS)


def test_text_of_any_language_comes_back_from_the_tokenizer(processor: MiniCPMVProcessor) -> None:
    for text in ("Where is the star?", "红色的星形在哪里？", "Größe – ñandú, 1234", 'It says "XKCD42".'):
        ids = processor.tokenizer(text)["input_ids"]
        assert processor.tokenizer.decode(ids) == text
        assert not is_chinese(text) or len(ids) <= len(text) + 4


def test_printed_words_and_numbers_are_read_one_character_at_a_time(processor: MiniCPMVProcessor) -> None:
    ids = processor.tokenizer('It says "XKQZ9876".')["input_ids"]
    tokens = [processor.tokenizer.decode([number]) for number in ids]
    assert re.search("X K Q Z 9 8 7 6", " ".join(tokens))
    numbers = processor.tokenizer("100 200 340 1000")["input_ids"]
    assert not [token for token in map(processor.tokenizer.decode, numbers) if len(token.strip()) > 1]


def test_special_tokens_are_the_last_ones_and_whole(processor: MiniCPMVProcessor) -> None:
    tokenizer = processor.tokenizer
    ids = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
    assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
    assert max(ids) == len(tokenizer) - 1


def test_what_stands_in_a_box_counts_less(processor: MiniCPMVProcessor, lessons: Lessons) -> None:
    inside = 0
    for number in range(30):
        sample, is_inside = lessons[number], False
        for token, weight in zip(sample.prompt.input_ids, sample.weights, strict=True):
            is_inside = is_inside and token != processor.encoder.control_id("</box>")
            assert weight == (BOX_WEIGHT if is_inside else 1.0)
            inside += is_inside
            is_inside = is_inside or token == processor.encoder.control_id("<box>")
    assert inside > 50


def test_patches_know_what_is_printed_in_their_cell(lessons: Lessons) -> None:
    for view in lessons[3].views:
        columns = view.grid[1]
        for patch, printed in enumerate(np.stack([view.patches[name] for name in PATCH_PRINT], axis=1)):
            row, column = min(patch // columns // 3, CELLS - 1), min(patch % columns // 3, CELLS - 1)
            assert (printed == view.cells["print"][row * CELLS + column]).all()
