"""Studies: what to sweep, running it, and what came out.

from sweeps import Study, run
result = run(Study.load("selector_grid"))
result.leaderboard()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.opened import OpenStudy, open_study
    from sweeps.runner import StudyResult, run
    from sweeps.study import Study, StudyError
    from sweeps.walk.forward import Walk, WalkResult, walk_forward

__all__ = ["OpenStudy", "Study", "StudyError", "StudyResult", "Walk", "WalkResult", "open_study", "run", "walk_forward"]
_HOMES = {
    "OpenStudy": "sweeps.opened",
    "Study": "sweeps.study",
    "StudyError": "sweeps.study",
    "StudyResult": "sweeps.runner",
    "Walk": "sweeps.walk.forward",
    "WalkResult": "sweeps.walk.forward",
    "open_study": "sweeps.opened",
    "run": "sweeps.runner",
    "walk_forward": "sweeps.walk.forward",
}


def __getattr__(name: str) -> Any:
    # `alphasweep --help` must not wait for pandas and Ray.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
