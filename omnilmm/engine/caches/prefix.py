"""The prefix cache: KV caches of earlier turns, so that prefill starts where the new prompt differs from the old one.

Prompts are compared by *keys*: the token id for text, and the feature key of the picture for a picture slot, so two
prompts match as far as their text and pictures do. Regenerate, edit and undo need no special handling: their prompts
share a prefix with the previous one.

A cached prefix belongs to an *owner*, an opaque key given by the caller, and is never used for another one: otherwise
the time to first token would reveal what other users have asked.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Protocol

from omnilmm.engine.caches.lru import LRUCache

PREFIX_BYTES = 2**30


class CachedPrefix(Protocol):
    """The computed state of the beginning of a prompt, e.g. its KV cache."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """The keys of the tokens it covers."""

    @property
    def nbytes(self) -> int:
        """The number of bytes it occupies."""

    def cut(self, length: int) -> bool:
        """Truncate to the first `length` tokens; returns whether that was possible."""


class PrefixHandle:
    """A cached prefix while an answer uses it exclusively.

    Attributes:
        prefix: the prefix, truncated to what it shares with the new prompt; None if nothing can be reused.
    """

    def __init__(self, prefixes: PrefixCache, owner: Hashable, prefix: CachedPrefix | None) -> None:
        self._prefixes, self.owner, self.prefix = prefixes, owner, prefix
        self.is_valid = owner is not None

    def release(self, prefix: CachedPrefix | None) -> None:
        """Cache a prefix for the next turn, unless there is no owner or the owner has left; None caches nothing."""
        self._prefixes.release(self, prefix)


class PrefixCache:
    """The cached prefixes of all owners, bounded in bytes; the least recently used are evicted first.

    Args:
        limit_bytes: maximum total size of the cached prefixes, not counting those in use.
    """

    def __init__(self, limit_bytes: int = PREFIX_BYTES) -> None:
        self._cache: LRUCache[Hashable, CachedPrefix] = LRUCache(limit_bytes)
        self._in_use: set[PrefixHandle] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def limit_bytes(self) -> int:
        """The maximum total size of the cached prefixes."""
        return self._cache.limit_bytes

    @property
    def bytes(self) -> int:
        """The current total size of the cached prefixes."""
        return self._cache.bytes

    def acquire(self, owner: Hashable, keys: Sequence[Hashable]) -> PrefixHandle:
        """Take the owner's prefix out of the cache, truncated to what it shares with a prompt.

        Args:
            owner: key of the requesting user; None uses and stores nothing.
            keys: keys of the prompt, as far as it may be reused.
        """
        handle = PrefixHandle(self, owner, None)
        with self._lock:  # `forget` must find the prefix either in use or cached
            self._in_use.add(handle)
            cached = None if owner is None else self._cache.pop(owner)
        if cached is not None:
            length = common_length(cached.keys, keys)
            if length and cached.cut(length):
                handle.prefix = cached
        return handle

    def release(self, handle: PrefixHandle, prefix: CachedPrefix | None) -> None:
        """See `PrefixHandle.release`."""
        with self._lock:
            self._in_use.discard(handle)
            if prefix is not None and handle.is_valid:
                self._cache.put(handle.owner, prefix, prefix.nbytes)

    def forget(self, owner: Hashable) -> None:
        """Drop the owner's prefix; one in use is not cached when it is released."""
        with self._lock:
            for handle in self._in_use:
                handle.is_valid = handle.is_valid and handle.owner != owner
            self._cache.discard(owner)

    def clear(self) -> int:
        """Clear the cache; returns how many bytes were freed."""
        return self._cache.clear()


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the length of the common prefix of two lists of keys."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
