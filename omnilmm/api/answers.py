"""An answer on a thread of its own: a generator has to be iterated and closed by the same one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing, suppress

from omnilmm.engine.events import Event

Begin = Callable[[], Generator[Event]]


async def answered(begin: Begin) -> AsyncGenerator[Event]:
    """The events of an answer; closing this stops the model within one token.

    Args:
        begin: called on the thread, so it may take its time.

    Raises:
        Exception: Whatever `begin` or the engine raises.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    left = threading.Event()

    def tell(item: Event | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server ends
            loop.call_soon_threadsafe(told.put_nowait, item)

    def work() -> None:
        end: BaseException | None = None
        try:
            with closing(begin()) as events:
                for event in events:
                    tell(event)
                    if left.is_set():
                        break
        except BaseException as error:  # the one who waits has to hear of it, whatever it is
            end = error
        tell(end)

    threading.Thread(target=work, name="api answer", daemon=True).start()
    try:
        while (item := await told.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
