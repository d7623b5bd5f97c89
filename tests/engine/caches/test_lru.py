"""What is kept never exceeds its bytes, and what was used longest ago goes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnilmm.engine.caches.lru import LRUCache
from tests.guarded import guarded

ACTIONS = st.tuples(st.sampled_from(["put", "get", "take", "drop"]), st.integers(0, 5), st.integers(0, 60))


@given(st.integers(0, 100), st.lists(ACTIONS, max_size=60))
def test_it_is_a_list_of_what_was_used_last_cut_at_its_bytes(limit: int, actions: list[tuple[str, int, int]]) -> None:
    store: LRUCache[int, str] = LRUCache(limit)
    model: list[tuple[int, str, int]] = []  # what was used longest ago first
    lookups = found = 0
    for number, (action, key, size) in enumerate(actions):
        here = next((entry for entry in model if entry[0] == key), None)
        rest = [entry for entry in model if entry[0] != key]
        if action == "put":
            store.put(key, str(number), size)
            model = rest if size > limit else [*rest, (key, str(number), size)]
            while sum(entry[2] for entry in model) > limit:
                model.pop(0)
        elif action == "drop":
            store.discard(key)
            model = rest
        else:
            value = store.get(key) if action == "get" else store.pop(key)
            assert value == (here[1] if here else None)
            lookups, found = lookups + 1, found + (here is not None)
            model = [*rest, here] if here and action == "get" else rest
        assert store.bytes == sum(entry[2] for entry in model) <= limit
        assert len(store) == len(model) and all(entry[0] in store for entry in model)
    assert (store.hits, store.misses) == (found, lookups - found)


@pytest.mark.parametrize("limit", [0, 10])
def test_clearing_says_how_much_that_was(limit: int) -> None:
    store: LRUCache[str, int] = LRUCache(limit)
    store.put("a", 1, 4)
    store.put("b", 1, 5)
    assert store.clear() == (9 if limit else 0)
    assert not len(store) and not store.bytes and store.clear() == 0


def test_what_was_looked_for_stays_longest() -> None:
    store: LRUCache[str, int] = LRUCache(10)
    store.put("a", 1, 5)
    store.put("b", 2, 5)
    assert store.get("a") == 1
    store.put("c", 3, 5)
    assert "a" in store and "b" not in store


def test_values_are_used_under_the_lock_alone() -> None:
    store: LRUCache[str, int] = LRUCache(10)
    store._values, uses = guarded(store._values, store._lock.locked)
    store.put("a", 1, 6)
    store.put("b", 2, 6)  # for which "a" has to go
    assert store.get("b") == 2 and store.pop("b") == 2
    store.discard("b")
    store.clear()
    assert uses == []


def test_only_one_of_two_takes_a_value() -> None:
    """The second one comes at the worst moment: as soon as the first has let go of the lock."""
    store: LRUCache[int, str] = LRUCache(10)
    store.put(1, "a", 1)
    taken: list[str | None] = []

    class Interrupted:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            if not taken:
                taken.append(None)
                taken[0] = store.pop(1)

    store._lock = Interrupted()  # type: ignore[assignment]
    taken.append(store.pop(1))
    assert taken.count("a") == 1
