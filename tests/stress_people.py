"""The people of `tests.stress`, in a process of their own: they have the page's address, and speak HTTP and websockets.

Nothing of a page or of a model is imported here, and of Gradio how its client reads differences: it starts within two
seconds, and what the people do takes no time from the page but that of a core.
"""

from __future__ import annotations

import html
import io
import itertools
import json
import random
import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from gradio_client.utils import apply_diff
from PIL import Image

from omnilmm.ui.samples import Sample, samples
from tests.pages.caller import Caller, Handler

ANSWER_S = 600.0
FIRST_WORD = re.compile(r"([\d.]+) s to first word")
WORDS = re.compile(rf"\d+ tokens|{FIRST_WORD.pattern}")  # of a note: there is something to read
NOTE = re.compile(r'<small class="note">(.*?)</small>')
BOX = re.compile(r"<ref>(.*?)</ref><box>.*?</box>")
DTYPES = ("fp32", "bf16")
ALONE = 3  # visits of one person alone
_visits = itertools.count()


@dataclass
class Figures:
    """What was measured and what went wrong, by all users together.

    Attributes:
        waited_s: from a question to the first word on the page.
        memory_mib: of the page's process, now and then.
    """

    answers: int = 0
    stops: int = 0
    leaves: int = 0
    switches: int = 0
    wrong: list[str] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


class GradioTab:
    """An open tab of the Gradio page.

    Attributes:
        read_at: when the first word of the newest answer was on the page, by `time.monotonic`.
    """

    def __init__(self, client: GradioClient, name: dict[str, str] | None = None, state: str = "{}") -> None:
        self.client, self._raw = client, list[str]()
        name = name or {client.header: secrets.token_hex(20)}
        self.caller = Caller(client.address, client.handlers, secrets.token_hex(6), name)
        self._name = name
        self._line = ExitStack()
        self._line.enter_context(self.caller.present())
        self._do("Page.on_load", self.caller.join("Page.on_load", [state, "en"]))

    def ask(self, question: str, picture: bytes | None, stop_s: float | None) -> tuple[str, str]:
        """The whole answer and its note; empty if nothing came of it."""
        paths = self.caller.upload("own.png", picture).raise_for_status().json() if picture else []
        asked = self.caller.ask(question, *paths)
        stop = threading.Timer(stop_s or 0, lambda: self.caller.join("Answers.stop", []))
        if stop_s is not None:
            stop.start()
        self._do("Answers.ask", asked)
        if stop_s is not None:
            stop.join()
        messages = self._messages()
        if len(messages) < 2 or messages[-2][1] != question:
            return "", ""
        notes = NOTE.findall("\n".join(self._bubbles()))
        return messages[-1][1], html.unescape(notes[-1]) if notes else ""

    def _messages(self) -> list[list[Any]]:
        """Role, text and number of pictures of each message, as the browser stores them."""
        return json.loads(self._state)["messages"] if self._state else []

    def _bubbles(self) -> list[str]:
        """All that is said in the chat, with its pictures."""
        return [part.get("text", "") for bubble in self._chat for part in bubble["content"]]

    def _do(self, handler: str, asked: Any) -> None:
        """Wait for the end of an event, and look at the page then."""
        event, shown = asked.raise_for_status().json()["event_id"], self.caller.handler(handler).places
        self.read_at, values = 0.0, []
        with self.caller.web.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self.caller.session}, timeout=ANSWER_S
        ) as stream:
            for line in stream.iter_lines():
                self._raw.append(line)
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("event_id") != event:
                    continue
                if message["msg"] == "process_generating":
                    changes = message["output"]["data"]
                    values = [*map(apply_diff, values, changes)] if values else changes
                    chat = changes[shown["chat"]]
                    if isinstance(chat, list) and WORDS.search(json.dumps(chat)):  # what has changed in it
                        self.read_at = self.read_at or time.monotonic()
                if message["msg"] == "process_completed":
                    if not message["success"]:
                        raise AssertionError(f"the server failed: {line[:300]}")
                    self.read_at = self.read_at or time.monotonic()
                    values = values or message["output"]["data"]
                    self._chat, self._state = (_value(values[shown[name]]) or "" for name in ("chat", "browser_state"))
                    return
        raise AssertionError("a stream ended without the end of its event")

    def seen(self) -> str:
        said, self._raw = "".join(self._raw), []
        return said

    def reload(self) -> GradioTab:
        self.leave()
        back = GradioTab(self.client, self._name, self._state)
        if (back._messages(), back._bubbles()) != (self._messages(), self._bubbles()):
            raise AssertionError("another conversation came back after a reload")
        return back

    def leave(self) -> None:
        self._line.close()
        self.caller.leave()


