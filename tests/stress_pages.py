"""What `tests.stress` does on each page: open it, ask, stop, reload, leave, and look at what is left."""

from __future__ import annotations

import gc
import html
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from omnilmm.catalog import BUILT_IN
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import SwitchError
from omnilmm.ui.offer import Offer
from tests.pages.strangers import Stranger as GradioStranger
from tests.pages.visitor import Site as GradioSite
from tests.pages.visitor import serve as serve_gradio

QUIET_S = 120.0  # until everything of those who left is gone
ANSWER_S = 600.0
POOLS = ("AnyIO", "ThreadPool", "asyncio", "Thread-", "process log")  # threads that wait for the next work


def wait_quiet(left: Callable[[], list[str]]) -> list[str]:
    """What is still there when everything should be gone."""
    end = time.monotonic() + QUIET_S
    while (found := left()) and time.monotonic() < end:
        time.sleep(0.5)
    return [f"left over: {what}" for what in found]


def new_threads(before: set[str]) -> list[str]:
    names = {thread.name for thread in threading.enumerate()} - before
    return [f"thread {name}" for name in sorted(names) if not name.startswith(POOLS)]


class GradioTab:
    """An open tab of the Gradio page."""

    def __init__(self, page: GradioPage, name: dict[str, str] | None = None, state: str = "{}") -> None:
        self.page, self.stranger, self._raw = page, GradioStranger(page.site), list[str]()
        self.stranger.web.headers.update(name or {})
        self._line = ExitStack()
        self._line.enter_context(self.stranger.present())
        self._finish(self.stranger.join("Page.on_load", [state, "en"]).raise_for_status().json()["event_id"])

    @property
    def _visitor(self) -> Any:
        return self.page.site.page.visitors.get(self.stranger.session)

    def ask(self, question: str, picture: bytes | None, stop_s: float | None) -> tuple[str, str]:
        """The whole answer and its note; empty if nothing came of it."""
        paths = self.stranger.upload("own.png", picture).raise_for_status().json() if picture else []
        event = self.stranger.ask(question, *paths).raise_for_status().json()["event_id"]
        stop = threading.Timer(stop_s or 0, lambda: self.stranger.join("Answers.stop", []))
        if stop_s is not None:
            stop.start()
        self._finish(event)
        if stop_s is not None:
            stop.join()
        session = self._visitor.session
        messages = session.conversation.messages
        if len(messages) < 2 or messages[-2].text != question:
            return "", ""
        return messages[-1].text, session.texts.note(session.notes[-1])

    def _finish(self, event: str) -> None:
        with self.stranger.web.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self.stranger.session}, timeout=ANSWER_S
        ) as stream:
            for line in stream.iter_lines():
                self._raw.append(line)
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed" and message.get("event_id") == event:
                    if not message["success"]:
                        raise AssertionError(f"the server failed: {line[:300]}")
                    return
        raise AssertionError("a stream ended without the end of its event")

    def seen(self) -> str:
        said, self._raw = "".join(self._raw), []
        return said

    def reload(self) -> GradioTab:
        before, state = self._visitor.session.conversation, self._visitor.browser_state()
        name = {key: value for key, value in self.stranger.web.headers.items() if key.startswith("x-omnilmm")}
        self.leave()
        back = GradioTab(self.page, name, state)
        if back._visitor.session.conversation.messages != before.messages:
            raise AssertionError("another conversation came back after a reload")
        return back

    def leave(self) -> None:
        self._line.close()
        self.stranger.leave()


class GradioPage:
    """The Gradio page, being served."""

    name = "gradio"

    def __init__(self, site: GradioSite, provider: ModelProvider) -> None:
        self.site, self.provider = site, provider
        self.open = partial(GradioTab, self)
        self._switching: set[str] = set()  # sessions without a heartbeat, of which Gradio keeps the newest
        self._before = {*self._uploads()}  # of other tests

    def is_switching(self) -> bool:
        return self.provider.is_changing

    def switch(self, dtype: str) -> None:
        stranger = GradioStranger(self.site)
        self._switching.add(stranger.session)
        stranger.join("Choices.switch", [BUILT_IN, dtype]).raise_for_status()
        stranger.outcome()
        stranger.leave()
        self.site.page.visitors.close(stranger.session)

    def left_over(self, before: set[str]) -> list[str]:
        page = self.site.page

        def left() -> list[str]:
            visitors = [f"{len(page.visitors)} visitors"] if len(page.visitors) else []
            kept = {*page.demo.state_holder.session_data} - self._switching  # Gradio's own
            return [*visitors, *({*self._uploads()} - self._before), *new_threads(before), *kept]

        return wait_quiet(left)

    def _uploads(self) -> list[str]:
        """Walked: folders may go meanwhile."""
        found = (
            Path(folder) / name for folder, _, names in os.walk(self.site.page.context.uploads.folder) for name in names
        )
        return [str(path) for path in found if not path.name.endswith(".running")]


