"""KV caches of earlier turns: prefill begins where the new prompt differs from the cached one.

A prompt is compared as *keys*: the id of a text token, and the feature key of the picture where a slot is, so two
prompts agree as far as words and pictures do. Regenerate, edit and undo need nothing of their own: their prompts begin
as the one before.

A cached prefix belongs to an *owner*, an opaque key that the caller gives, and is never shown to another one: else the
time to the first token would tell what somebody else has asked.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Protocol

from omnilmm.engine.caches.lru import LRUCache

PREFIX_BYTES = 2**30


class CachedPrefix(Protocol):
    """What a model has computed of the beginning of a prompt, e.g. its keys and values."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """Of the tokens processed so far."""

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""

    def cut(self, length: int) -> bool:
        """Truncate to the first tokens; returns whether that could be done."""


class PrefixHandle:
    """A cached prefix while it is used for an answer; nobody else has it meanwhile.

    Attributes:
        prefix: truncated to what it has in common with the new prompt; None if nothing was cached.
    """

    def __init__(self, prefixes: PrefixCache, owner: Hashable, prefix: CachedPrefix | None) -> None:
        self._prefixes, self.owner, self.prefix = prefixes, owner, prefix
        self.is_valid = owner is not None

    def release(self, prefix: CachedPrefix | None) -> None:
        """Cache a prefix for the next turn, unless the owner has left or there is none; None caches nothing."""
        self._prefixes.release(self, prefix)


class PrefixCache:
    """The cached prefixes of all owners, bounded in bytes; the least recently used are evicted first.

    Args:
        limit_bytes: of all that are cached, without those in use.
    """

    def __init__(self, limit_bytes: int = PREFIX_BYTES) -> None:
        self._cache: LRUCache[Hashable, CachedPrefix] = LRUCache(limit_bytes)
        self._in_use: set[PrefixHandle] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def limit_bytes(self) -> int:
        """Of all that are cached."""
        return self._cache.limit_bytes

    @property
    def bytes(self) -> int:
        """Of all that are cached."""
        return self._cache.bytes

    def acquire(self, owner: Hashable, keys: Sequence[Hashable]) -> PrefixHandle:
        """What is cached of the beginning of a prompt.

        Args:
            owner: who asks; None for nobody in particular.
            keys: of the prompt, as far as it may be reused.
        """
        handle = PrefixHandle(self, owner, None)
        with self._lock:  # whoever leaves finds it in one place or the other
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
        """Drop everything of an owner, also what is in use at the moment."""
        with self._lock:
            for handle in self._in_use:
                handle.is_valid = handle.is_valid and handle.owner != owner
            self._cache.discard(owner)

    def clear(self) -> int:
        """Empty the cache; returns how many bytes that were."""
        return self._cache.clear()


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many keys two prompts have in common at their beginnings."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