def _value(sent: Any) -> Any:
    """Of a widget, as Gradio sends it or a change of it."""
    return sent.get("value") if isinstance(sent, dict) else sent


@dataclass(frozen=True)
class GradioClient:
    """What one has to know of the Gradio page to open it.

    Attributes:
        header: in which a browser says its name.
    """

    address: str
    handlers: Sequence[Handler]
    header: str

    def open(self) -> GradioTab:
        return GradioTab(self)


class StreamlitTab:
    """An open tab of the Streamlit page; `read_at` as that of `GradioTab`."""

    def __init__(self, client: StreamlitClient, web: Any = None, state: str = "{}") -> None:
        from tests.streamlit_pages.stranger import Stranger

        self.client, self.stranger = client, Stranger(client.address, web=web)
        self.stranger.draw()
        self.stranger.draw(self.stranger.tell("browser-state", "kept", state))
        self.stranger.draw()

    def ask(self, question: str, picture: bytes | None, stop_s: float | None) -> tuple[str, str]:
        """All that the page says, and the newest note."""
        me, words = self.stranger, self._words()
        me.ask(question, *([("own.png", picture)] if picture else []))
        if stop_s is None:
            me.watch(lambda: self._words() > words or self._is_done(), ANSWER_S)
        self.read_at = time.monotonic()
        if stop_s is not None and not me.watch(self._is_done, stop_s) and me.has("stop"):
            me.click("stop")
        if not me.watch(self._is_done, ANSWER_S):
            raise AssertionError(f"no end of an answer: {me.texts()}")
        notes = [said for text in me.texts() if "first word" in (said := html.unescape(text)) or "stopped" in said]
        return self.seen(), notes[-1] if notes else ""

    def _is_done(self) -> bool:
        return not self.stranger.has("stop")

    def _words(self) -> int:
        """How many answers there is something to read of."""
        return sum(bool(WORDS.search(text)) for text in self.stranger.texts())

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
        state = json.loads(kept.json or kept.mixed.json)["content"]["state"]
        self.stranger.hang_up()
        back = StreamlitTab(self.client, self.stranger.web, state)
        question = next((line for line in said.splitlines() if line.startswith("code") or line.endswith("?")), "")
        if question and question not in back.seen():
            raise AssertionError(f"{question!r} did not come back after a reload")
        return back

    def leave(self) -> None:
        self.stranger.leave()


@dataclass(frozen=True)
class StreamlitClient:
    """What one has to know of the Streamlit page to open it."""

    address: str

    def open(self) -> StreamlitTab:
        return StreamlitTab(self)


def own_picture(sample: Sample) -> bytes:
    """A sample with a few pixels of this visit's own, so that no cache may take it for another one's."""
    with Image.open(sample.picture) as opened:
        picture = opened.convert("RGB")
    number = next(_visits)
    for bit in range(20):
        picture.putpixel((bit, 0), (255 - (number >> bit & 1), 255, 255))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


class Operator:
    """Who chooses other dtypes for the model: the page's own process, at the other end of a line.

    Args:
        line: takes the name of a dtype, or None; answers whether the model is being changed.
    """

    def __init__(self, line: Connection) -> None:
        self._line, self._lock = line, threading.Lock()

    def switch(self, dtype: str | None) -> bool:
        with self._lock:
            self._line.send(dtype)
            return bool(self._line.recv())

    def is_switching(self) -> bool:
        return self.switch(None)


