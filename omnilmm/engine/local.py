"""The engine on this machine: one conversation after the other through a loaded model, as a stream of events.

    stream() ── waits for its turn ── starts a `Generation` ── yields what it reports

What a model takes, and what of its ids is text, is the reader's business (`reading.py`).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation
from omnilmm.engine.context import fit
from omnilmm.engine.events import Event, Finished, Preview, Progress, TextDelta, Timings, Usage
from omnilmm.engine.generation import HEARTBEAT_S, Generation, Ids, generate_arguments
from omnilmm.engine.memory import footprint
from omnilmm.engine.options import BeamSearch, Options, options_for
from omnilmm.engine.queue import WaitingLine
from omnilmm.engine.reading import reader_for
from omnilmm.engine.text import TextStream
from omnilmm.errors import InputError
from omnilmm.hardware import Choice

__all__ = ["LocalEngine", "generate_arguments"]


class LocalEngine:
    """Answers conversations with a loaded model, one at a time, in the order of asking.

    Args:
        model: on its device, in its number type; one of ours, or any image-text-to-text model of transformers.
        processor: of the same checkpoint.
        card: what is known about the model.
        device: where it runs, and why.
        dtype: its number type, and why.

    Raises:
        CheckpointError: The checkpoint cannot hold a conversation, e.g. it has no chat template.
    """

    def __init__(self, model: Any, processor: Any, card: ModelCard, device: Choice, dtype: Choice) -> None:
        self.model, self.processor = model, processor
        self.card, self.device, self.dtype = card, device, dtype
        self.memory_bytes = footprint(model)
        self.reader = reader_for(model, processor)
        self.line = WaitingLine()

    def stream(self, conversation: Conversation, options: Options | None = None) -> Generator[Event]:
        """Answer the last message; see `events.Engine`."""
        options = options or options_for(self.card)
        conversation.check_question()
        self._check_abilities(conversation)
        asked = time.monotonic()
        fitting, dropped = fit(conversation, self.reader.length, self.card.context, options.max_new_tokens)
        with self.line.place() as ticket:
            ahead = self.line.ahead(ticket)
            while ahead:
                yield Progress("waiting", total=ahead)
                ahead = self.line.ahead(ticket, wait_s=HEARTBEAT_S)
            yield from self._answer(fitting, options, dropped, waited_s=time.monotonic() - asked)

    def _check_abilities(self, conversation: Conversation) -> None:
        if conversation.system and not self.card.system_prompt:
            raise InputError(f"{self.card.title} has no system prompt: leave it empty.")
        if len(set(conversation.pictures)) > 1 and not self.card.several_pictures:
            raise InputError(
                f"{self.card.title} looks at one picture per conversation: start a new one to ask about another."
            )

    def _answer(self, conversation: Conversation, options: Options, dropped: int, waited_s: float) -> Iterator[Event]:
        text = TextStream(self.reader.tokenizer)
        began = time.monotonic()
        first_token_s = 0.0
        answer: Ids = []
        generation = Generation(self.reader, conversation, options)
        yield Progress("reading", total=len(conversation.pictures))
        for ids in generation:
            if ids is None:
                yield Progress("reading", total=len(conversation.pictures))
                continue
            first_token_s = first_token_s or time.monotonic() - began
            answer = ids
            spoken = self._spoken(ids)
            if isinstance(options, BeamSearch):
                yield Preview(self._decode(spoken))
            elif delta := text.add(*spoken[len(text.ids) :]):
                yield TextDelta(delta)
        if isinstance(options, BeamSearch):
            whole = self._decode(self._spoken(answer))
        else:
            if rest := text.finish():
                yield TextDelta(rest)
            whole = text.text
        reading = generation.reading
        yield Finished(
            text=whole,
            reason="length" if self._end(answer) is None else "end",
            usage=Usage(reading.text_tokens, reading.picture_tokens, len(answer)),
            timings=Timings(waited_s, first_token_s, time.monotonic() - began),
            dropped_messages=dropped,
        )

    def _end(self, ids: Ids) -> int | None:
        """Where the first end token is."""
        return next((position for position, token in enumerate(ids) if token in self.reader.stop_ids), None)

    def _spoken(self, ids: Ids) -> Ids:
        """Ids up to the first end token, without those that are no text."""
        return [token for token in ids[: self._end(ids)] if token not in self.reader.silent_ids]

    def _decode(self, ids: Ids) -> str:
        text = TextStream(self.reader.tokenizer)
        text.add(*ids)
        text.finish()
        return text.text
