"""The slips that somebody may make in a Python file, one change each.

A comparison at its bound, a condition turned round, a number one too large, a call or `raise` left out, a lock not
taken; types, texts and log lines stay as they are.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

PAIRS = ((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn))
PAIRS += ((ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv))
SWAPS = {**dict(PAIRS), **{new: old for old, new in PAIRS}, ast.Div: ast.Mult}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
SPARED = ("annotation", "returns", "exc")  # types are not run, and messages are checked by eye
Mutation = tuple[int, int, int, str]  # line; the bytes from here to there; what they become


def mutations(source: bytes) -> Iterator[Mutation]:
    """All changes of a file."""
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    for part in _executed(ast.parse(source)):
        for node, new in _variants(part):
            start, end = begins[node.lineno - 1] + node.col_offset, begins[(node.end_lineno or 0) - 1]
            yield node.lineno, start, end + (node.end_col_offset or 0), new


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            is_log = isinstance(child, ast.Expr) and ast.unparse(child).startswith("logger.")
            if isinstance(child, ast.AST) and name not in SPARED and not is_log:
                yield child
                yield from () if isinstance(child, ast.JoinedStr) else _executed(child)


def _variants(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """What is replaced at a node, and by which source."""
    changed = copy.deepcopy(node)
    match changed:
        case ast.Compare(ops=[op, *_]):
            changed.ops[0] = SWAPS[type(op)]()
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in SWAPS:
            changed.op = SWAPS[type(op)]()
        case ast.UnaryOp(op=ast.Not()):
            changed = changed.operand
        case ast.Constant(value=bool() | int() | float() as value):
            changed.value = not value if isinstance(value, bool) else value + 1
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            changed.func = ast.Name(NAMES[name])
        case ast.Return(value=ast.expr()) if ast.unparse(changed) != "return None":
            changed.value = ast.Constant(None)
        case ast.Raise() | ast.Expr(value=ast.Call()):
            changed = ast.Pass()
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if isinstance(
            test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr
        ):
            yield test, f"(not ({ast.unparse(test)}))"
            return
        case ast.withitem(context_expr=ast.Name() | ast.Attribute() as lock, optional_vars=None):
            yield lock, "__import__('contextlib').nullcontext()"
            return
        case _:
            return
    assert isinstance(node, ast.expr | ast.stmt)
    yield node, f"({ast.unparse(changed)})" if isinstance(changed, ast.expr) else ast.unparse(changed)
