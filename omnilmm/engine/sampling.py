"""Drawing tokens: transformers' own processors in the order of its `generate`, and a random generator per answer.

`V` vocabulary
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from omnilmm.engine.options import Sampling


class Sampler:
    """Draws the tokens of one answer, the same as `generate` draws from torch's generator with that seed.

    Nothing here waits for the device: a drawn token stays there until somebody reads it.

    Args:
        options: temperature and the rest.
        seed: of the answer's own random numbers.
        device: where the logits are.
    """

    def __init__(self, options: Sampling, seed: int, device: torch.device) -> None:
        self.processors = _processors(options)
        self.generator = torch.Generator(device).manual_seed(seed)
        # The repetition penalty counts what was said so far; the prompt came as embeddings.
        self.ids = torch.zeros((1, options.max_new_tokens), dtype=torch.long, device=device)
        self.count = 0

    def draw(self, logits: Tensor) -> Tensor:
        """The next token [1, 1] for logits [1, V]."""
        scores = self.processors(self.ids[:, : self.count], logits.float())
        token = torch.multinomial(scores.softmax(dim=-1), 1, generator=self.generator)
        self.ids[:, self.count : self.count + 1] = token
        self.count += 1
        return token


def _processors(options: Sampling) -> LogitsProcessorList:
    """Those that change anything, in the order of `GenerationMixin._get_logits_processor`."""
    processors = LogitsProcessorList()
    if options.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(options.repetition_penalty)))
    if options.temperature != 1:
        processors.append(TemperatureLogitsWarper(float(options.temperature)))
    processors.append(TopKLogitsWarper(options.top_k, min_tokens_to_keep=1))
    if options.top_p < 1:
        processors.append(TopPLogitsWarper(float(options.top_p), min_tokens_to_keep=1))
    return processors
