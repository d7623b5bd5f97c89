"""Token sampling: the same tokens as transformers' `generate` samples with that seed, in about half the time.

transformers' logits processors sort the whole vocabulary for top-p and traverse it a dozen times. Here top-k comes
first, and the rest is done with those few candidates. (If several tokens tie for the last place of top-k, `generate`
keeps all of them; here there are never more than k.) At temperature 0 decoding is greedy, as with `do_sample=False`.

`V` vocabulary · `k` candidates
"""

from __future__ import annotations

import torch
from torch import Tensor

from omnilmm.engine.options import Greedy, Sampling


class Sampler:
    """Samples the tokens of one answer.

    Nothing here synchronises with the device: a sampled token stays there until the caller reads it.

    Args:
        options: the options of sampling or of greedy decoding.
        seed: seed of the answer's own random generator.
        device: device of the logits.
    """

    def __init__(self, options: Sampling | Greedy, seed: int, device: torch.device) -> None:
        self.options = options
        self.generator = torch.Generator(device).manual_seed(seed)
        self.generated: Tensor | None = None  # [1, V]: tokens of the answer so far; the prompt came as embeddings

    def draw(self, logits: Tensor) -> Tensor:
        """Sample the next token [1, 1] from logits [1, V]."""
        scores = self._penalised(logits.float())
        if isinstance(self.options, Greedy) or self.options.is_greedy:
            token = scores.argmax(dim=-1, keepdim=True)
        else:
            token = self._drawn(scores, self.options)
        if self.generated is not None:
            self.generated.scatter_(1, token, True)
        return token

    def _drawn(self, scores: Tensor, options: Sampling) -> Tensor:
        scores = scores / options.temperature
        best, places = scores.topk(min(options.top_k, scores.shape[1]))  # [1, k], the best one first
        shares = best.softmax(dim=-1)
        if options.top_p < 1:
            # A candidate is kept if those before it have not reached top-p yet; the first one always is.
            shares = shares.masked_fill(shares.cumsum(dim=-1) - shares >= options.top_p, 0)
        # As `torch.multinomial` samples: the largest probability divided by exponential noise, which is drawn for the
        # whole vocabulary so that the same seed gives the same tokens.
        waits = torch.empty_like(scores).exponential_(generator=self.generator)
        return places.gather(1, (shares / waits.gather(1, places)).argmax(dim=-1, keepdim=True))

    def _penalised(self, scores: Tensor) -> Tensor:
        """Apply the repetition penalty to logits [1, V]."""
        penalty = self.options.repetition_penalty
        if penalty == 1:
            return scores
        if self.generated is None:
            self.generated = torch.zeros_like(scores, dtype=torch.bool)
        return torch.where(self.generated, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
