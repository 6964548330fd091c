"""Where a source text can be changed a little, so that it still runs and means something else.

Each site is one small change: a comparison, an operator, a constant, a condition, a statement left out. Nothing is
changed at module level, in annotations, or in what only a log or statistics read.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.Mod: ast.FloorDiv,
}  # fmt: skip
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any", "first": "last", "popleft": "pop"}
_TOLD = frozenset({"log", "logger", "audit_log"})  # whose calls only a log reads
_CALLS_LEFT_OUT = frozenset({"count", "debug", "info", "warning", "error", "exception"})


@dataclass(frozen=True, slots=True)
class Site:
    """One small change: `start` to `end` of the text become `new`. `what` says it in short."""

    line: int
    start: int
    end: int
    new: str
    what: str

    def changed(self, text: str) -> str:
        """Return the text with this change."""
        return text[: self.start] + self.new + text[self.end :]


def sites(text: str) -> list[Site]:
    """Return every site of a source text, in its order."""
    return sorted(_Finder(text).found(), key=lambda site: (site.start, site.end, site.new))


class _Finder:
    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def found(self) -> Iterator[Site]:
        for node in ast.walk(ast.parse(self._text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for statement in node.body:
                    yield from self._of(statement)

    def _of(self, node: ast.AST) -> Iterator[Site]:
        """Yield the sites of a statement or expression; a function in a function has its own."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _is_told(node):
            return
        if isinstance(node, ast.stmt):
            yield from self._statement(node)
        elif isinstance(node, ast.expr):
            yield from self._expression(node)
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_comment"):
                continue
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from self._of(child)

    def _statement(self, node: ast.stmt) -> Iterator[Site]:
        match node:
            case ast.Expr(value=ast.Call() | ast.Await() as call) if not _is_counted(call):
                yield self._site(node, "pass", f"without {_short(node)}")
            case ast.AugAssign() if ".counters." not in ast.unparse(node.target):
                yield self._site(node, "pass", f"without {_short(node)}")
            case ast.Delete() | ast.Continue() | ast.Break():
                yield self._site(node, "pass", f"without {_short(node)}")
            case ast.Return(value=None):
                yield self._site(node, "pass", "without return")
            case ast.Return(value=ast.Constant(value=bool() as value)):
                yield self._site(node, f"return {not value}", f"return {not value}")
            case ast.If() | ast.While():
                yield self._site(node.test, f"not ({ast.unparse(node.test)})", f"not: {_short(node.test)}")
            case ast.Raise():
                yield self._site(node, "pass", f"without {_short(node)}")

    def _expression(self, node: ast.expr) -> Iterator[Site]:
        match node:
            case ast.Compare(ops=[first, *_]) if type(first) in _COMPARED:
                other = copy.deepcopy(node)
                other.ops[0] = _COMPARED[type(first)]()
                yield self._site(node, f"({ast.unparse(other)})", f"{_short(node)} -> {_short(other)}")
            case ast.BinOp(op=operator) if type(operator) in _COUNTED and not _is_text(node):
                other = copy.deepcopy(node)
                other.op = _COUNTED[type(operator)]()
                yield self._site(node, f"({ast.unparse(other)})", f"{_short(node)} -> {_short(other)}")
            case ast.BoolOp():
                for at, value in enumerate(node.values):
                    other = copy.deepcopy(node)
                    del other.values[at]
                    left = other if len(other.values) > 1 else other.values[0]
                    yield self._site(node, f"({ast.unparse(left)})", f"without {_short(value)}")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._site(node, f"({ast.unparse(operand)})", f"without not: {_short(operand)}")
            case ast.Constant(value=bool() as value):
                yield self._site(node, str(not value), f"{value} -> {not value}")
            case ast.Constant(value=int() as value):
                yield self._site(node, f"({value + 1})", f"{value} -> {value + 1}")
            case ast.IfExp():
                yield self._site(node, f"({ast.unparse(node.body)})", f"always {_short(node.body)}")
                yield self._site(node, f"({ast.unparse(node.orelse)})", f"always {_short(node.orelse)}")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _SWAPPED:
                yield self._swapped(node, name)

    def _swapped(self, node: ast.Call, name: str) -> Site:
        other = copy.deepcopy(node)
        if isinstance(other.func, ast.Name):
            other.func.id = _SWAPPED[name]
        elif isinstance(other.func, ast.Attribute):
            other.func.attr = _SWAPPED[name]
        return self._site(node, f"({ast.unparse(other)})", f"{name} -> {_SWAPPED[name]}")

    def _site(self, node: ast.stmt | ast.expr, new: str, what: str) -> Site:
        start = self._place(node.lineno, node.col_offset)
        return Site(node.lineno, start, self._place(node.end_lineno or 0, node.end_col_offset or 0), new, what)

    def _place(self, line: int, column: int) -> int:
        """Return where a place stands in the text; ast counts columns in bytes."""
        start = self._starts[line - 1]
        row = self._text[start : self._starts[line]].encode()
        return start + len(row[:column].decode())


def _is_told(node: ast.AST) -> bool:
    """Tell whether only a log reads what a statement does, or a reader what it says."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Assert():
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _TOLD
    return False


def _is_counted(call: ast.Call | ast.Await) -> bool:
    match call:
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _CALLS_LEFT_OUT
    return False


def _is_text(node: ast.BinOp) -> bool:
    """Tell whether an operation formats a text."""
    return isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
