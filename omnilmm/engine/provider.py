"""The one model that serves all users, and switching it for another one without losing any request.

    switch ── checking, downloading ── ending ─────── loading ─────────────────── done
              │ the old model answers    │ its answers  │ requests wait            all users are notified
              └> failed, cancelled:      └ finish, then └> restored: the new one failed to load or to answer,
                 nothing has changed       it is unloaded  so the old one was loaded again

One change at a time: a second request is refused until the first has ended or been cancelled. Any user may cancel it
while the model is being checked or downloaded. The change belongs to the server: closing a page does not abort it.
"""

from __future__ import annotations

import gc
import logging
import reprlib
import threading
import time
from collections.abc import Callable, Collection, Generator, Hashable
from contextlib import closing
from dataclasses import dataclass, field, replace

from omnilmm.catalog import ModelCard
from omnilmm.conversation import Conversation, Picture
from omnilmm.engine.change import OVER, Change, Loadable, ModelRequest, Prepare, Stage, SupportsClose, SupportsWarmUp
from omnilmm.engine.events import (
    HEARTBEAT_S,
    Engine,
    Event,
    Finished,
    PictureSlice,
    Preview,
    Progress,
    TextDelta,
    ThoughtDelta,
    Timings,
    Usage,
)
from omnilmm.engine.options import Options
from omnilmm.engine.placement.device_memory import give_back_unused_memory
from omnilmm.errors import CheckpointError, HardwareError, OmniLMMError, SwitchError
from omnilmm.hardware import DTYPE_CHOICES, DTYPES, QUANTISED, Choice, is_out_of_memory
from omnilmm.model_lookup import find
from omnilmm.sentences import Sentence

FINISH_S = 20.0  # how long answers of the old model may continue before they are cut off
NEWS_S = 60.0  # how long users are notified that the model has changed
LEAVE_S = 30.0  # how long answers that were cut off may take to end; after that the old model stays
STOP_S = 15.0  # a stalled connection times out within 10 seconds
CANCELLED = SwitchError("download_cancelled")
PENDING = Choice("…", Sentence("still_loading"))

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Answer:
    """An answer being generated."""

    engine: Engine | None
    called_off: threading.Event = field(default_factory=threading.Event)


