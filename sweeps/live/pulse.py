"""Whether anything has changed in a study since somebody last looked: from the files if they are untouched, else from one small query."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from results.lock import is_written
from results.reader import LedgerReader
from sweeps.history import is_imported
from sweeps.home import LEDGER

SETTLED: Final = 0.5  # seconds after which a file's time is sure to differ at its next change

RUNNING: Final = "running"
IMPORTED: Final = "imported"  # from records of earlier work: nobody ran it
STARTING: Final = "starting"
KILLED: Final = "killed"


class Stamp(NamedTuple):
    """What the file system says of a ledger; equal stamps, the same content."""

    files: tuple[tuple[int, int, int], ...]
    written: bool
    settled: bool


@dataclass(frozen=True)
class Pulse:
    """What changes when anything does that a view shows.

    Attributes:
        version: Text; two of the same mean the same content.
        trials: With a result.
        state: "running", "starting" (its ledger is held, no session has begun), "killed", or how the latest session ended.
        session: The latest session's row; empty before the first.
        attempts: The greatest fencing number.
        at_work: Attempts that are open.
        reports: Sequence number of the latest report.
    """

    version: str
    trials: int
    state: str
    session: dict[str, Any]
    attempts: int
    at_work: int
    reports: int

    @property
    def alive(self) -> bool:
        """Whether a session is at work, or about to be."""
        return self.state in (RUNNING, STARTING)


def stamp_of(home: Path) -> Stamp:
    """Returns what the file system says of a study's ledger; costs microseconds, opens nothing."""
    path = home / LEDGER
    files = []
    for each in (path, path.with_name(path.name + "-wal")):
        try:
            found = each.stat()
        except OSError:
            files.append((0, 0, 0))
        else:
            files.append((found.st_ino, found.st_mtime_ns, found.st_size))
    young = max(mtime for _, mtime, _ in files) / 1e9 > time.time() - SETTLED
    return Stamp(tuple(files), is_written(path), not young)


def unchanged(now: Stamp, before: Stamp | None) -> bool:
    """Returns whether nothing was written between two stamps; a file changed just then may have been changed once more in that instant."""
    return before is not None and before.settled and now == before


def pulse_of(home: Path, ledger: LedgerReader) -> Pulse:
    """Returns a study's pulse; a few milliseconds at a million trials, where counting follows an index."""
    t = ledger.tables
    session = sa.select(t.sessions).order_by(t.sessions.c.session_id.desc()).limit(1)
    counts = [
        sa.select(sa.func.count()).select_from(t.trials).scalar_subquery().label("trials"),
        sa.select(sa.func.max(t.attempts.c.attempt)).scalar_subquery().label("attempts"),
        sa.select(sa.func.count()).select_from(t.attempts).where(_open(t.attempts)).scalar_subquery().label("at_work"),
        sa.select(sa.func.max(t.events.c.seq)).scalar_subquery().label("events"),
    ]
    if ledger.header.schema_version >= 2:
        counts.append(sa.select(sa.func.max(t.reports.c.seq)).scalar_subquery().label("reports"))
    found = ledger.rows(sa.select(*counts))[0]
    latest = next(iter(ledger.rows(session)), {})
    state = IMPORTED if is_imported(ledger.header) else _state(latest, is_written(home / LEDGER))
    numbers = [int(found.get(key) or 0) for key in ("trials", "attempts", "at_work", "events", "reports")]
    trials, attempts, at_work, _, reports = numbers
    version = "-".join(map(str, [inode(home), *numbers, latest.get("session_id", 0), state]))
    return Pulse(version, trials, state, latest, attempts, at_work, reports)


def inode(home: Path) -> int:
    """Returns which file a study's ledger is; one that was set aside and begun anew is another. 0 if it is gone."""
    try:
        return (home / LEDGER).stat().st_ino
    except OSError:
        return 0


def _open(attempts: sa.Table) -> sa.ColumnElement[bool]:
    # Spelt out, because SQLite uses a partial index only where it sees the same words.
    return attempts.c.status == sa.literal_column("'open'")


def _state(session: dict[str, Any], written: bool) -> str:
    reason = session.get("reason")
    if written:
        return RUNNING if session and reason is None else STARTING
    return str(reason or KILLED)
