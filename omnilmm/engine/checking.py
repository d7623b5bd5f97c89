"""Checks a model on the user's own machine: loads it, reports its figures, and asks one question about a picture.

This program was not tested with the published weights; whoever has them can verify them with this check.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from omnilmm.catalog import cards
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.options import options_for
from omnilmm.errors import CheckpointError

QUESTION = "What is in this picture?"
LONGEST_ANSWER = 128


def check(engine: Engine, picture: Picture, question: str = QUESTION) -> Iterator[tuple[str, str]]:
    """Yield the findings as (name, value), each as soon as it is known.

    Raises:
        CheckpointError: The model loads, but does not match its card, or its answer is empty.
    """
    model: Any = getattr(engine, "model", None)  # llama.cpp has it in a process of its own
    yield "model", f"{engine.card.title} ({type(engine if model is None else model).__name__})"
    parameters = count_parameters(model) if model is not None else engine.card.parameters or 0
    yield "parameters", f"{parameters:,}"
    # For models of transformers the catalog has the count of the architecture, which was not compared with the files.
    is_counted = engine.card.name in cards() and engine.card.family != "library"
    if is_counted and engine.card.parameters not in (None, parameters):
        raise CheckpointError("other_parameters", expected=engine.card.parameters, got=parameters)
    yield "device", str(engine.device)
    yield "dtype", str(engine.dtype)
    yield "memory", f"{(engine.memory_bytes or 0) / 2**20:,.0f} MiB for the weights"
    conversation = Conversation().with_message("user", picture, question)
    options = options_for(engine.card, "sampling", seed=0, max_new_tokens=min(LONGEST_ANSWER, engine.card.context // 2))
    finished = next(event for event in engine.stream(conversation, options) if isinstance(event, Finished))
    yield "first word after", f"{finished.timings.first_token_s:.2f} s"
    yield "speed", f"{finished.timings.tokens_per_s(finished.usage.new_tokens):.1f} tokens/s"
    yield "question", question
    yield "answer", finished.text
    if not finished.text.strip():
        raise CheckpointError("no_words")


def count_parameters(model: Any) -> int:
    """Count the parameters before quantisation: a packed weight counts with its unpacked shape."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        total += math.prod(state.shape) if state is not None else parameter.numel()
    return total
