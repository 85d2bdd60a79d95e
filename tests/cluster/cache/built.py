"""What the tests of outputs build, and how long they wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

KEY, OTHER = "a" * 32, "b" * 32


def fill(text: str = "x") -> Callable[[Path], None]:
    def build(out: Path) -> None:
        (out / "deep").mkdir()
        (out / "deep" / "file").write_text(text)

    return build


def never(out: Path) -> None:
    raise AssertionError("built again")


def fail(out: Path) -> None:
    (out / "half").touch()
    raise ZeroDivisionError("the thirteenth floor")


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not in {seconds:g} s"
        time.sleep(0.01)
