"""What the built-in model can do, measured: greedy answers to questions about pictures it has never seen.

Each picture is one conversation in which the model's own answers stand as history, as on the page. The scenes come from
a seed of their own, and their printed words from a set that training never draws. An answer counts when it is equal to
the true one to the letter.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from omnilmm.conversation import Conversation, Picture
from omnilmm.models.minicpmv import MiniCPMV
from omnilmm.models.processor import MiniCPMVProcessor
from omnilmm.prompts.pieces import Prompt
from omnilmm.training.abilities import Turn
from omnilmm.training.drawing import draw
from omnilmm.training.questions import conversation_about
from omnilmm.training.scenes import random_scene

HELD_OUT_SEED = 20_260_101
MAX_ANSWER_TOKENS = 100


@dataclass(frozen=True)
class Answered:
    """One question with the true answer and the model's."""

    picture: int
    turn: Turn
    answer: str

    @property
    def is_right(self) -> bool:
        """Equal to the letter."""
        return self.answer == self.turn.answer


def evaluate(
    model: MiniCPMV, processor: MiniCPMVProcessor, *, pictures: int = 500, batch_size: int = 50, turns: int = 6
) -> list[Answered]:
    """Ask about `pictures` unseen pictures, `batch_size` conversations side by side."""
    answered: list[Answered] = []
    for first in range(0, pictures, batch_size):
        answered += _evaluate_batch(model, processor, range(first, min(first + batch_size, pictures)), turns)
    return answered


def held_out(index: int, turns: int) -> tuple[Image.Image, list[Turn]]:
    """The held-out picture number `index` and its questions."""
    rng = random.Random(f"{HELD_OUT_SEED}/{index}")
    scene = random_scene(rng, held_out=True)
    return draw(scene), conversation_about(scene, rng, turns=turns)


def table(answered: list[Answered]) -> list[tuple[str, int, float]]:
    """(ability, questions asked, share answered rightly), best known abilities first."""
    asked = Counter(item.turn.ability for item in answered)
    right = Counter(item.turn.ability for item in answered if item.is_right)
    return sorted(((name, count, right[name] / count) for name, count in asked.items()), key=lambda row: -row[2])


@torch.inference_mode()
def _evaluate_batch(model: MiniCPMV, processor: MiniCPMVProcessor, indices: range, turns: int) -> list[Answered]:
    drawn = [held_out(index, turns) for index in indices]
    pixels, sizes = processor.views(Picture(picture) for picture, _ in drawn)
    features = model.get_image_features(pixels.to(model.device), sizes.to(model.device))
    conversations = [Conversation() for _ in drawn]
    answered = []
    for number in range(max(len(questions) for _, questions in drawn)):
        rows = [row for row, (_, questions) in enumerate(drawn) if number < len(questions)]
        for row in rows:
            picture, questions = drawn[row]
            parts = (Picture(picture),) if number == 0 else ()
            conversations[row] = conversations[row].with_message("user", *parts, questions[number].question)
        prompts = [processor.prompt(conversations[row]) for row in rows]
        for row, answer in zip(rows, _answers(model, processor, prompts, features[rows]), strict=True):
            conversations[row] = conversations[row].with_message("assistant", answer)
            answered.append(Answered(indices[row], drawn[row][1][number], answer))
    return answered


def _answers(model: MiniCPMV, processor: MiniCPMVProcessor, prompts: list[Prompt], features: Tensor) -> list[str]:
    """Greedy answers to prompts of different lengths, padded on the left."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    slots, mask = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt.input_ids)
        slots[row, width - len(prompt) :] = torch.tensor(prompt.image_slots)
        mask[row, width - len(prompt) :] = 1
    stops = processor.stop_ids
    device = model.device
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
