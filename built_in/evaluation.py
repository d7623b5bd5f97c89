"""Evaluate the built-in model with greedy answers about unseen pictures.

Each row of the table is one ability, half in English and half in Chinese. A lesson is one conversation with the model's
own answers as history, as on the page. Its pictures come from a separate seed, and the words and long numbers printed
on them from a set that is never used in training; months, days, column titles and short numbers are shared. An answer
counts as right if it equals the true one exactly; boxes need an overlap of one half, and descriptions are also
evaluated by the things they name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from built_in.lessons import ASKERS, Lesson, lesson_of
from built_in.questions.turn import Turn
from built_in.scoring import precision_and_recall, printed_in
from omnilmm.conversation import Conversation, Picture
from omnilmm.evaluation.metrics.boxes import is_right
from omnilmm.evaluation.metrics.distance import character_error_rate
from omnilmm.images.pixels import cut, patch_strip, stack_strips
from omnilmm.images.slicing import SlicePlan, SlicingRules, plan_slices
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts import chatml
from omnilmm.prompts.pieces import Prompt

HELD_OUT_SEED = 20_260_101
MAX_ANSWER_TOKENS = 140
BATCH = 32  # maximum number of lessons per batch
SHORT = 8  # characters; the accuracy for printed text up to this length is reported separately


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: name of the ability.
        kind: kind of the lessons that test it.
        only: for scenes, the questions to ask; for several pictures, whether they are sent "together" or "in turn".
        abilities: abilities of the turns that count.
        slices: whether pictures are sliced.
    """

    name: str
    kind: str
    only: str | None
    abilities: tuple[str, ...]
    slices: bool = True


ROWS: tuple[Row, ...] = (
    *(Row(name, "scene", name, (name, "lines") if name == "reading" else (name,)) for name in ASKERS),
    Row("follow_up", "scene", "follow_up", ("follow_up",)),
    Row("small_print", "page", None, ("small print",)),
    Row("small_print_without_slices", "page", None, ("small print",), slices=False),
    Row("chart", "chart", None, ("chart",)),
    Row("table", "table", None, ("table",)),
    Row("pictures", "pictures", "together", ("pictures",)),
    Row("again", "pictures", "in turn", ("pictures",)),
    Row("series", "series", None, (*ASKERS, "follow_up")),
    Row("photo", "photo", None, ("photo",)),
    Row("chat", "talk", None, ("chat",)),
)


@dataclass(frozen=True)
class Answered:
    """One question with the true answer and the model's answer."""

    row: Row
    lesson: Lesson
    number: int
    answer: str

    @property
    def turn(self) -> Turn:
        """The turn with the question and the true answer."""
        return self.lesson.turns[self.number]

    @property
    def is_right(self) -> bool:
        """Whether the answer is right; see `metrics.boxes.is_right`."""
        return is_right(self.turn.answer, self.answer)

    @property
    def is_chinese(self) -> bool:
        """Whether the question is in Chinese."""
        return any("\u4e00" <= character <= "\u9fff" for character in self.turn.question)


def examine(
    model: MiniCPMV, processor: MiniCPMVProcessor, *, questions: int = 500, only: Sequence[str] | None = None
) -> Iterator[tuple[Row, list[Answered]]]:
    """Ask `questions` questions for each row, or only for the rows named in `only`."""
    for row in ROWS:
        if only is None or row.name in only:
            yield row, _examine_row(model, processor, row, questions)


def _examine_row(model: MiniCPMV, processor: MiniCPMVProcessor, row: Row, questions: int) -> list[Answered]:
    answered: list[Answered] = []
    numbers = iter(range(10**9))
    while (missing := questions - len(answered)) > 0:
        lessons = [held_out(row, next(numbers)) for _ in range(_batch_of(missing))]
        answered += ask(model, processor, row, lessons)
    return answered[:questions]


