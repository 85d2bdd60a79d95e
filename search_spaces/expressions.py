"""Small safe expressions over parameters, for `derived` and `when`.

Text is parsed by Python's own parser and each allowed node is turned into a closure; what has no entry in the tables
below does not exist, so there is nothing to escape from. Nothing is ever passed to eval.

Values are three-valued where parameters may be missing: an expression over an ABSENT parameter is ABSENT, except that
`False and …` is False and `True or …` is True, in whatever order they are written. UNKNOWN works the same way and
stands for a value that is not decided yet; it is how a condition is asked whether it can hold at all.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from search_spaces.errors import SpaceError, did_you_mean

LONGEST: Final = 500  # characters
DEEPEST: Final = 60  # nested operations
LARGEST_POWER: Final = 64
LARGEST_BITS: Final = 256  # of an integer result


class Marker(Enum):
    """Not values: a parameter that does not exist in a configuration, and one that is not decided yet."""

    ABSENT = "absent"
    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = Marker.ABSENT
UNKNOWN: Final = Marker.UNKNOWN

Run = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: What the user wrote, on one line.
        path: Where, for messages.
        names: The parameters it refers to, in order of appearance.
    """

    text: str
    path: str = field(compare=False)
    names: tuple[str, ...] = field(compare=False, repr=False)
    _columns: tuple[int, ...] = field(compare=False, repr=False)
    _run: Run = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: Any, path: str) -> Expression:
        """Parses an expression.

        Args:
            text: For example "mode == 'atr' and k > 1".
            path: The key it stands under, for messages.

        Raises:
            SpaceError: Not text, malformed, or with something that is not allowed; says the column.
        """
        if not isinstance(text, str) or not text.strip():
            raise SpaceError(f'{path}: an expression is text such as "2 * rank" or "mode == \'atr\'", this is {text!r}')
        line = " ".join(text.splitlines()).strip()
        if len(line) > LONGEST:
            raise SpaceError(f"{path}: the expression has {len(line)} characters; the limit is {LONGEST}")
        try:
            tree = ast.parse(line, mode="eval").body
        except SyntaxError as error:
            hint = " Write `and`, `or`, `not` for &&, ||, !." if any(sign in line for sign in ("&&", "||", "!")) else ""
            raise SpaceError(f"{path}: {line!r} is malformed at column {error.offset or 1}: {error.msg}.{hint}") from None
        except (ValueError, RecursionError, MemoryError):
            raise SpaceError(f"{path}: {line!r} is malformed at column 1: not an expression") from None
        if "#" in line.encode()[tree.end_col_offset :].decode():  # in one line it would hide all that follows
            raise SpaceError(f"{path}: {line!r} has a comment (#) in it; take it out of the text")
        compiler = _Compiler(line, path)
        run = compiler.compile(tree, 0)
        return cls(line, path, tuple(compiler.names), tuple(compiler.names.values()), run)

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures do not travel between processes; the text does.
        return Expression.parse, (self.text, self.path)

    def column_of(self, name: str) -> int:
        """Returns the column, from 1, where a parameter is first referred to."""
        return self._columns[self.names.index(name)]

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Returns the value, ABSENT, or UNKNOWN.

        Args:
            scope: Values by parameter; one that is missing is ABSENT.

        Raises:
            SpaceError: Undefined for these values (division by zero, text where numbers are needed, too large).
        """
        try:
            return self._run(scope)
        except (ArithmeticError, TypeError, ValueError) as error:
            given = ", ".join(f"{name}={scope[name]!r}" for name in self.names if name in scope)
            at = f" at {given}" if given else ""
            raise SpaceError(f"{self.path}: {self.text!r} has no value{at}: {error}") from None

    def holds(self, scope: Mapping[str, Any]) -> bool | Marker:
        """Returns whether a condition holds: True, False (also when ABSENT), or UNKNOWN."""
        value = self.evaluate(scope)
        if value is UNKNOWN:
            return UNKNOWN
        return value is not ABSENT and bool(value)


class _Compiler:
    """Turns nodes into closures and notes the names."""

    def __init__(self, text: str, path: str):
        self.text, self.path = text, path
        self.names: dict[str, int] = {}

    def refuse(self, node: ast.AST, why: str) -> SpaceError:
        return SpaceError(f"{self.path}: {self.text!r}, column {self.column(node)}: {why}")

    def column(self, node: ast.AST) -> int:
        """Returns where a node starts, in characters from 1; the parser counts bytes."""
        return len(self.text.encode()[: getattr(node, "col_offset", 0)].decode()) + 1

    def compile(self, node: ast.expr, depth: int) -> Run:
        if depth > DEEPEST:
            raise self.refuse(node, f"nested more than {DEEPEST} deep")
        depth += 1
        match node:
            case ast.Constant(value=value) if value is None or (isinstance(value, (bool, int, float, str)) and value != math.inf):
                return lambda scope: value
            case ast.Name(id=name):
                self.names.setdefault(name, self.column(node))
                return lambda scope: scope.get(name, ABSENT)
            case ast.BinOp(op=op) if type(op) in _BINARY:
                return _strict(_BINARY[type(op)], [self.compile(node.left, depth), self.compile(node.right, depth)])
            case ast.UnaryOp(op=ast.Not()):
                return _strict(operator.not_, [self.compile(node.operand, depth)])
            case ast.UnaryOp(op=op) if type(op) in _SIGNS:
                return _strict(_arithmetic(_SIGNS[type(op)]), [self.compile(node.operand, depth)])
            case ast.BoolOp(op=ast.And()):
                parts = [self.compile(v, depth) for v in node.values]
                return lambda scope: _conjunction(part(scope) for part in parts)
            case ast.BoolOp():
                negated = [_strict(operator.not_, [self.compile(v, depth)]) for v in node.values]
                return _strict(operator.not_, [lambda scope: _conjunction(part(scope) for part in negated)])
            case ast.Compare():
                return self.comparison(node, depth)
            case ast.IfExp():
                return _choose(self.compile(node.test, depth), self.compile(node.body, depth), self.compile(node.orelse, depth))
            case ast.Call():
                return self.call(node, depth)
            case ast.Attribute():
                raise self.refuse(node, "attributes (a dot after a name) are not allowed")
            case _:
                raise self.refuse(node, f"{_what(node)} not allowed; use numbers, text, parameters, {_OPERATORS}, {', '.join(FUNCTIONS)}")

    def comparison(self, node: ast.Compare, depth: int) -> Run:
        operands = [self.compile(node.left, depth)]
        for op, right in zip(node.ops, node.comparators, strict=True):
            if type(op) not in _COMPARISONS:
                raise self.refuse(right, "`is` is not allowed; write == or !=")
            if isinstance(op, (ast.In, ast.NotIn)) and isinstance(right, (ast.List, ast.Tuple)):
                operands.append(_strict(lambda *items: items, [self.compile(item, depth + 1) for item in right.elts]))
            else:
                operands.append(self.compile(right, depth))
        return _chain([_COMPARISONS[type(op)] for op in node.ops], operands)

    def call(self, node: ast.Call, depth: int) -> Run:
        if not isinstance(node.func, ast.Name):
            raise self.refuse(node, f"only {', '.join(FUNCTIONS)} can be called")
        name = node.func.id
        if name not in FUNCTIONS:
            raise self.refuse(node, f"{name!r} cannot be called; only {', '.join(FUNCTIONS)} can.{did_you_mean(name, FUNCTIONS)}")
        function, least, most = FUNCTIONS[name]
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.refuse(node, f"{name} takes plain arguments only")
        if not least <= len(node.args) <= most:
            wanted = str(least) if least == most else f"{least} or more" if most > LONGEST else f"{least} to {most}"
            raise self.refuse(node, f"{name} takes {wanted} argument{'s' if wanted != '1' else ''}, not {len(node.args)}")
        return _strict(_arithmetic(function), [self.compile(a, depth) for a in node.args])


def _strict(function: Callable[..., Any], parts: Sequence[Run]) -> Run:
    return lambda scope: _applied(function, [part(scope) for part in parts])


def _applied(function: Callable[..., Any], values: Sequence[Any]) -> Any:
    """Any ABSENT operand makes the result ABSENT, else any UNKNOWN one UNKNOWN."""
    for marker in (ABSENT, UNKNOWN):
        if any(value is marker for value in values):
            return marker
    return function(*values)


def _conjunction(values: Iterable[Any]) -> bool | Marker:
    """False if one is; else UNKNOWN if one is, because it may turn out False; else ABSENT if one is; else True."""
    result: bool | Marker = True
    for value in values:
        if value is UNKNOWN or (value is ABSENT and result is True):
            result = value
        elif value is not ABSENT and not value:
            return False
    return result


def _chain(tests: Sequence[Callable[..., Any]], operands: Sequence[Run]) -> Run:
    """Each operand of a < b < c is computed once: twice at each level would be 2**depth times in nested ones."""

    def links(scope: Mapping[str, Any]) -> Iterator[Any]:
        left = operands[0](scope)
        for test, operand in zip(tests, operands[1:], strict=True):
            right = operand(scope)
            yield _applied(test, [left, right])
            left = right

    return lambda scope: _conjunction(links(scope))


def _choose(test: Run, yes: Run, no: Run) -> Run:
    def run(scope: Mapping[str, Any]) -> Any:
        value = test(scope)
        return value if isinstance(value, Marker) else yes(scope) if value else no(scope)

    return run


def _arithmetic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Numbers in, a finite number of bounded size out: `'%99999999d' % 1` and `9**9**9` cost memory, not only errors."""

    def run(*values: Any) -> Any:
        for value in values:
            if not isinstance(value, (int, float)):
                raise TypeError(f"arithmetic needs numbers, not {value!r}")
        result = function(*values)
        if isinstance(result, int):
            if result.bit_length() > LARGEST_BITS:
                raise OverflowError("the result is too large")
        elif not isinstance(result, float) or not math.isfinite(result):
            raise ValueError("the result is not a finite number")
        return result

    return run


