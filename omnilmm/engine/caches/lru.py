"""A least recently used (LRU) cache bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LRUCache(Generic[Key, Value]):
    """A mapping that never holds more than `limit_bytes`; a larger value is not stored at all.

    Attributes:
        limit_bytes: maximum total size of the values; 0 stores nothing.
        bytes: current total size of the values.
        hits, misses: number of successful and unsuccessful lookups.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = self.hits = self.misses = 0
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, or None, and mark it as most recently used."""
        with self._lock:
            return self._get(key)

    def put(self, key: Key, value: Value, size: int) -> None:
        """Store a value of `size` bytes, replacing an earlier one of that key; evicts others if needed."""
        with self._lock:
            self._drop(key)
            if size > self.limit_bytes:
                return
            while self.bytes + size > self.limit_bytes:
                self._drop(next(iter(self._values)))
            self._values[key] = (value, size)
            self.bytes += size

    def pop(self, key: Key) -> Value | None:
        """Remove and return the value of a key, or None."""
        with self._lock:
            value = self._get(key)
            self._drop(key)
            return value

    def discard(self, key: Key) -> None:
        """Remove the value of a key, if there is one."""
        with self._lock:
            self._drop(key)

    def clear(self) -> int:
        """Remove everything; returns how many bytes were freed."""
        with self._lock:
            freed, self.bytes = self.bytes, 0
            self._values.clear()
            return freed

    def _get(self, key: Key) -> Value | None:
        found = self._values.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._values.move_to_end(key)
        return found[0]

    def _drop(self, key: Key) -> None:
        _, size = self._values.pop(key, (None, 0))
        self.bytes -= size
