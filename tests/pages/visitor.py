"""A person in front of the page, the page's server, and the pace of the model behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Error, Locator, Page, Request, expect

from omnilmm.engine.events import Engine, Event, Finished
from omnilmm.engine.local import LocalEngine
from omnilmm.engine.provider import ModelProvider
from omnilmm.live.talk import Parts
from omnilmm.ui.gradio_page.page import Page as TalkPage
from omnilmm.ui.gradio_page.serving import launch
from omnilmm.ui.offer import Offer
from omnilmm.ui.samples import samples
from tests.browser import opened
from tests.waiting import PATIENCE_S, wait_until

# On a busy machine with two cores; a test that waits in vain is red anyway.
PATIENCE_MS = PATIENCE_S * 1000
ANSWERED = "to first word"  # in the note under every whole answer
SAMPLES = {sample.picture.stem: sample for sample in samples()}

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Site:
    """A page that is being served."""

    engine: Any
    page: TalkPage
    address: str


@contextmanager
def serve(engine: Engine, offer: Offer | None = None, live: Parts | None = None, **how: Any) -> Iterator[Site]:
    provider = engine if isinstance(engine, ModelProvider) else ModelProvider.holding(engine)
    page = TalkPage(provider, offer, live=live)
    try:
        yield Site(engine, page, launch(page, port=0, **how))
    finally:
        page.demo.close(verbose=False)


@dataclass(eq=False)
class Visitor:
    """A person in front of the page."""

    page: Page
    foreign: list[Request] = field(default_factory=list)  # requests that went out to any other host
    broken: list[str] = field(default_factory=list)  # errors of the page's scripts

    @classmethod
    def arrives(cls, context: BrowserContext, address: str, login: tuple[str, str] | None = None) -> Visitor:
        """Opens the page, logs in if asked to, and waits until it can be used."""
        visitor = cls(opened(context))
        visitor.page.set_default_timeout(PATIENCE_MS)
        visitor.page.on("request", lambda request: visitor._note(request, address))
        visitor.page.on("requestfailed", visitor._forgive)
        visitor.page.on("pageerror", visitor._note_error)
        visitor.page.goto(address)
        if login:
            visitor.page.locator("input[type=password]").wait_for()
            for field_, text in zip(visitor.page.locator("input").all(), login, strict=True):
                field_.fill(text)
            visitor.page.keyboard.press("Enter")
        visitor.page.locator("html[data-ready]").wait_for()
        visitor.box.wait_for()
        return visitor

    def _note(self, request: Request, address: str) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            self.foreign.append(request)

    def _note_error(self, error: Error) -> None:
        if not str(error).startswith("Unable to preload CSS"):  # on a slow machine a reload breaks off what still loads
            self.broken.append(str(error))

    def _forgive(self, request: Request) -> None:
        if request.failure == "csp" and request in self.foreign:  # stopped by the page's own policy, never sent
            self.foreign.remove(request)

    @property
    def box(self) -> Locator:
        return self.page.locator("#question textarea")

    @property
    def notice(self) -> Locator:
        return self.page.locator(".notice")

    @property
    def stop(self) -> Locator:
        return self.page.locator("#question .stop-button")

    @property
    def send(self) -> Locator:
        return self.page.locator("#question .submit-button")

    @property
    def pictures(self) -> Locator:
        return self.page.locator("#chat img.picture")

    @property
    def attached(self) -> Locator:
        return self.page.locator("#question .thumbnail-item")

    def questions(self) -> list[str]:
        return [text for text in self.page.locator("#chat .user.message").all_inner_texts() if text.strip()]

    def answers(self) -> list[str]:
        """What is said; not the picture with its boxes, which has a bubble of its own."""
        beside = ".note, .photo-line, .thought-group, img.picture"
        return self.page.locator(f"#chat .bot.message:not(:has({beside}))").all_inner_texts()

    def notes(self) -> list[str]:
        return self.page.locator("#chat .note").all_inner_texts()

    @property
    def answer(self) -> str:
        """The newest answer, as far as it is."""
        return (self.answers() or [""])[-1]

    @property
    def newest_note(self) -> Locator:
        return self.page.locator("#chat .note").last

    @property
    def note(self) -> str:
        """The newest note, as it is now."""
        return (self.notes() or [""])[-1]

    def sample(self, name: str, code: str = "en") -> None:
        self.page.locator(".sample", has_text=SAMPLES[name].asked_in(code)).click()

    def attach(self, *paths: Path) -> None:
        before = self.attached.count()
        self.choose(*paths)
        self.until(lambda: self.attached.count() == before + len(paths) and self.send.is_enabled())

    def choose(self, *paths: Path) -> None:
        """Files that may not be taken."""
        self.page.locator("#question input[type=file]").set_input_files([str(path) for path in paths])

    def drop(self, path: Path) -> None:
        """Drag a file over the question box and let go; by the browser itself, as a hand would."""
        drop(self.page, self.box, path)

    def ask(self, question: str, *pictures: Path) -> None:
        if pictures:
            self.attach(*pictures)
        self.box.fill(question)
        self.box.press("Enter")

    def press(self, name: str) -> None:
        """One of the buttons under the conversation: regenerate, undo, clear."""
        self.page.locator(f"#{name}").click()

    def edit(self, number: int, text: str) -> None:
        """Ask another question in place of an earlier one, about the same picture."""
        self.page.locator("#chat .edit").nth(number).click()
        self.page.locator("#cancel").wait_for()
        self.box.fill(text)
        self.box.press("Enter")

    def export(self, path: Path) -> None:
        """Save the conversation with its pictures."""
        self.unfold("files")
        with self.page.expect_download() as download:
            self.page.locator("#export-json").click()
        download.value.save_as(path)

    def load(self, path: Path) -> None:
        """Go on with a saved conversation."""
        self.unfold("files")
        self.page.locator("input[type=file][accept='.json']").set_input_files(str(path))

    def unfold(self, panel: str) -> None:
        """Open one of the panels beside the conversation."""
        if not self.page.locator(f"#{panel} button.open").count():
            self.page.locator(f"#{panel} button").first.click()

    def unfold_past(self) -> None:
        """Open the list of past chats."""
        self.unfold("past")

    @property
    def is_idle(self) -> bool:
        """Whether no answer is being given."""
        return not self.stop.is_visible()

    def wait_until_stable(self) -> None:
        """Wait until no answer is being given; what is drawn anew is not faded here."""
        self.until(lambda: self.is_idle)

    def reload(self) -> None:
        """F5."""
        self.page.reload()
        self.page.locator("html[data-ready]").wait_for()

    def answered(self, count: int = 1) -> str:
        """Wait for whole answers; the last one's text, which Gradio draws a little later than its bubble."""
        self.noted(count)
        self.until(lambda: bool(self.answer))
        return self.answer

    def noted(self, count: int = 1) -> None:
        """Wait for whole answers, which may be empty: of random weights about what a camera has just recorded."""
        self.until(lambda: len(notes := self.notes()) == count and ANSWERED in notes[-1])

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that is seen on the page."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                text = self.page.locator("body").inner_text()
                raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain; the page says:\n{text}")
            self.page.wait_for_timeout(100)


