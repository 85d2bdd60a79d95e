"""Progress logs and sweep tables of the time before: read into a study whose results are marked as what they are, unverified.

`sweeps.history.importing.import_files` does it; what is here costs no start-up time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweeps.study import StudyError

if TYPE_CHECKING:
    from results.reader import LedgerReader
    from results.records import Header

NOTE: Final = "note"  # kind of the event that keeps what a person wrote beside a result
IMPORTED: Final = "imported"  # kind of the event that keeps how files were read
MARK: Final = "unverified "  # what the source of an imported result begins with, wherever it is shown or exported


class HistoryError(StudyError):
    """A log cannot be imported; the message says which file, and what to do."""


def is_imported(header: Header) -> bool:
    """Returns whether a study's results were imported from records, and so are unverified."""
    from results.leaderboard import imported

    return imported(header)


def refuse(header: Header, what: str) -> None:
    """Refuses what imported results cannot serve.

    Args:
        header: Of any study.
        what: There is then, such as "nothing to run".

    Raises:
        HistoryError: It is an imported one.
    """
    if is_imported(header):
        files = ", ".join(header.spec.get("data", {}).get("imported", ())) or "records"
        raise HistoryError(
            f"{header.name}: its results were imported from {files}, not evaluated here, so there is {what}. "
            "A study file with a trainable and these parameters evaluates them: alphasweep run FILE.yaml"
        )


def refuse_at(home: Path, what: str) -> None:
    """Refuses, see `refuse`, if there is an imported study in a folder."""
    from results import Ledger, LedgerError
    from sweeps.home import LEDGER

    if (home / LEDGER).exists():
        try:
            with Ledger.open(home / LEDGER, readonly=True) as ledger:
                header = ledger.header
        except LedgerError:
            return  # told by whoever opens it for its own sake
        refuse(header, what)


def note_of(ledger: LedgerReader, trial: int) -> str:
    """Returns what a person wrote beside an imported result, "" if nothing."""
    import json

    import sqlalchemy as sa

    events = ledger.tables.events
    found = ledger.rows(sa.select(events.c.detail).where(events.c.kind == NOTE, events.c.trial == trial).order_by(events.c.seq))
    return str(json.loads(found[-1]["detail"])["note"]) if found else ""
