"""What trackers are told when a study is at rest: how it stands, its winner, whether to believe it, and all results as a file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

from results import Ledger, pointer
from results.secrets import redacted
from results.tracking import CACHE_USE
from results.tracking.projection import BEST, COMPLETED, FAILED, REUSED, SECONDS, STOPPED, Projection
from results.tracking.tracker import FAILED as STUDY_FAILED
from results.tracking.tracker import FINISHED, RUNNING
from results.tracking.tracker import STOPPED as STUDY_STOPPED
from sweeps.home import LEDGER
from sweeps.tracking.settings import FOLDER

RESULTS: Final = "results.parquet"
_EXPORTING: Final = threading.Lock()  # the trackers of a study write the same file
VERIFIED: Final = 200_000  # trials up to which the certificate is computed: every point of the search is generated for it


def outcome(ledger: Ledger, running: bool) -> str:
    """Returns how a study stands, in the words of `results.tracking.tracker`."""
    sessions = ledger.sessions()
    reason = str((sessions[-1]["reason"] if sessions else None) or "")
    if running and not reason:
        return RUNNING
    return {"finished": FINISHED, "failed": STUDY_FAILED}.get(reason, STUDY_STOPPED)  # what was killed has stopped


def summary(home: Path, ledger: Ledger, done: Projection, state: str) -> dict[str, Any]:
    """Returns what a study comes to.

    Args:
        home: Its folder.
        ledger: Its ledger.
        done: All of its results.
        state: From `outcome`.

    Returns:
        Plain values by name: those of the curves as they are now, `winner/…`, `verdict`, `certificate`, `sessions`.
    """
    found: dict[str, Any] = {"state": state, "trials/done": done.done, "sessions": len(ledger.sessions()), SECONDS: done.seconds}
    found |= {COMPLETED: done.completed, STOPPED: done.stopped, FAILED: done.failed, REUSED: done.reused}
    found |= {BEST + name: value for name, value in done.best.items()}
    for event in ledger.events(CACHE_USE, limit=None):
        for name, amount in event["detail"].items():
            found[f"cache/{name}"] = found.get(f"cache/{name}", 0) + amount
    board = ledger.top(ledger.header.objective, n=1)
    if len(board):
        winner = ledger.trial(int(board["trial"].iloc[0]))
        found |= {"winner/trial": winner["trial"], "winner/config_id": winner["config_id"]}
        found |= {f"winner/config/{name}": value for name, value in {**ledger.header.defaults, **winner["config"]}.items()}
        found |= {f"winner/{name}": value for name, value in winner["metrics"].items() if value is not None}
    if state != RUNNING:
        found |= _evidence(home, done.done)
    return found


def _evidence(home: Path, done: int) -> dict[str, Any]:
    """Returns the lines below the leaderboard, and the certificate; what cannot be had is left out."""
    from sweeps.commands.results import describe
    from sweeps.evidence import judge
    from sweeps.runner import verify

    found: dict[str, Any] = {}
    try:
        found |= {name if name == "verdict" else f"evidence/{name}": str(words) for name, words in describe(judge(home))}
    except Exception as error:  # a neighbour that cannot be read, a trainable that is not here: the results are whole without
        found["verdict"] = f"n/a: {redacted(str(error))}"
    try:
        if done <= VERIFIED:
            proof = verify(home)
            found |= {
                "certificate": proof.certificate,
                "verified": "ok" if proof.ok else "incomplete" if proof.incomplete else "not intact",
            }
    except Exception as error:
        found["verified"] = f"n/a: {redacted(str(error))}"
    return found


def results_file(home: Path, ledger: Ledger) -> list[Path]:
    """Writes all trials as a Parquet file into the study's folder, unless it is there already; none if there are no trials."""
    place = home / FOLDER / RESULTS
    with _EXPORTING:
        files = [path.stat().st_mtime for path in (home / LEDGER, home / f"{LEDGER}-wal") if path.exists()]
        if place.exists() and place.stat().st_mtime > max(files) and pointer.read(home / LEDGER) is None:
            return [place]
        place.parent.mkdir(parents=True, exist_ok=True)
        return [place] if ledger.export(place) else []


__all__ = ["LEDGER", "RESULTS", "outcome", "results_file", "summary"]
