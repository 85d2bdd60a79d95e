"""The space language once more, as plainly as it can be written: nested loops over dictionaries, trees for expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

ABSENT = object()
Tree = tuple[Any, ...]
COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
ARITHMETIC = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


@dataclass(frozen=True)
class Written:
    """A parameter as a user writes it, and what it means."""

    name: str
    spec: Any
    values: tuple[Any, ...] | None = None
    bounds: tuple[float, float] | None = None
    tree: Tree | None = None
    when: Tree | None = None


def text(tree: Tree) -> str:
    match tree:
        case ("name", name):
            return name
        case ("const", value):
            return repr(value)
        case ("list", *values):
            return repr(list(values))
        case ("not", part):
            return f"(not {text(part)})"
        case ("if", test, yes, no):
            return f"({text(yes)} if {text(test)} else {text(no)})"
        case (("and" | "or") as word, *parts):
            return f"({f' {word} '.join(text(part) for part in parts)})"
        case (sign, left, right):
            return f"({text(left)} {sign} {text(right)})"
    raise AssertionError(tree)


def names(tree: Tree | None) -> set[str]:
    if tree is None or tree[0] in ("const", "list"):
        return set()
    return {tree[1]} if tree[0] == "name" else set().union(*(names(part) for part in tree[1:]))


def value(tree: Tree, scope: Mapping[str, Any]) -> Any:
    match tree:
        case ("name", name):
            return scope.get(name, ABSENT)
        case ("const", constant):
            return constant
        case ("list", *values):
            return values
        case ("not", part):
            inner = value(part, scope)
            return ABSENT if inner is ABSENT else not inner
        case ("if", test, yes, no):
            outcome = value(test, scope)
            return ABSENT if outcome is ABSENT else value(yes if outcome else no, scope)
        case (("and" | "or") as word, *parts):
            found = [value(part, scope) for part in parts]
            decisive = word == "or"
            if any(f is not ABSENT and bool(f) == decisive for f in found):
                return decisive
            return ABSENT if ABSENT in found else not decisive
        case (sign, left, right):
            a, b = value(left, scope), value(right, scope)
            return ABSENT if a is ABSENT or b is ABSENT else (COMPARE | ARITHMETIC)[sign](a, b)
    raise AssertionError(tree)


def exists(p: Written, scope: Mapping[str, Any]) -> bool:
    if p.when is None:
        return True
    outcome = value(p.when, scope)
    return outcome is not ABSENT and bool(outcome)


def decisive(written: Sequence[Written]) -> set[str]:
    """What conditions depend on, directly or not."""
    wanted = set().union(*(names(p.when) for p in written))
    for p in reversed(written):
        if p.name in wanted:
            wanted |= names(p.tree) | names(p.when)
    return wanted


def enumerate_all(written: Sequence[Written]) -> tuple[list[dict[str, Any]], set[str]]:
    """Returns all points in the documented order, and the names of the parameters that exist in one of them."""
    first = decisive(written)
    order = [p for p in written if p.name in first] + [p for p in written if p.name not in first]
    points, held = [], set[str]()

    def loop(k: int, scope: dict[str, Any]) -> None:
        if k == len(order):
            points.append({p.name: scope[p.name] for p in written if p.name in scope})
            return
        p = order[k]
        if not exists(p, scope):
            loop(k + 1, scope)
            return
        held.add(p.name)
        choices = p.values if p.tree is None else (value(p.tree, scope),)
        for choice in choices or ():
            loop(k + 1, scope if choice is ABSENT else {**scope, p.name: choice})

    loop(0, {})
    return points, held


def at_unit(written: Sequence[Written], u: Sequence[float]) -> dict[str, Any]:
    """The configuration at a point of the unit cube."""
    scope: dict[str, Any] = {}
    coordinates = iter(u)
    for p in written:
        sampled = p.bounds is not None or (isinstance(p.spec, (list, dict)) and p.tree is None)
        x = next(coordinates) if sampled else 0.0
        if not exists(p, scope):
            continue
        if p.tree is not None:
            found = value(p.tree, scope)
        elif p.bounds is not None:
            found = p.bounds[0] * (1 - x) + p.bounds[1] * x
        else:
            assert p.values is not None
            found = p.values[min(int(x * len(p.values)), len(p.values) - 1)]
        if found is not ABSENT:
            scope[p.name] = found
    return scope


@st.composite
def conditions(draw: st.DrawFn, numbers: Sequence[str], words: Sequence[str], depth: int = 2) -> Tree:
    if depth and draw(st.integers(0, 2)) == 0:
        parts = st.lists(conditions(numbers, words, depth - 1), min_size=2, max_size=3)
        return draw(st.one_of(parts.map(lambda p: ("and", *p)), parts.map(lambda p: ("or", *p)), parts.map(lambda p: ("not", p[0]))))
    name = draw(st.sampled_from([*numbers, *words]))
    if name in words:
        word = st.sampled_from(["p", "q", "r"])
        if draw(st.booleans()):
            return (draw(st.sampled_from(["in", "not in"])), ("name", name), ("list", *draw(st.lists(word, max_size=2))))
        return (draw(st.sampled_from(["==", "!="])), ("name", name), ("const", draw(word)))
    right = st.one_of(st.integers(-1, 5).map(lambda v: ("const", v)), st.sampled_from(list(numbers)).map(lambda n: ("name", n)))
    return (draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="])), ("name", name), draw(right))


@st.composite
def formulas(draw: st.DrawFn, numbers: Sequence[str], words: Sequence[str]) -> Tree:
    atom = st.one_of(st.sampled_from(list(numbers)).map(lambda n: ("name", n)), st.integers(-2, 3).map(lambda v: ("const", v)))
    if draw(st.integers(0, 3)) == 0:
        return ("if", draw(conditions(numbers, words, 1)), draw(atom), draw(atom))
    return (draw(st.sampled_from(list(ARITHMETIC))), draw(atom), draw(atom))


@st.composite
def spaces(draw: st.DrawFn, continuous: bool = False) -> list[Written]:
    """Up to five parameters, each referring only to those before it."""
    written: list[Written] = []
    numbers: list[str] = []
    words: list[str] = []
    for name in "abcde"[: draw(st.integers(1, 5))]:
        kinds = ["list", "scalar", "word", "int", "points"] + ["derived"] * bool(numbers) + ["real"] * continuous
        kind = draw(st.sampled_from(kinds))
        when = draw(conditions(numbers, words)) if (numbers or words) and draw(st.booleans()) else None
        extra = {} if when is None else {"when": text(when)}
        spec: Any
        if kind == "list":
            values = tuple(draw(st.lists(st.integers(-1, 4), min_size=1, max_size=3, unique=True)))
            spec = {"grid": list(values), **extra} if extra else list(values)
            written.append(Written(name, spec, values, when=when))
        elif kind == "scalar":
            constant = draw(st.integers(-1, 4))
            written.append(Written(name, constant, (constant,)))
        elif kind == "word":
            values = tuple(draw(st.lists(st.sampled_from(["p", "q", "r"]), min_size=1, max_size=3, unique=True)))
            written.append(Written(name, {"choice": list(values), **extra}, values, when=when))
        elif kind == "int":
            low, n, step = draw(st.integers(-3, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
            values = tuple(low + k * step for k in range(n))
            written.append(Written(name, {"int": [low, values[-1]], "step": step, **extra}, values, when=when))
        elif kind == "points":
            n = draw(st.integers(2, 3))
            values = tuple(0.5 * k for k in range(n))
            written.append(Written(name, {"uniform": [0, values[-1]], "points": n, **extra}, values, when=when))
        elif kind == "real":
            written.append(Written(name, {"uniform": [-1, 3], **extra}, bounds=(-1.0, 3.0), when=when))
        else:
            tree = draw(formulas(numbers, words))
            written.append(Written(name, {"derived": text(tree), **extra}, tree=tree, when=when))
        (words if kind == "word" else numbers).append(name)
    return written


def declared(written: Sequence[Written]) -> dict[str, Any]:
    return {p.name: p.spec for p in written}
