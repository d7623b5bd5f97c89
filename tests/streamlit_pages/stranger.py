"""Somebody who speaks to the server of the Streamlit page without the page: its websocket, its uploads and its media.

What the server draws is kept by its place, as a browser keeps it: new text replaces old, and what a whole run did not
draw again goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from omnilmm.ui.streamlit_page.visitor import QUESTION
from tests.waiting import PATIENCE_S


@dataclass
class Drawn:
    """Something on the page: in which whole run, in which run, and by which fragment it was drawn."""

    what: Any
    whole: str
    run: str
    fragment: str


class Stranger:
    """A program with a cookie jar and one open page.

    Attributes:
        web: its HTTP client, with the cookie that the page gave it.
        session: the id of its session.
        elements: what is drawn, by place.
        runs: how many runs of the script have ended.
        referable: how many messages a later one may refer to, instead of saying the same again.
    """

    def __init__(self, address: str, session: str = "", web: httpx.Client | None = None) -> None:
        self.address, self.session = address, ""
        self.web = web or httpx.Client(base_url=address, timeout=PATIENCE_S, trust_env=False)
        self.web.get("/").raise_for_status()
        self.web.get("/_stcore/health").raise_for_status()
        self.elements: dict[tuple[int, ...], Drawn] = {}
        self.widgets: dict[str, WidgetState] = {}
        self.runs, self._run, self._whole = 0, "", ""
        self.referable = 0
        self.timers: dict[str, tuple[float, float]] = {}  # of fragments: how often they are drawn anew, and when next
        self._redrawn: set[str] = set()  # fragments that the run of now draws; none if it draws the whole page
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.web.cookies.jar)
        self._line = ExitStack()
        opened = connect(
            f"{address.replace('http', 'ws', 1)}/_stcore/stream",
            origin=Origin(address.rstrip("/")),
            subprotocols=[Subprotocol(name) for name in ("streamlit", "token", session) if name],
            additional_headers={"Cookie": cookies},
            max_size=None,
            open_timeout=PATIENCE_S,
        )
        self.socket = self._line.enter_context(opened)

    def leave(self) -> None:
        """Close the page."""
        self.hang_up()
        self.web.close()

    def hang_up(self) -> None:
        """The line breaks."""
        self._line.close()

    # --- what it sends ------------------------------------------------------------------------------------------------

    def send(self, message: BackMsg) -> None:
        self.socket.send(message.SerializeToString())

    def run(self, *changed: WidgetState, fragment: str = "") -> None:
        """Ask for a run of the script with these widgets changed; a trigger lasts for one run."""
        message = BackMsg()
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = bool(fragment)  # as the page says of a timer
        message.rerun_script.widget_states.widgets.extend(
            [*(state for state in self.widgets.values() if state.id not in {new.id for new in changed}), *changed]
        )
        for state in changed:
            if (
                not state.WhichOneof("value").endswith("trigger_value")
                and state.WhichOneof("value") != "chat_input_value"
            ):
                self.widgets[state.id] = state
        self.send(message)

    def draw(self, *changed: WidgetState) -> None:
        """Ask for a run, and wait until it has ended."""
        before = self.runs
        self.run(*changed)
        self.until(lambda: self.runs > before)

    def state(self, key: str, **value: Any) -> WidgetState:
        """A widget in a state, by its key."""
        return WidgetState(id=self.widget(key), **value)

    def click(self, key: str) -> None:
        """Press a button; the run that it begins has ended then."""
        self.draw(self.state(key, trigger_value=True))

    def tell(self, key: str, event: str, value: Any) -> WidgetState:
        """What a component of the page says."""
        payload = json.dumps([{"event": event, "value": value}])
        return WidgetState(id=f"$$STREAMLIT_INTERNAL_KEY_{self.widget(key)}__events", json_trigger_value=payload)

    def upload(self, name: str, content: bytes, file_id: str) -> httpx.Response:
        """A file, as the uploader sends it."""
        return self.upload_to(f"/_stcore/upload_file/{self.session}/{file_id}", name, content)

    def upload_to(self, path: str, name: str, content: bytes) -> httpx.Response:
        headers = {"X-Xsrftoken": self.web.cookies.get("_streamlit_xsrf", "")}
        return self.web.put(path, files={"file": (name, content, "image/png")}, headers=headers)

    def ask(self, text: str, *files: tuple[str, bytes]) -> None:
        """A question with pictures, and the run that begins its answer."""
        state = self.state(QUESTION)
        state.chat_input_value.data = text
        for number, (name, content) in enumerate(files):
            file_id = f"file-{self.runs}-{number}"
            self.upload(name, content, file_id).raise_for_status()
            info = state.chat_input_value.file_uploader_state.uploaded_file_info.add()
            info.file_id = info.file_urls.file_id = file_id
            info.name, info.size = name, len(content)
            info.file_urls.upload_url = info.file_urls.delete_url = f"/_stcore/upload_file/{self.session}/{file_id}"
        self.draw(state)

    # --- what it sees -------------------------------------------------------------------------------------------------

    def listen(self, seconds: float = PATIENCE_S) -> bool:
        """Take the next message in; False where none came."""
        try:
            data = self.socket.recv(timeout=seconds)
        except TimeoutError:
            return False
        assert isinstance(data, bytes)
        self.take(ForwardMsg.FromString(data))
        return True

    def watch(self, holds: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        """Look at the page as a browser, drawing anew what has a timer, until something is seen: whether it was."""
        end = time.monotonic() + seconds
        while not holds() and time.monotonic() < end:
            for fragment, (every_s, due) in list(self.timers.items()):
                if time.monotonic() >= due:
                    self.timers[fragment] = (every_s, time.monotonic() + every_s)
                    self.run(fragment=fragment)
            self.listen(0.05)
        return holds()

    def take(self, message: ForwardMsg) -> None:
        """Draw what the server says."""
        kind = message.WhichOneof("type")
        self.referable += message.metadata.cacheable
        if kind == "new_session":
            self._begin(message)
        elif kind == "delta":
            self._draw(message)
        elif kind == "auto_rerun":
            every_s = message.auto_rerun.interval
            self.timers[message.auto_rerun.fragment_id] = (every_s, time.monotonic() + every_s)
        elif kind == "script_finished":
            self._finish(message)

    def until(self, holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Listen until something is seen."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"waited {seconds} s in vain; it says: {self.texts()}"
            self.listen(1.0)

    def _draw(self, message: ForwardMsg) -> None:
        kind = message.delta.WhichOneof("type")
        if kind in ("new_element", "add_block"):
            drawn = Drawn(getattr(message.delta, kind), self._whole, self._run, message.delta.fragment_id)
            self.elements[tuple(message.metadata.delta_path)] = drawn

    def _begin(self, message: ForwardMsg) -> None:
        self.session = message.new_session.initialize.session_id or self.session
        run = message.metadata.run
        self._run, self._redrawn = run.script_run_id, set(run.fragment_ids)
        if not run.fragment_ids:
            self._whole = self._run
            self.timers.clear()

    def _finish(self, message: ForwardMsg) -> None:
        if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return
        self.elements = {place: drawn for place, drawn in self.elements.items() if self._stays(drawn)}
        self.runs += not self._redrawn

    def _stays(self, drawn: Drawn) -> bool:
        if self._redrawn:
            return drawn.fragment not in self._redrawn or drawn.run == self._run
        return drawn.whole == self._whole

    def widget(self, key: str) -> str:
        """The id of a widget by its key."""
        return next(found for found in self.ids() if found.endswith(f"-{key}"))

    def has(self, key: str) -> bool:
        return any(found.endswith(f"-{key}") for found in self.ids())

    def ids(self) -> Iterator[str]:
        for drawn in self.elements.values():
            element = drawn.what
            kind = element.WhichOneof("type")
            found = getattr(getattr(element, kind), "id", "") if kind else ""
            if isinstance(found, str) and found:
                yield found

    def texts(self) -> list[str]:
        """All that is written on the page as Markdown or in a box for warnings, in its order."""
        found = []
        for _, drawn in sorted(self.elements.items(), key=lambda placed: placed[0]):
            element = drawn.what
            kind = element.WhichOneof("type")
            if kind in ("markdown", "alert"):
                found.append(getattr(element, kind).body)
            elif kind == "exception":
                found.append(f"EXCEPTION {element.exception.message}")
        return found

    def html(self) -> list[str]:
        """The HTML and the styles of the page."""
        return [drawn.what.html.body for drawn in self.elements.values() if drawn.what.WhichOneof("type") == "html"]

    def media(self) -> list[str]:
        """Addresses of the pictures on the page."""
        shown = (drawn.what for _, drawn in sorted(self.elements.items(), key=lambda placed: placed[0]))
        return [image.url for what in shown if what.WhichOneof("type") == "imgs" for image in what.imgs.imgs]


def port_of(address: str) -> int:
    """Where a page listens."""
    return int(urlsplit(address).port or 80)


@contextmanager
def come(address: str, **how: Any) -> Iterator[Stranger]:
    """Somebody who opens the page, has seen it drawn, and leaves in the end."""
    stranger = Stranger(address, **how)
    try:
        stranger.draw()
        yield stranger
    finally:
        stranger.leave()