def _portable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps 12 digits: the last ones of exp, log and powers differ between machines, a configuration's identity must not."""

    def run(*values: Any) -> Any:
        result = function(*values)
        return float(f"{result:.12g}") if isinstance(result, float) else result

    return run


def _power(base: float, exponent: float) -> Any:
    if abs(exponent) > LARGEST_POWER:
        raise OverflowError(f"powers are limited to {LARGEST_POWER}")
    return base**exponent


def _round(value: float, digits: float = 0) -> float:
    if not isinstance(digits, int) or abs(digits) > 20:  # round(5, -10**9) would compute 10**10**9
        raise ValueError("round takes a whole number of digits up to 20")
    return round(value, digits) if digits else round(value)


def _what(node: ast.AST) -> str:
    return _NODE_NAMES.get(type(node), f"{type(node).__name__} is")


_NODE_NAMES: Final[dict[type[ast.AST], str]] = {
    ast.Lambda: "lambda is",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a comprehension is"),
    ast.Subscript: "indexing is",
    ast.JoinedStr: "f-strings are",
    ast.NamedExpr: ":= is",
    ast.List: "a list (except after `in`) is",
    ast.Tuple: "a tuple (except after `in`) is",
    ast.Dict: "a mapping is",
    ast.Set: "a set is",
    ast.BinOp: "this operator is",
    ast.UnaryOp: "~ is",
    ast.Constant: "this constant is",
}
_OPERATORS: Final = "+ - * / // % **, comparisons, and, or, not, in, `a if b else c`"
_BINARY: Final[dict[type[ast.operator], Callable[..., Any]]] = {
    ast.Add: _arithmetic(operator.add),
    ast.Sub: _arithmetic(operator.sub),
    ast.Mult: _arithmetic(operator.mul),
    ast.Div: _arithmetic(operator.truediv),
    ast.FloorDiv: _arithmetic(operator.floordiv),
    ast.Mod: _arithmetic(operator.mod),
    ast.Pow: _arithmetic(_portable(_power)),
}
_SIGNS: Final[dict[type[ast.unaryop], Callable[..., Any]]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[..., Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
FUNCTIONS: Final[dict[str, tuple[Callable[..., Any], int, int]]] = {
    "min": (min, 2, LONGEST + 1),
    "max": (max, 2, LONGEST + 1),
    "abs": (abs, 1, 1),
    "round": (_round, 1, 2),
    "log": (_portable(math.log), 1, 2),
    "exp": (_portable(math.exp), 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "int": (int, 1, 1),
    "float": (float, 1, 1),
}