@dataclass
class User:
    """One person, from first to last.

    Attributes:
        tab: `GradioTab` or `StreamlitTab`: what is open now.
    """

    number: int
    client: GradioClient | StreamlitClient
    operator: Operator
    figures: Figures
    codes: tuple[str, ...]
    unruly: bool
    tab: Any = None

    def __post_init__(self) -> None:
        self.code = self.codes[self.number]
        self.sample = samples()[self.number % len(samples())]
        self.chance = random.Random(self.number)

    def live(self, end: float) -> None:
        """Ask, and ask again, until the time is over; what fails is noted."""
        try:
            while time.monotonic() < end:
                self.tab = self.client.open()
                self._talk()
                if self.unruly and self.chance.random() < 0.3:
                    self._reload()
                self._leave()
        except Exception as error:
            self.figures.wrong.append(f"user {self.number}: {type(error).__name__}: {str(error)[:300]}")
            with suppress(Exception):
                self._leave()

    def _talk(self) -> None:
        for question, picture in (
            (self.sample.question, own_picture(self.sample)),
            (f"{self.code}: what is this?", None),
        ):
            stops = self.unruly and self.chance.random() < 0.25
            switched = self.figures.switches
            if self.unruly and self.chance.random() < 0.02:
                self.figures.switches += 1
                self.operator.switch(self.chance.choice(DTYPES))
            asked = time.monotonic()
            answer, note = self.tab.ask(question, picture, self.chance.uniform(0.05, 2) if stops else None)
            self.figures.answers += 1
            self.figures.stops += stops
            is_whole = bool(FIRST_WORD.search(note)) and "stopped" not in note
            if is_whole and not stops:
                self.figures.waited_s.append(self.tab.read_at - asked)
            if not is_whole and not stops and switched == self.figures.switches and not self.operator.is_switching():
                self.figures.wrong.append(f"user {self.number}: nobody stopped this: {note!r} {answer[-80:]!r}")
            # Names alone: in bf16 a box may differ, and Streamlit's page draws a badge with its name.
            if picture and is_whole and _named(self.sample.answer) not in _named(answer):
                self.figures.wrong.append(f"user {self.number}: {answer!r} in place of {self.sample.answer!r}")
            self._check_codes()
            if not is_whole:
                return

    def _check_codes(self) -> None:
        seen = self.tab.seen()
        if strange := [code for code in self.codes if code != self.code and code in seen]:
            self.figures.wrong.append(f"user {self.number}: sees {strange}")

    def _reload(self) -> None:
        self.tab = self.tab.reload()
        self._check_codes()

    def _leave(self) -> None:
        if self.tab is not None:
            self.figures.leaves += 1
            self.tab.leave()
            self.tab = None


def _named(answer: str) -> str:
    return BOX.sub(r"[\1]", answer)


def live(line: Connection, client: GradioClient | StreamlitClient, users: int, seconds: float, unruly: bool) -> None:
    """The life of one person alone, and then of all; the figures of each are sent.

    Args:
        line: to the process of the page.
        client: opens the page.
        users: at once.
        seconds: after which nobody begins anything.
        unruly: whether they stop, leave, reload and switch, too.
    """
    alone, together, operator = Figures(), Figures(), Operator(line)
    codes = tuple(f"code{number:02d}{random.Random(number).randrange(10**6):06d}" for number in range(users))
    for _ in range(ALONE):
        User(0, client, operator, alone, codes, unruly=False).live(time.monotonic() + 0.01)
    line.send(alone)
    end = time.monotonic() + seconds
    people = [User(number, client, operator, together, codes, unruly) for number in range(users)]
    threads = [threading.Thread(target=user.live, args=(end,), name=f"user {user.number}") for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line.send(together)
