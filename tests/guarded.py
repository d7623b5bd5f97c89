"""Collections, objects and functions that note when they are used without a lock.

Whoever forgets to take it is found without any luck, where threads that race for it meet only now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

USES = (
    *("__contains__", "__delitem__", "__getitem__", "__iter__", "__len__", "__setitem__"),
    *("add", "append", "clear", "discard", "get", "items", "move_to_end", "pop", "popitem", "popleft", "remove"),
    *("setdefault", "values"),
)
IsHeld = Callable[[], bool]


def guarded(collection: Any, is_held: IsHeld) -> tuple[Any, list[str]]:
    """A copy of a collection, and the growing list of what was done with it while the lock was not held."""
    kind, uses = type(collection), []

    def noting(name: str) -> Callable[..., Any]:
        def use(self: Any, *arguments: Any, **more: Any) -> Any:
            if not is_held():
                uses.append(name)
            return getattr(kind, name)(self, *arguments, **more)

        return use

    copied = type(f"Guarded{kind.__name__}", (kind,), {name: noting(name) for name in USES if hasattr(kind, name)})
    found = copied(collection)
    uses.clear()
    return found, uses


def guarded_attributes(thing: Any, is_held: IsHeld, *names: str) -> list[str]:
    """The growing list of the attributes, of those named, that were set while the lock was not held."""
    kind, uses = type(thing), []

    def set_one(self: Any, name: str, value: object) -> None:
        if name in names and not is_held():
            uses.append(name)
        kind.__setattr__(self, name, value)

    thing.__class__ = type(f"Guarded{kind.__name__}", (kind,), {"__setattr__": set_one})
    return uses


def guarded_calls(patch: pytest.MonkeyPatch, owner: Any, name: str, is_held: IsHeld) -> list[bool]:
    """For each call of a function from now on, whether the lock was held."""
    function, held = getattr(owner, name), []

    def call(*arguments: Any, **more: Any) -> Any:
        held.append(is_held())
        return function(*arguments, **more)

    patch.setattr(owner, name, call)
    return held
