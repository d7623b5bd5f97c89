"""Collections that note when they are used without a lock: whoever forgets to take it is found without any luck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

USES = (
    *("__contains__", "__delitem__", "__getitem__", "__iter__", "__setitem__"),
    *("add", "append", "clear", "discard", "get", "move_to_end", "pop", "popleft", "remove"),
)


def guarded(collection: Any, is_held: Callable[[], bool]) -> tuple[Any, list[str]]:
    """A copy of a collection, and the growing list of what was done with it while the lock was not held."""
    kind, uses = type(collection), []

    def noting(name: str) -> Callable[..., Any]:
        def use(self: Any, *arguments: Any) -> Any:
            if not is_held():
                uses.append(name)
            return getattr(kind, name)(self, *arguments)

        return use

    copied = type(f"Guarded{kind.__name__}", (kind,), {name: noting(name) for name in USES if hasattr(kind, name)})
    found = copied(collection)
    uses.clear()
    return found, uses