def drop(page: Page, target: Locator, path: Path) -> None:
    """Drag a file over something and let go; by the browser itself, as a hand would."""
    where = target.bounding_box()
    assert where
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    at = {"x": where["x"] + where["width"] / 2, "y": where["y"] + where["height"] / 2}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
        page.wait_for_timeout(300)


class Pace:
    """Lets a model take one step at a time, so that no test depends on how fast the machine is.

    Each pass through the language model waits until it is allowed.

    Attributes:
        passes: how many have begun and were allowed.
        fail_after: passes after which the model breaks; None for never.
        closed: set when somebody closes a stream of the engine before its end; the model has not noticed yet.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self.passes, self._allowed = 0, 0.0
        self.fail_after: int | None = None
        self.closed, self._is_left = threading.Event(), threading.Event()
        self._change = threading.Condition()
        self._stream, self._scheduler = engine.stream, engine.scheduler

    def allow(self, passes: float = inf) -> None:
        """So many passes more, for good without a number."""
        with self._change:
            self._allowed += passes
            self._change.notify_all()

    def hold(self) -> None:
        """No pass more than there were."""
        with self._change:
            self._allowed = self.passes

    def before(self, *_: Any) -> None:
        """A hook of the language model."""
        with self._change:
            self._change.wait_for(lambda: self.passes < self._allowed)
            self.passes += 1
            if self.fail_after is not None and self.passes > self.fail_after:
                raise RuntimeError("the device caught fire")

    def stream(self, *arguments: Any) -> Generator[Event]:
        """The engine's own stream, watched."""
        events, is_over = self._stream(*arguments), False
        try:
            for event in events:
                is_over = isinstance(event, Finished)
                yield event
        except GeneratorExit:
            if not is_over:
                self._is_left.clear()
                self.closed.set()
            raise
        finally:
            events.close()
            self._is_left.set()

    def was_closed(self) -> bool:
        """Whether a stream was closed before its end; from here on the model may go on, and must not."""
        is_closed = self.closed.wait(PATIENCE_S)
        self.closed.clear()
        # The thread that closes it may be anywhere: the model is not let go on before it is told.
        wait_until(lambda: self._is_left.is_set() or any(job.leaving for job in [*self._scheduler._running]))
        return is_closed


def wait_until_free(engine: LocalEngine, seconds: float = PATIENCE_S) -> None:
    """Fails unless the model is done with everybody, now or within so many seconds."""
    end = time.monotonic() + seconds
    while engine.scheduler.count:
        assert time.monotonic() < end, "the model is still busy with an answer that nobody wants"
        time.sleep(0.05)
