"""Rooms import only downwards: sweeps → cluster → trainables → search_spaces → results (docs/architecture.md)."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "sweeps": {"sweeps", "cluster", "trainables", "search_spaces", "results"},
    "cluster": {"cluster", "results"},
    "trainables": {"trainables", "results"},
    "search_spaces": {"search_spaces"},
    "results": {"results"},
}
RAY_ROOMS = {"cluster"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def modules(room):
    return sorted((ROOT / room).rglob("*.py"))


def test_every_room_exists_and_imports_only_what_lies_below():
    for room, allowed in ALLOWED.items():
        assert modules(room), room
        for path in modules(room):
            for name in imports(path):
                top = name.split(".")[0]
                assert top not in ALLOWED or top in allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_trainables_use_of_results_is_the_metrics_only():
    for path in modules("trainables"):
        for name in imports(path):
            assert not name.startswith("results") or name == "results.metrics", f"{path.relative_to(ROOT)} imports {name}"


def test_ray_appears_only_in_the_cluster_room():
    for room in ALLOWED:
        for path in modules(room):
            used = {name.split(".")[0] for name in imports(path)}
            assert "ray" not in used or room in RAY_ROOMS, f"{path.relative_to(ROOT)} imports ray"


def test_no_module_holds_two_ideas():
    for room in ALLOWED:
        for path in modules(room):
            lines = len(path.read_text().splitlines())
            assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines"


def test_nothing_unpickles_or_evaluates_files():
    for room in ALLOWED:
        for path in modules(room):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in {"eval", "exec"}, f"{path.relative_to(ROOT)} line {node.lineno}"
            assert not {"pickle", "cloudpickle", "dill"} & {n.split(".")[0] for n in imports(path)}, path
