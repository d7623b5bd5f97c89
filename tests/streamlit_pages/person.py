"""A person in front of the Streamlit page, and the page's server in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import BrowserContext, Locator, Page, Request
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.web.bootstrap import load_config_options

import web_demo_streamlit
from omnilmm.engine.events import Engine
from omnilmm.engine.provider import ModelProvider
from omnilmm.ui.streamlit_page import server_state, serving
from omnilmm.ui.texts import ENGLISH
from tests.browser import opened
from tests.pages.visitor import ANSWERED, PATIENCE_MS, SAMPLES, drop
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]

TRIES = 3  # of attaching files


@dataclass
class Site:
    """The page, being served."""

    address: str
    engine: Any = None

    def use(self, engine: Engine) -> None:
        """From now on this engine answers everybody."""
        self.engine = engine
        server_state.serve(held(engine))


def held(engine: Engine) -> ModelProvider:
    """What answers with this engine; it may be one that can change it."""
    return engine if isinstance(engine, ModelProvider) else ModelProvider.holding(engine)


@contextmanager
def serve(engine: Engine, *flags: str) -> Iterator[Site]:
    """Serve the page on any free port; one at a time, since Streamlit has one runtime per process."""
    given = web_demo_streamlit.parser().parse_args(["--port", "0", *flags])
    config._main_script_path = str(ROOT / "web_demo_streamlit.py")  # there is its `.streamlit` folder
    load_config_options(serving.settings("127.0.0.1", 0))
    Runtime._instance = None  # another test's application may have left its own
    app = web_demo_streamlit.build(lambda: held(engine), given)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, name="page", daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive() and time.monotonic() < end, "the page did not start"
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Site(f"http://127.0.0.1:{port}", engine)
    finally:
        server.should_exit = True
        thread.join()
        Runtime._instance = None


@dataclass(eq=False)
class Person:
    """Somebody who looks at the page."""

    page: Page
    foreign: list[Request] = field(default_factory=list)  # requests that went out to any other host
    broken: list[str] = field(default_factory=list)  # errors of the page's scripts

    @classmethod
    def arrives(cls, context: BrowserContext, address: str) -> Person:
        """Opens the page and waits until it can be used."""
        person = cls(opened(context))
        person.page.set_default_timeout(PATIENCE_MS)
        person.page.on("request", lambda request: person._note(request, address))
        person.page.on("requestfailed", person._forgive)
        person.page.on("pageerror", lambda error: person.broken.append(str(error)))
        person.page.goto(address)
        person.until(lambda: bool(person.remembered()))  # the page was drawn anew, for who it is
        person.page.wait_for_function("window.omnilmm")  # from here on it takes files that are dropped or pasted
        person.wait_until_stable()
        return person

    def _note(self, request: Request, address: str) -> None:
        if not request.url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:")):
            self.foreign.append(request)

    def _forgive(self, request: Request) -> None:
        if request.failure == "csp" and request in self.foreign:  # stopped by the page's own policy, never sent
            self.foreign.remove(request)

    @property
    def box(self) -> Locator:
        return self.page.locator("[data-testid=stChatInput] textarea")

    @property
    def notice(self) -> Locator:
        return self.page.locator("[data-testid=stAlert]:not([class*=st-key-photo-line-] *)")

    @property
    def pictures(self) -> Locator:
        return self.page.locator("[class*=st-key-message-] [data-testid=stImage] img")

    @property
    def attached(self) -> Locator:
        return self.page.locator(".st-key-pending [data-testid=stImage]")

    @property
    def header(self) -> str:
        """What is said above the conversation; nothing while Streamlit draws it anew, where it can be there twice."""
        texts = self.page.locator(".st-key-header").all_inner_texts()
        return texts[0] if len(texts) == 1 else ""

    def button(self, key: str) -> Locator:
        return self.page.locator(f".st-key-{key} button")

    def message(self, number: int) -> Locator:
        return self.page.locator(f".st-key-message-{number}")

    def questions(self) -> list[str]:
        return self._texts(0)

    def answers(self) -> list[str]:
        return self._texts(1)

    def _texts(self, first: int) -> list[str]:
        """What is said in every second bubble."""
        said = []
        number = first
        while (bubble := self.message(number)).count():
            parts = bubble.locator(
                "[data-testid=stMarkdown]:not(:has([data-testid=stCaptionContainer]))"
            ).all_inner_texts()
            said.append("\n".join(part for part in parts if part.strip()))
            number += 2
        return said

    def notes(self) -> list[str]:
        return self.page.locator("[class*=st-key-note-] [data-testid=stCaptionContainer]").all_inner_texts()

    @property
    def answer(self) -> str:
        return (self.answers() or [""])[-1]

    @property
    def note(self) -> str:
        return (self.notes() or [""])[-1]

    def sample(self, name: str, code: str = "en") -> None:
        self.page.get_by_role("button", name=SAMPLES[name].asked_in(code), exact=True).click()

    def attach(self, *paths: Path) -> None:
        """Attach files; again if the box was drawn anew meanwhile, as while the model is still loading."""
        before, box = self.attached.count(), self.page.locator("[data-testid=stChatInput] input[type=file]").first
        for _ in range(TRIES):
            box.set_input_files([str(path) for path in paths])
            with suppress(PlaywrightTimeoutError):
                self.attached.nth(before + len(paths) - 1).wait_for(timeout=PATIENCE_MS / TRIES)
                return
        raise AssertionError(f"{len(paths)} files were not attached")

    def paste(self, picture: bytes) -> None:
        self.box.evaluate(
            """(element, bytes) => {
                const data = new DataTransfer()
                data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }))
                const how = { clipboardData: data, bubbles: true, cancelable: true }
                element.dispatchEvent(new ClipboardEvent("paste", how))
            }""",
            list(picture),
        )

    def drop(self, path: Path, over: Locator | None = None) -> None:
        """Drag a file over something, e.g. the question box, and let go; by the browser itself, as a hand would."""
        drop(self.page, over or self.box, path)

    @property
    def scrolled(self) -> tuple[float, float]:
        """How many pixels are above what is seen, and how many below."""
        above, below = self.page.locator("[data-testid=stMain]").evaluate(
            "main => [main.scrollTop, main.scrollHeight - main.scrollTop - main.clientHeight]"
        )
        return above, below

    @property
    def newest(self) -> Locator:
        """The button to the newest turn."""
        return self.page.locator(".st-key-newest button")

    def remembered(self) -> str:
        """What the browser remembers for this tab."""
        return str(self.page.evaluate("sessionStorage.getItem('omnilmm-chat')") or "")

    def ask(self, question: str, *pictures: Path) -> None:
        if pictures:
            self.attach(*pictures)
        self.box.fill(question)
        self.page.locator("[data-testid=stChatInputSubmitButton]:enabled").wait_for()  # uploaded
        self.box.press("Enter")

    def press(self, name: str) -> None:
        """One of the buttons under the conversation: regenerate, undo, clear."""
        self.button(name).click()

    def edit(self, number: int, text: str) -> None:
        """Ask another question in place of an earlier one, about the same picture."""
        self.button(f"edit-{2 * number}").click()
        self.page.locator(f".st-key-edited-{2 * number} textarea").fill(text)
        self.button("edit-save").click()

    def export(self, path: Path) -> None:
        """Save the conversation with its pictures."""
        self.unfold()
        self.wait_until_stable()
        with self.page.expect_download() as download:
            self.button("export-json").click()
        download.value.save_as(path)

    def load(self, path: Path) -> None:
        """Go on with a saved conversation."""
        self.unfold()
        self.page.locator(".st-key-import input[type=file]").set_input_files(str(path))

    def unfold(self) -> None:
        """Open the panel with what is exported and imported."""
        self.open_panel(ENGLISH.export)

    def unfold_past(self) -> None:
        """Open the list of past chats."""
        self.open_panel(ENGLISH.past["title"])
        self.page.locator(".past-switch").wait_for()

    def open_panel(self, title: str) -> None:
        """Open one of the panels of the sidebar; an open one stays so."""
        name = self.page.locator("summary").get_by_text(title, exact=True)
        panel = self.page.locator("[data-testid=stSidebar] details", has=name)
        panel.wait_for()
        if panel.get_attribute("open") is None:
            panel.locator("summary").click()

    @property
    def is_idle(self) -> bool:
        """Whether no answer is being given."""
        return not self.button("stop").count()

    def wait_until_stable(self) -> None:
        """Wait until nothing is drawn any more; what is drawn anew is faded meanwhile."""
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        self.page.wait_for_function(
            """() => !document.querySelector('[data-stale=true]')
                && !document.getAnimations().some(one => one instanceof CSSTransition)"""
        )

    def reload(self) -> None:
        """F5."""
        self.page.reload()
        self.box.wait_for()
        self.page.wait_for_function("window.omnilmm")

    def answered(self, count: int = 1) -> str:
        """Wait for whole answers; the last one's text."""
        self.until(lambda: len(notes := self.notes()) == count and ANSWERED in notes[-1])
        self.wait_until_stable()  # a run that draws the note draws Stop later
        self.until(lambda: not self.button("stop").count())
        self.wait_until_stable()  # the growing turn and the kept one may stand beside each other for a moment
        return self.answers()[-1]

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that is seen on the page."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                text = self.page.locator("body").inner_text()
                raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain; the page says:\n{text}")
            self.page.wait_for_timeout(100)
