"""Cached prefixes: the common beginning alone, everybody's own, and nothing of who has left."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from omnilmm.engine.caches.prefix import PrefixCache, common_length
from tests.guarded import guarded


class Prefix:
    """A prefix of so many bytes per token; one that is stubborn cannot be cut."""

    def __init__(self, keys: Sequence[Hashable], size: int = 1, stubborn: bool = False) -> None:
        self.keys, self.size, self.stubborn = list(keys), size, stubborn

    @property
    def nbytes(self) -> int:
        return self.size * len(self.keys)

    def cut(self, length: int) -> bool:
        del self.keys[length:]
        return not self.stubborn


def keep(prefixes: PrefixCache, owner: Hashable, prefix: Prefix) -> None:
    prefixes.acquire(owner, prefix.keys).release(prefix)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_beginning_is_the_longest(one: list[int], other: list[int]) -> None:
    length = common_length(one, other)
    assert one[:length] == other[:length]
    assert length in (len(one), len(other)) or one[length] != other[length]


def test_a_prefix_is_cut_to_what_the_prompts_have_in_common() -> None:
    prefixes = PrefixCache(100)
    prefix = Prefix([1, 2, "picture", 3])
    keep(prefixes, "me", prefix)
    handle = prefixes.acquire("me", [1, 2, "picture", 4, 5])
    assert handle.prefix is prefix and prefix.keys == [1, 2, "picture"]
    assert not len(prefixes), "a prefix in use must not be handed out twice"


def test_what_has_nothing_in_common_or_cannot_be_cut_is_of_no_use() -> None:
    prefixes = PrefixCache(100)
    keep(prefixes, "me", Prefix([1, 2]))
    assert prefixes.acquire("me", [2, 2]).prefix is None
    keep(prefixes, "me", Prefix([1, 2], stubborn=True))
    assert prefixes.acquire("me", [1, 3]).prefix is None


def test_nobody_gets_the_prefix_of_another_owner_and_without_an_owner_none_is_cached() -> None:
    prefixes = PrefixCache(100)
    keep(prefixes, "me", Prefix([1, 2, 3]))
    assert prefixes.acquire("you", [1, 2, 3]).prefix is None
    keep(prefixes, None, Prefix([1, 2, 3]))
    assert len(prefixes) == 1
    assert prefixes.acquire(None, [1, 2, 3]).prefix is None


def test_the_bytes_of_all_owners_are_bounded() -> None:
    prefixes = PrefixCache(10)
    for owner in "abc":
        keep(prefixes, owner, Prefix([1, 2, 3, 4]))
    assert prefixes.bytes == 8 and prefixes.acquire("a", [1]).prefix is None
    keep(prefixes, "d", Prefix([1, 2], size=6))  # more than all may have
    assert prefixes.acquire("d", [1]).prefix is None
    assert prefixes.clear() == 8 and not prefixes.bytes


def test_of_who_leaves_during_an_answer_nothing_is_kept_either() -> None:
    prefixes = PrefixCache(100)
    keep(prefixes, "me", Prefix([1]))
    mine, other = prefixes.acquire("me", [1, 2]), prefixes.acquire("you", [1, 2])
    prefixes.forget("me")
    mine.release(Prefix([1, 2]))
    other.release(Prefix([1, 2]))
    assert len(prefixes) == 1
    keep(prefixes, "me", Prefix([1]))  # who comes back is welcome
    assert len(prefixes) == 2
    prefixes.forget("me")
    assert prefixes.acquire("me", [1]).prefix is None


def test_who_leaves_while_an_answer_begins_is_forgotten_too() -> None:
    """At the worst moment: the prefix has left the cache, and the answer that uses it is not there yet."""
    prefixes = PrefixCache(100)

    class Left(Prefix):
        def cut(self, length: int) -> bool:
            prefixes.forget("me")
            return super().cut(length)

    keep(prefixes, "me", Left([1, 2]))
    handle = prefixes.acquire("me", [1, 2, 3])
    handle.release(handle.prefix)
    assert not len(prefixes)


def test_what_is_cached_and_what_is_in_use_change_under_one_lock() -> None:
    prefixes = PrefixCache(100)
    prefixes._in_use, of_handles = guarded(prefixes._in_use, prefixes._lock.locked)
    prefixes._cache._values, of_cache = guarded(prefixes._cache._values, prefixes._lock.locked)
    keep(prefixes, "me", Prefix([1]))
    handle = prefixes.acquire("me", [1])
    prefixes.forget("me")
    handle.release(None)
    assert (of_handles, of_cache) == ([], [])


def test_a_failed_answer_leaves_nothing() -> None:
    prefixes = PrefixCache(100)
    keep(prefixes, "me", Prefix([1]))
    prefixes.acquire("me", [1]).release(None)
    assert prefixes.acquire("me", [1]).prefix is None
