"""Other studies of a folder as a source of results: what one of them has under the same conditions is not evaluated again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from results import Ledger, LedgerError, Plan, series
from results.engine import guard
from results.reader import LedgerReader
from sweeps.feed import Point, Tally
from sweeps.home import LEDGER

LOOKUP = 500  # identities in one query


def siblings_of(home: Path) -> list[Path]:
    """Returns the ledgers of the other studies in a study's folder."""
    return sorted(path for path in home.parent.glob(f"*/{LEDGER}") if path.parent != home)


def reuser(ledger: Ledger, home: Path, plan: Plan, siblings: Iterable[Path], tally: Tally) -> Callable[[list[Point]], set[bytes]]:
    """Returns a function that takes over results, and returns, other studies in the same folder already have.

    Args:
        ledger: Where they go.
        home: The study's folder.
        plan: The search they are for.
        siblings: Ledgers of other studies; those with other conditions are left alone.
        tally: Where they are counted.
    """
    same = []
    for path, other in _open(siblings):
        with suppress(LedgerError):
            if _same(ledger, other):
                same.append((path, dict(zip(*series.read(other, path.parent), strict=True))))

    def reuse(points: list[Point]) -> set[bytes]:
        taken: set[bytes] = set()
        for source in list(same):
            path, returns = source
            wanted = {p.config_id: plan.offset + p.index for p in points if p.config_id not in taken}
            try:
                rows = ledger.reuse_from(path, wanted) if wanted else []
            except LedgerError as error:
                same.remove(source)  # moved or damaged meanwhile: what it had is evaluated here
                ledger.record("reuse_ended", source=path.parent.name, error=str(error))
                continue
            if rows:
                attempt = ledger.open_attempt(plan.plan_id, len(rows), worker=f"reused from {path.parent.name}")
                kept = [row.config_id for row in rows if row.config_id in returns]
                series.write(ledger, home, attempt, kept, np.array([returns[key] for key in kept]))
                tally.reused[path.parent.name] += ledger.accept(attempt, rows).accepted
                taken |= {row.config_id for row in rows}
        return taken

    return reuse


class Elsewhere:
    """What other studies have, counted without taking it."""

    def __init__(self, ledger: LedgerReader, siblings: Iterable[Path]):
        self._places = [path for path, other in _open(siblings) if _same(ledger, other)]

    def has(self, ids: Iterable[bytes]) -> set[bytes]:
        """Returns those of the given identities that another study has completed."""
        wanted, found = list(ids), set[bytes]()
        for path in self._places:
            for _, other in _open([path]):
                with suppress(LedgerError):
                    found |= completed(other, [key for key in wanted if key not in found])
        return found


def completed(ledger: LedgerReader, ids: list[bytes]) -> set[bytes]:
    """Returns those of the given identities that a ledger has as completed trials."""
    trials, found = ledger.tables.trials, set[bytes]()
    with guard(ledger.where), ledger.connect() as connection:
        for start in range(0, len(ids), LOOKUP):
            chosen = trials.c.config_id.in_(ids[start : start + LOOKUP])
            query = sa.select(trials.c.config_id).where(chosen, trials.c.status == "completed")
            found |= {bytes(key) for key in connection.execute(query).scalars()}
    return found


def _same(ledger: LedgerReader, other: LedgerReader) -> bool:
    return other.header.context_id == ledger.header.context_id and other.header.metrics == ledger.header.metrics


def _open(paths: Iterable[Path]) -> Iterator[tuple[Path, Ledger]]:
    for path in paths:
        try:
            with Ledger.open(path, readonly=True) as other:
                yield path, other
        except LedgerError:
            continue  # a damaged or foreign ledger is its own study's problem, told when that is opened