class ModelProvider:
    """An engine (see `events.Engine`) that stays the same for its callers while the model behind it is replaced.

    Args:
        prepare: prepares a model for loading.
        names: the models that users may choose.
        find: returns the card of a model.
    """

    def __init__(
        self,
        prepare: Prepare | None = None,
        names: Collection[str] = (),
        find: Callable[[str], ModelCard] = find,
    ) -> None:
        self._prepare, self.names, self._find = prepare, set(names), find
        self.change: Change | None = None
        self.version = 0  # incremented whenever the displayed model changes
        self.requested: ModelRequest | None = None
        self._engine: Engine | None = None
        self._loaded: Loadable | None = None  # what the engine was loaded from
        self._answers: set[_Answer] = set()
        self._waits = False  # new requests wait
        self._cancelled = threading.Event()
        self._ended_s = 0.0  # when the latest change ended
        self._changed = threading.Condition()

    @classmethod
    def holding(cls, engine: Engine) -> ModelProvider:
        """Return a provider with a fixed engine that is already loaded."""
        provider = cls()
        provider._engine = engine
        return provider

    # --- the current model --------------------------------------------------------------------------------------------

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers, or of the one being loaded."""
        engine, change = self._engine, self.change
        if engine is not None:
            return engine.card
        if change is None:
            raise SwitchError("no_model_requested")
        return change.before if change.stage == "restoring" and change.before else change.card

    @property
    def device(self) -> Choice:
        """The device it runs on, and why."""
        engine = self._engine
        return engine.device if engine is not None else PENDING

    @property
    def dtype(self) -> Choice:
        """The dtype it computes in, and why."""
        engine = self._engine
        return engine.dtype if engine is not None else PENDING

    @property
    def memory_bytes(self) -> int | None:
        """The memory its weights occupy."""
        engine = self._engine
        return engine.memory_bytes if engine is not None else None

    @property
    def is_ready(self) -> bool:
        """Whether a model is loaded."""
        return self._engine is not None

    @property
    def is_changing(self) -> bool:
        """Whether a change of models is in progress."""
        return self.change is not None and not self.change.is_over

    @property
    def failure(self) -> OmniLMMError | None:
        """Why no model is loaded; None while one is loaded or a change is in progress."""
        return self.change.failure if self.change and self.change.is_over and not self.is_ready else None

    @property
    def news(self) -> Change | None:
        """The latest change, for display; None once a successful or cancelled one is older than `NEWS_S`."""
        change = self.change
        passes = change is not None and change.stage in ("done", "cancelled")
        return None if passes and time.monotonic() > self._ended_s + NEWS_S else change

    @property
    def progress(self) -> Progress:
        """The progress reported to requests that wait for a model."""
        change = self.change
        if change is not None and change.stage == "downloading":
            return Progress("downloading", *change.progress)
        return Progress("loading")

    # --- changing the model -------------------------------------------------------------------------------------------

    def begin(self, request: ModelRequest) -> None:
        """Start loading the first model in the background.

        Raises:
            OmniLMMError: There is no such model.
        """
        card = self._find(request.model)
        self.names |= {request.model, card.name}
        self._start(replace(request, model=card.name), card)

    def switch(self, model: object, dtype: object = "auto", fits: str | None = None) -> bool:
        """Start switching to another model for all users; this runs in the background, see `change`.

        Args:
            model: one of `names`; validated, since it may come from a browser.
            dtype: "auto" or a dtype; validated likewise.
            fits: see `ModelRequest`.

        Returns:
            Whether a change has begun; False if that model already answers or is being loaded.

        Raises:
            SwitchError: No such model or dtype, or another change is in progress; nothing has changed.
        """
        if not isinstance(model, str) or model not in self.names:
            raise SwitchError("no_model_to_choose", model=reprlib.repr(model))
        if not isinstance(dtype, str) or dtype not in ("auto", *DTYPES, *QUANTISED):
            raise SwitchError("unknown_dtype", dtype=reprlib.repr(dtype), expected=DTYPE_CHOICES)
        return self._start(ModelRequest(model, dtype, fits), self._find(model))

    def _start(self, request: ModelRequest, card: ModelCard) -> bool:
        with self._changed:
            now = self.requested
            if now and (request.model, request.dtype) == (now.model, now.dtype) and (self.is_changing or self.is_ready):
                return False
            if self.is_changing and self.change:
                raise SwitchError("change_under_way", title=self.change.card.title)
            before = self.requested
            self.requested = request
            self._cancelled.clear()
            self.change = Change(card, self._engine.card if self._engine else None)
            if not self._engine:
                self.version += 1
        threading.Thread(target=self._run, args=(request, before), name="switching", daemon=True).start()
        return True

    def cancel(self) -> bool:
        """Cancel the change in progress, if the old model can still stay; downloaded data is kept.

        Returns:
            Whether there was anything to cancel.
        """
        with self._changed:
            if self.change is None or not self.change.can_be_cancelled:
                return False
            self._cancelled.set()
            self._set_stage("cancelling")
            return True

    def wait(self) -> None:
        """Block until no change is in progress.

        Raises:
            OmniLMMError: The model could not be loaded.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: not self.is_changing, HEARTBEAT_S):
                pass  # with a timeout, so that Ctrl-C is handled
        if self._engine is None:
            raise self._reason()

    def stop(self) -> None:
        """Stop a download in progress when the program exits; downloaded data is kept."""
        is_fetching = self.change is not None and self.change.stage == "downloading"
        if self.cancel() and is_fetching:
            with self._changed:
                self._changed.wait_for(lambda: not self.is_changing, STOP_S)

    # --- answering ----------------------------------------------------------------------------------------------------

    def stream(
        self, conversation: Conversation, options: Options | None = None, owner: Hashable = None
    ) -> Generator[Event]:
        """Answer the last message of a conversation, see `events.Engine`; while a model loads, yield its progress.

        An answer that has not begun when its model is unloaded is generated by the next one.
        """
        while True:
            answer = yield from self._enter()
            try:
                if (yield from self._pass_on(answer, conversation, options, owner)):
                    return
            finally:
                self._leave(answer)

    def slices(self, picture: Picture, options: Options | None = None) -> tuple[PictureSlice, ...] | None:
        """Return how the model slices a picture; None until a model is loaded."""
        engine = self._engine
        return engine.slices(picture, options) if engine is not None else None

    def forget(self, owner: Hashable) -> None:
        """Drop everything cached for an owner."""
        if (engine := self._engine) is not None:
            engine.forget(owner)

    def _enter(self) -> Generator[Event, None, _Answer]:
        """Wait until a model is loaded and accepts requests; yields progress meanwhile."""
        while True:
            with self._changed:
                if self._engine is None and not self.is_changing:
                    raise self._reason()
                if self._engine is not None and not self._waits:
                    answer = _Answer(self._engine)
                    self._answers.add(answer)
                    return answer
                self._changed.wait(HEARTBEAT_S)
            yield self.progress

    def _pass_on(
        self, answer: _Answer, conversation: Conversation, options: Options | None, owner: Hashable
    ) -> Generator[Event, None, bool]:
        """Yield the model's events.

        Returns:
            True if the request was answered, at least in part; False if it was cut off before any text, to be retried.
        """
        if answer.engine is None:
            return False
        text, thought = "", ""
        with closing(answer.engine.stream(conversation, options, owner)) as events:
            for event in events:
                if answer.called_off.is_set() and not isinstance(event, Finished):
                    break
                if isinstance(event, TextDelta | Preview):
                    text = event.text if isinstance(event, Preview) else text + event.text
                elif isinstance(event, ThoughtDelta):
                    thought += event.text
                yield event
            else:
                return True
        if text or thought:  # the consumer has received the thought already
            yield Finished(text, "switched", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0))
        return bool(text or thought)

    def _leave(self, answer: _Answer) -> None:
        answer.engine = None  # drop the reference before waiters are notified
        with self._changed:
            self._answers.discard(answer)
            self._changed.notify_all()

    def _reason(self) -> OmniLMMError:
        """Return the failure as a new error each time: one that was raised keeps its stack frames alive."""
        if self.failure is None:
            return SwitchError("no_model_answers")
        return type(self.failure).of(self.failure.sentence)

    # --- background thread of a change --------------------------------------------------------------------------------

    def _run(self, request: ModelRequest, before: ModelRequest | None) -> None:
        ready, failure = self._get_ready(request)
        old, title = self._loaded, self.card.title
        failure = failure or self._unload()
        if failure or ready is None:
            self.requested = before if self.is_ready else None
            self._set_stage("cancelled" if self._cancelled.is_set() and self.is_ready else "failed", failure)
            return
        failure = self._load(ready, must_answer=old is not None)
        if failure is None:
            self._set_stage("done")
            if old is None:
                self._warm_up()
            return
        if old is None:
            self._set_stage("failed", failure)
            return
        self._set_stage("restoring", failure)
        again = self._load(old, must_answer=False)
        if again:
            logger.error("%s could not be loaded again: %s", title, again)
        self.requested = None if again else before
        self._set_stage("lost" if again else "restored", failure)

    def _get_ready(self, request: ModelRequest) -> tuple[Loadable | None, OmniLMMError | None]:
        """Check and download the new model while the old one keeps answering."""
        try:
            if self._prepare is None:
                raise SwitchError("model_is_fixed")
            ready = self._prepare(request, self.memory_bytes or 0, self._report)
            self._check_cancelled()
        except Exception as error:  # any failure has to be reported to the users
            return None, self._without_traceback(error)
        return ready, None

    def _report(self, done: int, total: int) -> None:
        self._check_cancelled()
        with self._changed:
            if self.change and not self._cancelled.is_set():
                stage: Stage = "downloading" if done < total else "checking"
                self.change = replace(self.change, stage=stage, progress=(done, total))

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise SwitchError.of(CANCELLED.sentence)

    def _unload(self) -> OmniLMMError | None:
        """Unload the old model once its answers have ended; returns the reason if it has to stay."""
        with self._changed:
            if self._cancelled.is_set():
                return CANCELLED
            if self._engine is not None:
                self._waits = True
                self._set_stage("ending")
                if not self._changed.wait_for(lambda: not self._answers, FINISH_S):
                    for answer in self._answers:
                        answer.called_off.set()
                    if not self._changed.wait_for(lambda: not self._answers, LEAVE_S):
                        return SwitchError("answers_do_not_end", title=self.card.title)
            old, self._engine, self._loaded = self._engine, None, None
            self.version += 1
            self._set_stage("loading")
        if isinstance(old, SupportsClose):
            old.close()
        if old is not None:
            gc.unfreeze()  # so that it is collected if it is part of a reference cycle
        return None

    def _load(self, ready: Loadable, *, must_answer: bool) -> OmniLMMError | None:
        """Load a model in place of the unloaded one; on failure, free whatever was loaded and return the error."""
        _free_memory()
        engine: Engine | None = None
        try:
            engine = ready.load()
            if must_answer and isinstance(engine, SupportsWarmUp):
                engine.warm_up()
        except Exception as error:
            failure = self._without_traceback(error)
            if isinstance(engine, SupportsClose):
                engine.close()
        else:
            _collect_garbage()
            with self._changed:
                self._engine, self._loaded, self._waits = engine, ready, False
                self.version += 1
            return None
        del engine
        _free_memory()
        return failure

    def _warm_up(self) -> None:
        """Warm up the first model; waiting requests are not held up by this, and a failure is only logged."""
        with self._changed:
            if not isinstance(self._engine, SupportsWarmUp):
                return
            answer = _Answer(self._engine)  # registered as an answer, so that the model is not unloaded meanwhile
            self._answers.add(answer)
        try:
            if isinstance(answer.engine, SupportsWarmUp):
                answer.engine.warm_up()
        except Exception:  # the first answer will report the error
            logger.exception("%s could not be warmed up", self.card.title)
        finally:
            self._leave(answer)

    def _set_stage(self, stage: Stage, failure: OmniLMMError | None = None) -> None:
        with self._changed:
            if stage in OVER:  # first: whoever reads the change without the lock may ask at once when it ended
                self._waits, self._ended_s = False, time.monotonic()
            if self.change:
                self.change = replace(self.change, stage=stage, failure=failure)
            self._changed.notify_all()

    def _without_traceback(self, error: Exception) -> OmniLMMError:
        """Return the error without its traceback, which would keep a half-loaded model in memory."""
        if isinstance(error, OmniLMMError):
            plain = type(error).of(error.sentence)
            if self.change and self.change.before and not self._cancelled.is_set():
                logger.warning("%s was not taken into use. %s", self.change.card.title, plain)
            return plain
        title = self.change.card.title if self.change else Sentence("the_model")
        logger.error("%s could not be loaded", title, exc_info=error)
        if is_out_of_memory(error):
            return HardwareError("out_of_memory_loading", title=title)
        return CheckpointError("loading_failed", title=title, reason=str(error) or type(error).__name__)


def _free_memory() -> None:
    """Free the memory of an unloaded model, for the next one and for other programs."""
    _collect_garbage()
    give_back_unused_memory()


def _collect_garbage() -> None:
    """Collect garbage, and exempt all that is left (libraries, page, model) from it until a model is unloaded.

    Python looks at all objects only once their number has grown by a quarter. With half a million that live as long as
    the program, what visitors leave behind in reference cycles (Gradio does with each answer) would stay for thousands
    of answers, and each look would stop the model for a fraction of a second.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # of nothing: so that Python counts from here
