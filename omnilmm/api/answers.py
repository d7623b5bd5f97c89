"""Run an answer on its own thread, as a generator has to be iterated and closed by the same thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress

from omnilmm.engine.events import Event

Begin = Callable[[], Generator[Event]]


async def answered(begin: Begin) -> AsyncGenerator[Event]:
    """Yield the events of an answer; closing the generator stops the model within one token.

    Args:
        begin: starts the answer; called on the thread, so it may be slow.

    Raises:
        Exception: Whatever `begin` or the engine raises.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    left = threading.Event()

    def put(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server is shutting down
            loop.call_soon_threadsafe(items.put_nowait, item)

    def work() -> None:
        end: BaseException | None = None
        try:
            with closing(begin()) as events:
                for event in events:
                    put(event)
                    if left.is_set():
                        break
        except BaseException as error:  # re-raised in the waiting coroutine
            end = error
        put(end)

    threading.Thread(target=work, name="api answer", daemon=True).start()
    try:
        while (item := await items.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