@contextmanager
def gradio_page(provider: ModelProvider, offer: Offer) -> Iterator[GradioPage]:
    with serve_gradio(provider, offer) as site:  # type: ignore[arg-type]
        yield GradioPage(site, provider)


class StreamlitTab:
    """An open tab of the Streamlit page."""

    def __init__(self, page: StreamlitPage, web: Any = None, state: str = "{}") -> None:
        from tests.streamlit_pages.stranger import Stranger

        self.page, self.stranger = page, Stranger(page.address, web=web)
        self.stranger.draw()
        self.stranger.draw(self.stranger.tell("browser-state", "kept", state))
        self.stranger.draw()

    def ask(self, question: str, picture: bytes | None, stop_s: float | None) -> tuple[str, str]:
        """All that the page says, and the newest note."""
        me = self.stranger
        me.ask(question, *([("own.png", picture)] if picture else []))
        if stop_s is not None and not me.watch(self._is_done, stop_s) and me.has("stop"):
            me.click("stop")
        if not me.watch(self._is_done, ANSWER_S):
            raise AssertionError(f"no end of an answer: {me.texts()}")
        notes = [said for text in me.texts() if "first word" in (said := html.unescape(text)) or "stopped" in said]
        return self.seen(), notes[-1] if notes else ""

    def _is_done(self) -> bool:
        return not self.stranger.has("stop")

    def seen(self) -> str:
        return "\n".join(self.stranger.texts())

    def reload(self) -> StreamlitTab:
        said = self.seen()
        kept = next(
            drawn.what.bidi_component
            for drawn in self.stranger.elements.values()
            if drawn.what.WhichOneof("type") == "bidi_component"
            and drawn.what.bidi_component.id.endswith("browser-state")
        )
        state = json.loads(kept.json or kept.mixed.json)["state"]
        self.stranger.hang_up()
        back = StreamlitTab(self.page, self.stranger.web, state)
        question = next((line for line in said.splitlines() if line.startswith("code") or line.endswith("?")), "")
        if question and question not in back.seen():
            raise AssertionError(f"{question!r} did not come back after a reload")
        return back

    def leave(self) -> None:
        self.stranger.leave()


class StreamlitPage:
    """The Streamlit page, being served."""

    name = "streamlit"

    def __init__(self, address: str, provider: ModelProvider) -> None:
        self.address, self.provider = address, provider
        self.open = partial(StreamlitTab, self)
        self._before = self._visitors()  # of other tests

    def is_switching(self) -> bool:
        return self.provider.is_changing

    def switch(self, dtype: str) -> None:
        with suppress(SwitchError):
            self.provider.switch(BUILT_IN, dtype)

    def left_over(self, before: set[str]) -> list[str]:
        from streamlit.runtime import Runtime

        runtime: Any = Runtime.instance()

        def left() -> list[str]:
            sessions = [f"session {info.session.id}" for info in runtime._session_mgr.list_active_sessions()]
            sessions += [f"broken {info.session.id}" for info in runtime._session_mgr._session_storage.list()]
            files = [name for name, held in runtime.uploaded_file_mgr.file_storage.items() if held]
            media = [*runtime.media_file_mgr._files_by_session_and_coord]
            visitors = [f"visitor {visitor}" for visitor in self._visitors() - self._before]
            return [*sessions, *files, *media, *visitors, *new_threads(before)]

        return wait_quiet(left)

    @staticmethod
    def _visitors() -> set[int]:
        from omnilmm.ui.streamlit_page.visitor import Visitor

        gc.collect()
        return {id(known) for known in gc.get_objects() if type(known) is Visitor}


@contextmanager
def streamlit_page(provider: ModelProvider, offer: Offer) -> Iterator[StreamlitPage]:
    from omnilmm.ui.streamlit_page import server_state, serving
    from tests.streamlit_pages.person import serve

    settings = serving.settings
    serving.settings = lambda *given, **more: settings(*given, **more) | {"server.disconnectedSessionTTL": 3}
    try:
        with serve(provider) as site:  # type: ignore[arg-type]
            server_state.serve(provider, offer)
            yield StreamlitPage(site.address, provider)
    finally:
        serving.settings = settings


PAGES = {"gradio": gradio_page, "streamlit": streamlit_page}
