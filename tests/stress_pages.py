"""The pages of `tests.stress`, being served in this process: how they are opened, and what is left on them."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omnilmm.catalog import BUILT_IN
from omnilmm.engine.provider import ModelProvider
from omnilmm.errors import SwitchError
from omnilmm.ui.gradio_page.uploads import HEADER
from omnilmm.ui.offer import Offer
from tests.pages.strangers import Stranger, handlers
from tests.pages.visitor import Site
from tests.pages.visitor import serve as serve_gradio
from tests.stress_people import GradioClient, StreamlitClient

MOST_BYTES = 8 * 2**20  # of caches and of stored sessions: soon full, so that whatever else grows is seen
QUIET_S = 120.0  # until everything of those who left is gone; Streamlit keeps a broken line's session for a minute
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


class GradioPage:
    """The Gradio page, being served."""

    name = "gradio"

    def __init__(self, site: Site, provider: ModelProvider) -> None:
        self.site, self.provider = site, provider
        self.client = GradioClient(site.address, handlers(site), HEADER)
        self._switching: set[str] = set()  # sessions without a heartbeat, of which Gradio keeps the newest
        self._before = {*self._uploads()}  # of other tests

    def is_switching(self) -> bool:
        return self.provider.is_changing

    def switch(self, dtype: str) -> None:
        stranger = Stranger(self.site)
        self._switching.add(stranger.session)
        stranger.join("Choices.switch", [BUILT_IN, dtype]).raise_for_status()
        stranger.outcome()
        stranger.leave()
        self.site.page.visitors.close(stranger.session)

    def left_over(self, before: set[str]) -> list[str]:
        page = self.site.page

        def left() -> list[str]:
            visitors = [f"{len(page.visitors)} visitors"] if len(page.visitors) else []
            gradios = page.demo.state_holder
            kept = {*gradios.session_data, *gradios.time_last_used} - self._switching
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
        site.page.visitors.store.max_bytes = MOST_BYTES
        yield GradioPage(site, provider)


class StreamlitPage:
    """The Streamlit page, being served."""

    name = "streamlit"

    def __init__(self, address: str, provider: ModelProvider) -> None:
        self.provider = provider
        self.client = StreamlitClient(address)
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

        gc.unfreeze()  # what there was when the model was loaded: it would not be listed
        gc.collect()
        return {id(known) for known in gc.get_objects() if type(known) is Visitor}


@contextmanager
def streamlit_page(provider: ModelProvider, offer: Offer) -> Iterator[StreamlitPage]:
    from omnilmm.ui.streamlit_page import server_state, serving
    from omnilmm.ui.streamlit_page.visitor import SESSION_STORE
    from tests.streamlit_pages.person import serve

    settings, most_bytes = serving.settings, SESSION_STORE.max_bytes
    SESSION_STORE.max_bytes = MOST_BYTES
    serving.settings = lambda *given, **more: settings(*given, **more) | {"server.disconnectedSessionTTL": 3}
    try:
        with serve(provider) as site:  # type: ignore[arg-type]
            server_state.serve(provider, offer)
            yield StreamlitPage(site.address, provider)
    finally:
        serving.settings, SESSION_STORE.max_bytes = settings, most_bytes


PAGES = {"gradio": gradio_page, "streamlit": streamlit_page}
