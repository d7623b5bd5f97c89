"""The live view of the Gradio page: a websocket for the microphone and the voice, and the handler that asks.

The websocket belongs to one tab, and is behind the page's login and host checks as every route is. The tab's script
uploads the camera's frame as any picture, so that sound never waits for it, and asks with the recognised words.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from omnilmm.errors import OmniLMMError
from omnilmm.images.pixels import open_picture
from omnilmm.live.hearing import BYTES_PER_CHUNK
from omnilmm.live.talk import Answer, Command, Parts, Talk
from omnilmm.ui.answering import Answering
from omnilmm.ui.draft import Draft
from omnilmm.ui.gradio_page.answers import Answers
from omnilmm.ui.gradio_page.context import PageContext, Updates
from omnilmm.ui.gradio_page.uploads import owner_of

MOST_PER_VISITOR, MOST = 4, 64  # open live views
MOST_COMMAND = 2000  # characters
LOADING_POLL_S = 0.5
MOST_MESSAGES, MOST_SOUNDS = 500, 20  # for a tab that were not sent yet
FULL = 4429  # code of a connection that is closed since there are too many; `assets/live.js` knows it


class Live:
    """The live views of all tabs.

    Args:
        context: the page.
        answers: answers the questions.
        parts: recogniser, detector and voice.
    """

    def __init__(self, context: PageContext, answers: Answers, parts: Parts) -> None:
        self._context, self._answers, self._parts = context, answers, parts
        # The owner and the talk by an unguessable name. The event loop alone changes it, so that it needs no lock.
        self._talks: dict[str, tuple[str, Talk | None]] = {}

    @property
    def count(self) -> int:
        """How many live views are open."""
        return len(self._talks)

    async def connect(self, socket: WebSocket) -> None:
        """Serve the websocket of a tab."""
        owner, name = owner_of(socket.headers), secrets.token_urlsafe(16)
        await socket.accept()
        if not owner or not self._reserve(name, owner):
            await socket.close(1008 if not owner else FULL)
            return
        loop, outgoing = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | bytes]()

        def send(message: dict[str, Any] | bytes) -> None:
            is_stuck = outgoing.qsize() > (MOST_SOUNDS if isinstance(message, bytes) else MOST_MESSAGES)
            if not loop.is_closed() and not is_stuck:  # a tab that reads nothing any more is not waited for
                loop.call_soon_threadsafe(outgoing.put_nowait, message)

        talk, tasks = None, [asyncio.create_task(_send_all(socket, outgoing))]
        try:
            talk = await asyncio.to_thread(Talk, self._parts, send, self._context.provider)
            self._talks[name] = owner, talk
            send(talk.abilities | {"name": name})
            if self._parts.is_loading:
                tasks.append(asyncio.create_task(self._tell_once_loaded(talk, name, send)))
            await self._receive_all(socket, talk, owner)
        finally:
            del self._talks[name]
            for task in tasks:
                task.cancel()
            if talk is not None:
                await asyncio.to_thread(talk.close)

    async def _tell_once_loaded(self, talk: Talk, name: str, send: Callable[[dict[str, Any]], None]) -> None:
        while self._parts.is_loading:
            await asyncio.sleep(LOADING_POLL_S)
        await asyncio.to_thread(talk.get_ready)
        send(talk.abilities | {"name": name})

    def ask(
        self,
        request: gr.Request,
        name: str,
        turn: int,
        is_same: bool,
        question: dict[str, Any],
        shown: int,
        browser_state: str,
        *settings: Any,
    ) -> Iterator[Updates]:
        """Answer a question of the live view, and speak the answer; the question box keeps its content."""
        visitor = self._context.visitor(request)
        talk = self.talk_of(name, visitor.owner)
        files = [file["path"] for file in question["files"]]

        def drafts() -> Iterator[Draft]:
            pictures = [self._context.open_upload(visitor, file) for file in files]
            if talk is not None:
                pictures = talk.new_to(visitor.session.conversation, pictures, is_same=is_same)
            options = self._answers.options(visitor, settings)
            engine = talk.described if talk and talk.described else self._context.provider
            return visitor.session.ask(engine, (*pictures, question["text"]), options)

        begun: list[Answering] = []

        def speak(answering: Answering) -> None:
            begun.append(answering)
            if talk is not None:
                answer = Answer(lambda: _text_of(answering), answering.done, visitor.session.stop)
                talk.speak(answer, turn if turn >= 0 else None)

        yield from self._answers.turn(visitor, (shown, browser_state), drafts, begun=speak)
        if not begun and talk is not None:
            talk.give_up()
        for file in files:
            self._context.uploads.discard(visitor.owner, file)

    def talk_of(self, name: str, owner: str) -> Talk | None:
        """Return a live view by its name, to its owner only."""
        known, talk = self._talks.get(name, ("", None))
        return talk if known == owner else None

    async def _receive_all(self, socket: WebSocket, talk: Talk, owner: str) -> None:
        """Pass on what the tab sends until it leaves; anything that it cannot mean ends the connection."""
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            content, text = message.get("bytes"), message.get("text")
            try:
                if content is not None and len(content) <= BYTES_PER_CHUNK:
                    talk.receive_sound(content)
                elif text is not None and len(text) <= MOST_COMMAND:
                    await asyncio.to_thread(self._obey, talk, owner, Command.model_validate_json(text))
                else:
                    await socket.close(1009)
                    return
            except (ValidationError, OmniLMMError):
                await socket.close(1003)
                return

    def _obey(self, talk: Talk, owner: str, command: Command) -> None:
        """Carry out a command; a frame is one of the visitor's own uploads, and deleted once it is decoded.

        Raises:
            OmniLMMError: The frame is no upload of the visitor, or no picture.
        """
        if command.type != "frame":
            talk.receive(command)
            return
        path = self._context.uploads.file(owner, command.path)
        try:
            talk.add_frame(open_picture(path))
        finally:
            self._context.uploads.discard(owner, str(path))

    def _reserve(self, name: str, owner: str) -> bool:
        """Take a place for one more live view, unless there are too many."""
        owners = [other for other, _ in self._talks.values()]
        is_full = len(owners) >= MOST or owners.count(owner) >= MOST_PER_VISITOR
        if not is_full:
            self._talks[name] = owner, None
        return not is_full


def _text_of(answering: Answering) -> str:
    return answering.draft.text if answering.draft else ""


async def _send_all(socket: WebSocket, outgoing: asyncio.Queue[dict[str, Any] | bytes]) -> None:
    while True:
        message = await outgoing.get()
        try:
            await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_json(message))
        except (RuntimeError, WebSocketDisconnect):  # it has left
            return
