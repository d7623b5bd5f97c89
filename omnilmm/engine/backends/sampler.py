"""Drawing tokens: the same ones as transformers' `generate` draws with that seed, in about half the time.

transformers' processors sort the whole vocabulary for top-p, and look over it a dozen times. Here top-k comes first,
and the rest is done with those few candidates. (Where several tokens share the last place of top-k, `generate` keeps
them all, and here there are never more than k.) At temperature 0 the likeliest token is taken, as with
`do_sample=False`.

`V` vocabulary · `k` candidates
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnilmm.engine.options import Sampling


class Sampler:
    """Draws the tokens of one answer.

    Nothing here waits for the device: a drawn token stays there until somebody reads it.

    Args:
        options: temperature and the rest.
        seed: of the answer's own random numbers.
        device: where the logits are.
    """

    def __init__(self, options: Sampling, seed: int, device: torch.device) -> None:
        self.options = options
        self.generator = torch.Generator(device).manual_seed(seed)
        self.said: Tensor | None = None  # [1, V]: tokens of the answer so far; the prompt came as embeddings

    def draw(self, logits: Tensor) -> Tensor:
        """The next token [1, 1] for logits [1, V]."""
        scores = self._penalised(logits.float())
        token = scores.argmax(dim=-1, keepdim=True) if self.options.is_greedy else self._drawn(scores)
        if self.said is not None:
            self.said.scatter_(1, token, True)
        return token

    def _drawn(self, scores: Tensor) -> Tensor:
        scores = scores / self.options.temperature
        best, places = scores.topk(min(self.options.top_k, scores.shape[1]))  # [1, k], the best one first
        shares = best.softmax(dim=-1)
        if self.options.top_p < 1:
            # A candidate stays if those before it have not reached top-p yet; the first one always does.
            shares = shares.masked_fill(shares.cumsum(dim=-1) - shares >= self.options.top_p, 0)
        # As `torch.multinomial` draws: shares over waiting times, of which every token of the vocabulary gets one.
        waits = torch.empty_like(scores).exponential_(generator=self.generator)
        return places.gather(1, (shares / waits.gather(1, places)).argmax(dim=-1, keepdim=True))

    def _penalised(self, scores: Tensor) -> Tensor:
        """Scores [1, V], lower for what was said."""
        penalty = self.options.repetition_penalty
        if penalty == 1:
            return scores
        if self.said is None:
            self.said = torch.zeros_like(scores, dtype=torch.bool)
        return torch.where(self.said, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
