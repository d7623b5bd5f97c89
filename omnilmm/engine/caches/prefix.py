"""What a model remembers of a conversation, kept between its turns: reading begins where the new prompt differs.

A prompt is compared as *keys*: the id of a text token, and the key of the picture's features where a slot is, so two
prompts agree as far as words and pictures do. Regenerate, edit and undo need nothing of their own: their prompts begin
as the one before.

What is kept belongs to an *owner*, an opaque key that the caller gives, and is never shown to another one: else the
time to the first word would tell what somebody else has asked.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Protocol

from omnilmm.engine.caches.lru import BoundedStore

PREFIX_BYTES = 2**30


class Memory(Protocol):
    """What a model remembers of a prompt; the keys of what it has read, and how to forget the end of it."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """Of the tokens read so far."""

    @property
    def nbytes(self) -> int:
        """What keeping it takes."""

    def cut(self, length: int) -> bool:
        """Forget all but the first tokens; returns whether that could be done."""


class Lease:
    """A memory while it is used for an answer; nobody else has it meanwhile.

    Attributes:
        memory: what is left of the kept one: the beginning of the new prompt; None if nothing was kept.
    """

    def __init__(self, prefixes: PrefixCache, owner: Hashable, memory: Memory | None) -> None:
        self._prefixes, self.owner, self.memory = prefixes, owner, memory
        self.is_wanted = owner is not None

    def give_back(self, memory: Memory | None) -> None:
        """Keep a memory for the next turn, unless the owner has left or there is none; None keeps nothing."""
        self._prefixes.give_back(self, memory)


class PrefixCache:
    """The memories of all owners, bounded in bytes; who has not asked for longest loses theirs first.

    Args:
        limit_bytes: of those that are kept, beside those in use.
    """

    def __init__(self, limit_bytes: int = PREFIX_BYTES) -> None:
        self._kept: BoundedStore[Hashable, Memory] = BoundedStore(limit_bytes)
        self._lent: set[Lease] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def limit_bytes(self) -> int:
        """Of those that are kept."""
        return self._kept.limit_bytes

    @property
    def bytes(self) -> int:
        """Of all that is kept."""
        return self._kept.bytes

    def borrow(self, owner: Hashable, keys: Sequence[Hashable]) -> Lease:
        """What is remembered of the beginning of a prompt.

        Args:
            owner: who asks; None for nobody in particular.
            keys: of the prompt, as far as it may be taken from memory.
        """
        memory = None if owner is None else self._kept.take(owner)
        if memory is not None:
            length = common_length(memory.keys, keys)
            if not length or not memory.cut(length):
                memory = None
        lease = Lease(self, owner, memory)
        with self._lock:
            self._lent.add(lease)
        return lease

    def give_back(self, lease: Lease, memory: Memory | None) -> None:
        """See `Lease.give_back`."""
        with self._lock:
            self._lent.discard(lease)
            if memory is not None and lease.is_wanted:
                self._kept.put(lease.owner, memory, memory.nbytes)

    def forget(self, owner: Hashable) -> None:
        """Nothing of an owner stays, also of what is lent at the moment."""
        with self._lock:
            for lease in self._lent:
                lease.is_wanted = lease.is_wanted and lease.owner != owner
            self._kept.drop(owner)

    def clear(self) -> int:
        """Keep nothing any more; returns how many bytes that were."""
        return self._kept.clear()


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """How many keys two prompts have in common at their beginnings."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
