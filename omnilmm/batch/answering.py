"""Answer many questions, several at a time, in the order in which they are asked."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from omnilmm.conversation import Conversation
from omnilmm.engine.events import Engine, Finished
from omnilmm.engine.options import Options
from omnilmm.errors import InputError, OmniLMMError

AT_ONCE = 8  # the least that the local engine runs concurrently
AHEAD = 2  # questions taken from the input for each that is answered: the next pictures are decoded meanwhile

# Prepares one question, e.g. decodes its pictures; called in the thread that asks it.
Prepare = Callable[[], tuple[Conversation, Options]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """The answer to one question of a batch, or why there is none.

    Attributes:
        number: number of the question, from 0.
        finished: the answer; None if there is none.
        error: why there is no answer.
    """

    number: int
    finished: Finished | None = None
    error: OmniLMMError | None = None

    @property
    def text(self) -> str:
        """The text of the answer; empty if there is none."""
        return self.finished.text if self.finished else ""


def answer_all(engine: Engine, questions: Iterable[Prepare], at_once: int = AT_ONCE) -> Generator[Reply]:
    """Answer questions, several at a time; yields a reply for each, in their order.

    A question that fails is a reply with its error, and stops nothing. Closing the generator stops the model within one
    token.

    Args:
        engine: answers them.
        questions: read only a little ahead of the answers, so it may be long.
        at_once: number of questions that are answered concurrently.
    """
    stopped = threading.Event()
    pending: deque[Future[Reply]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="batch") as pool:
        try:
            for number, prepare in enumerate(questions):
                pending.append(pool.submit(_reply, engine, number, prepare, stopped))
                if len(pending) >= AHEAD * at_once:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:  # first: a thread that stops would take the next one
                future.cancel()
            stopped.set()


def _reply(engine: Engine, number: int, prepare: Prepare, stopped: threading.Event) -> Reply:
    try:
        return Reply(number, _finished(engine, *prepare(), stopped))
    except OmniLMMError as error:
        return Reply(number, error=error)
    except Exception as error:  # one question must not end the others
        logger.exception("Question %d of a batch failed", number + 1)
        return Reply(number, error=InputError("question_failed", kind=type(error).__name__, reason=error))


def _finished(
    engine: Engine, conversation: Conversation, options: Options, stopped: threading.Event
) -> Finished | None:
    with closing(engine.stream(conversation, options)) as events:
        for event in events:
            if isinstance(event, Finished):
                return event
            if stopped.is_set():
                return None
    return None
