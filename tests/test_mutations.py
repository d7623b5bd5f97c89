"""`make mutants` changes what runs, one thing at a time, and each change is a program again."""

from __future__ import annotations

import ast

from tests.mutations import mutations

SOURCE = '''
def most(given: list[int] = [], least: int | None = None) -> int:
    """Of 3 < 4."""
    with lock:
        if not given or len(given) >= 10:
            raise ValueError(f"got {len(given) + 1}")
        logger.info("%s", 1 + 1)
        given.append(0)
    return max(given) if least is None else ö + given[-1]
'''


def test_every_kind_of_slip_is_made_once() -> None:
    source = SOURCE.encode()
    changes = {f"{source[start:end].decode()} -> {new}": (start, end, new) for _, start, end, new in mutations(source)}
    assert set(changes) == {
        "lock -> __import__('contextlib').nullcontext()",
        "not given or len(given) >= 10 -> (not given and len(given) >= 10)",
        "not given -> (given)",
        "len(given) >= 10 -> (len(given) > 10)",
        "10 -> (11)",
        'raise ValueError(f"got {len(given) + 1}") -> pass',
        "given.append(0) -> pass",
        "0 -> (1)",
        "return max(given) if least is None else ö + given[-1] -> return None",
        "max(given) -> (min(given))",
        "least is None -> (least is not None)",
        "ö + given[-1] -> (ö - given[-1])",
        "1 -> (2)",
    }
    for start, end, new in changes.values():
        ast.parse(source[:start] + new.encode() + source[end:])
