"""Parse server-sent events from pieces of bytes that may end anywhere, also inside a character or a field name.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_BYTES = 8 * 2**20  # of one event; a server that never ends a line must not fill the memory
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a carriage return at the very end may be half of "\r\n"


class EventTooLongError(Exception):
    """One event is larger than `MOST_BYTES`."""


class EventParser:
    """Collects bytes and returns the data of each complete event.

    Lines are split before decoding: the line separators of Unicode, such as U+2028, are ordinary characters here.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # the line that is not complete yet
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[str]:
        """Add bytes; yields the data of the events that are complete by now. Comments and other fields are skipped."""
        searched = max(len(self._rest) - 1, 0)  # the last byte may be a carriage return
        self._rest += piece
        if len(self._rest) + self._size > MOST_BYTES:
            raise EventTooLongError
        start = 0
        for end in _LINE_END.finditer(self._rest, searched):
            line, start = bytes(self._rest[start : end.start()]), end.end()
            if line:
                self._add(line)
            elif event := self._event():
                yield event
        self._rest = self._rest[start:]

    def finish(self) -> Iterator[str]:
        """Yield the data of a last event without an empty line after it, as some servers end their stream."""
        if self._rest:
            self._add(bytes(self._rest.rstrip(b"\r")))
        if event := self._event():
            yield event

    def _add(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)

    def _event(self) -> str:
        data, self._data, self._size = b"\n".join(self._data), [], 0
        return data.decode("utf-8", "replace")