def _batch_of(missing: int) -> int:
    """Return the number of lessons; most have about four questions that count, and more would be wasted at the end."""
    return min(BATCH, max(missing // 4, 4))


def held_out(row: Row, index: int) -> Lesson:
    """Return the held-out lesson `index` of a row."""
    return lesson_of(row.kind, random.Random(f"{HELD_OUT_SEED}/{row.kind}/{row.only}/{index}"), only=row.only)


def shown(row: Row, lesson: Lesson, rules: SlicingRules) -> Lesson:
    """Return a lesson as a row shows it: without slices its pictures are shrunk until the model does not slice them."""
    if row.slices:
        return lesson
    return replace(
        lesson, pictures=tuple(replace(drawn, image=_unsliced(drawn.image, rules)) for drawn in lesson.pictures)
    )


def _unsliced(image: Image.Image, rules: SlicingRules) -> Image.Image:
    view = cut(image, plan_slices(image.size, replace(rules, max_slices=1)))[0]
    while plan_slices(view.size, rules).grid is not None:
        view = view.resize((view.width - 1, view.height - 1), Image.Resampling.BICUBIC)
    return view


def table_line(row: Row, answered: Sequence[Answered]) -> str:
    """Return a line of the Markdown table: name, number of questions, accuracy, and accuracy by language."""

    def share(items: Sequence[Answered]) -> str:
        return f"{sum(item.is_right for item in items) / len(items):.3f}" if items else "–"

    english = [item for item in answered if not item.is_chinese]
    chinese = [item for item in answered if item.is_chinese]
    return f"| {row.name} | {len(answered)} | {share(answered)} | {share(english)} | {share(chinese)} |"


def details(answered: Sequence[Answered]) -> dict[str, float]:
    """Return metrics beside the table: precision and recall of descriptions, character error rate of reading."""
    figures: dict[str, float] = {}
    described = [(item.turn.answer, item.answer) for item in answered if item.row.name == "description"]
    if described:
        named, there = precision_and_recall(described)
        figures |= {"description: of what is named, is there": named, "description: of what is there, is named": there}
    read = [(printed_in(item.turn.answer), printed_in(item.answer)) for item in answered if item.row.name == "reading"]
    read = [(true, printed) for true, printed in read if true]
    if read:
        short = [true == printed for true, printed in read if len(true) <= SHORT]
        figures[f"reading: right, of up to {SHORT} characters"] = sum(short) / max(len(short), 1)
        figures["reading: character error rate"] = character_error_rate(read)
    return figures


@torch.inference_mode()
def ask(model: MiniCPMV, processor: MiniCPMVProcessor, row: Row, lessons: Sequence[Lesson]) -> list[Answered]:
    """Ask all questions of some lessons as a batch; return those that count, lesson by lesson."""
    rules = processor.config.slicing_rules
    lessons = [shown(row, lesson, rules) for lesson in lessons]
    plans = [[plan_slices(drawn.image.size, rules) for drawn in lesson.pictures] for lesson in lessons]
    features = [_encode(model, lesson, of, rules.patch_size) for lesson, of in zip(lessons, plans, strict=True)]
    conversations = [Conversation() for _ in lessons]
    answered: list[list[Answered]] = [[] for _ in lessons]
    for number in range(max(len(lesson.turns) for lesson in lessons)):
        asked = [place for place, lesson in enumerate(lessons) if number < len(lesson.turns)]
        prompts, seen = [], []
        for place in asked:
            lesson, count = lessons[place], sum(lessons[place].given[: number + 1])
            new = [Picture(drawn.image) for drawn in lesson.pictures[count - lesson.given[number] : count]]
            turn = lesson.turns[number]
            conversations[place] = conversations[place].with_message("user", *new, turn.question)
            grids = [plan.grid for plan in plans[place][:count]]
            prompts.append(processor.encoder.encode(chatml.render(conversations[place], grids)))
            seen += features[place][:count]
        for place, answer in zip(asked, _answers(model, processor, prompts, seen), strict=True):
            conversations[place] = conversations[place].with_message("assistant", answer)
            if _counts(row, lessons[place], number):
                answered[place].append(Answered(row, lessons[place], number, answer))
    return [item for of_lesson in answered for item in of_lesson]


def _counts(row: Row, lesson: Lesson, number: int) -> bool:
    turn, count = lesson.turns[number], sum(lesson.given[: number + 1])
    if turn.ability not in row.abilities:
        return False
    if row.name == "again":
        return turn.picture is not None and turn.picture < count - 1
    return row.name != "series" or count > 1


def _encode(model: MiniCPMV, lesson: Lesson, plans: Sequence[SlicePlan], side: int) -> list[Tensor]:
    """Return the features [N, Q, D] of each picture of a lesson."""
    views = [cut(drawn.image, plan) for drawn, plan in zip(lesson.pictures, plans, strict=True)]
    every = [view for of_picture in views for view in of_picture]
    if not every:
        return []
    pixels = torch.from_numpy(stack_strips([patch_strip(view, side) for view in every]))
    sizes = torch.tensor([(view.height // side, view.width // side) for view in every])
    features = model.get_image_features(pixels.to(model.device), sizes.to(model.device))
    return list(features.split([len(of_picture) for of_picture in views]))


def _answers(
    model: MiniCPMV, processor: MiniCPMVProcessor, prompts: Sequence[Prompt], seen: Sequence[Tensor]
) -> list[str]:
    """Answer a left-padded batch of prompts greedily; `seen` has the features in the order of their placeholders."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    slots, mask = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt.input_ids)
        slots[row, width - len(prompt) :] = torch.tensor(prompt.image_slots)
        mask[row, width - len(prompt) :] = 1
    stops, device = processor.stop_ids, model.device
    features = torch.cat(list(seen)) if seen else None
    output = model.generate(
        inputs_embeds=model.merge(ids.to(device), slots.to(device), features),
        attention_mask=mask.to(device),
        max_new_tokens=MAX_ANSWER_TOKENS,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=stops[-1],
    )
    kept = [[token for token in row if token not in stops] for row in output.tolist()]
    return [str(text) for text in processor.tokenizer.batch_decode(kept)]
