"""What the ledgers of a folder say about a study before it runs: which points have a result, and what such points took.

Only reads: no lock is taken, no ledger made. What is known is the set difference `run` makes (`sweeps.feed`), against the same ledgers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from results import Header, Ledger, LedgerError
from results.identity import config_ids
from results.reuse import reusable_rows
from sweeps.feed import CHUNK
from sweeps.home import LEDGER
from sweeps.planning.estimate import START_UP, Pace, Span
from sweeps.suggestions import distinct, plan_of

if TYPE_CHECKING:
    from results.reader import LedgerReader
    from sweeps.search import Search

LARGE = 200_000  # points of which repeats are not looked for where nothing has a result
LOOKED_UP = 2_000_000  # points whose identities are made, at about 10 µs each; of more, their numbers in the ledger are counted


@dataclass(frozen=True)
class Sibling:
    """A ledger in the folder.

    Attributes:
        name: Of its study.
        ledger: Open for reading.
        same: Whether its results are this study's too: context and metrics are equal.
        related: Whether its seconds and curves are of use: trainable, version and data are equal.
        own: Whether it is the study's own.
    """

    name: str
    ledger: Ledger
    same: bool
    related: bool
    own: bool


@dataclass(frozen=True)
class Known:
    """How much of a plan has a result.

    Attributes:
        size: Points of the plan.
        here: With a result in the study itself.
        ended: Of these, how many failed and how many were stopped early.
        elsewhere: With a completed result that would be taken over, by study.
        repeats: Configurations that have another number of the plan too; they are evaluated once.
        exact: False where points could not be looked up one by one, and others may have one too.
        learns: Because the sampler learns: which points it will suggest is not known.
    """

    size: int
    here: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    repeats: int = 0
    exact: bool = True
    learns: bool = False

    @property
    def left(self) -> int:
        """Points to evaluate."""
        return self.size - self.here - sum(self.elsewhere.values()) - self.repeats


@contextmanager
def siblings(folder: Path, header: Header) -> Iterator[list[Sibling]]:
    """Opens every ledger in a folder for reading, the study's own first; one that cannot be read is left out, as `run` does."""
    found = []
    with ExitStack() as stack:
        for path in sorted(folder.glob(f"*/{LEDGER}"), key=lambda p: (p.parent.name != header.name, p)):
            try:
                ledger = stack.enter_context(Ledger.open(path, readonly=True))
            except LedgerError:
                continue
            same = ledger.header.context_id == header.context_id and ledger.header.metrics == header.metrics
            related = all(ledger.header.context[key] == header.context[key] for key in ("trainable", "version", "data_fingerprint"))
            found.append(Sibling(path.parent.name, ledger, same, related, path.parent.name == header.name))
        yield found


def count_known(search: Search, header: Header, found: Sequence[Sibling], told: Callable[[int], None] = lambda n: None) -> Known:
    """Counts the points of a plan that have a result, here or in another study of the same context; `told` gets the points looked up."""
    size, same = search.sampler.size, [each for each in found if each.same]
    own = next((each.ledger for each in same if each.own), None)
    if search.learns:
        ids = [] if own is None else [member.config_id for member in distinct(own, plan_of(search))]
        return Known(size, 0 if own is None else len(own.known(ids)), exact=not same, learns=True)
    if size > LOOKED_UP:
        return Known(size, 0 if own is None else _numbered(own, search), exact=not same)
    if not same and size > LARGE:
        return Known(size)
    here, repeats, ended, elsewhere = 0, 0, dict[str, int](), dict[str, int]()
    seen: set[bytes] = set()
    for start in range(0, size, CHUNK):
        raw = search.sampler.configs(start, min(start + CHUNK, size))
        ids = config_ids(header.context_id, map(search.config, raw), header.defaults)
        statuses = {} if own is None else _statuses(own, ids)
        wanted: dict[bytes, int] = {}
        for number, key in enumerate(ids, start):
            if key in seen:
                repeats += 1
                continue
            seen.add(key)
            if (status := statuses.get(key)) is None:
                wanted[key] = number
                continue
            here += 1
            if status != "completed":
                ended[status] = ended.get(status, 0) + 1
        for each in same:
            if not each.own and wanted:
                taken = [row.config_id for row in reusable_rows(each.ledger, header, wanted)]
                wanted = {key: number for key, number in wanted.items() if key not in set(taken)}
                if taken:
                    elsewhere[each.name] = elsewhere.get(each.name, 0) + len(taken)
        told(min(start + CHUNK, size))
    return Known(size, here, ended, elsewhere, repeats)


def _statuses(ledger: LedgerReader, ids: Sequence[bytes]) -> dict[bytes, str]:
    trials = ledger.tables.trials
    query = sa.select(trials.c.config_id, trials.c.status).where(trials.c.config_id.in_(ids))
    return {bytes(row["config_id"]): row["status"] for row in ledger.rows(query)}


def _numbered(ledger: LedgerReader, search: Search) -> int:
    """Counts the results with a number of this very search."""
    trials, asked = ledger.tables.trials, plan_of(search)
    for plan in ledger.plans():
        if (plan.space, plan.sampler, plan.count) == (asked.space, asked.sampler, asked.count):
            inside = trials.c.trial.between(plan.offset, plan.offset + search.sampler.size - 1)
            return int(ledger.rows(sa.select(sa.func.count().label("n")).where(inside))[0]["n"])
    return 0


def packs_of(ledger: LedgerReader) -> list[tuple[float, float, bool]]:
    """Returns (configurations, seconds, whether it was its worker's first) of every pack with completed results of the ledger's own."""
    t, a = ledger.tables.trials, ledger.tables.attempts
    own = sa.and_(t.c.status == "completed", t.c.source.is_(None), t.c.seconds.is_not(None))
    sums = sa.select(t.c.attempt, sa.func.count().label("n"), sa.func.sum(t.c.seconds).label("s")).where(own).group_by(t.c.attempt)
    each = sums.subquery()
    rows = ledger.rows(sa.select(each.c.n, each.c.s, a.c.session_id, a.c.started, a.c.ended).join(a, a.c.attempt == each.c.attempt))
    first: dict[int, str] = {}  # when the first pack of a session came back: until then workers were given their first
    for row in rows:
        first[row["session_id"]] = min(first.get(row["session_id"], row["ended"]), row["ended"])
    return [(float(row["n"]), float(row["s"]), row["started"] < first[row["session_id"]]) for row in rows]


def trials_of(ledger: LedgerReader) -> list[tuple[float, float]]:
    """Returns (steps, seconds) of every trial of the ledger that has reported."""
    if ledger.header.schema_version < 2:
        return []
    r = ledger.tables.reports
    query = sa.select(sa.func.max(r.c.step).label("n"), sa.func.sum(r.c.seconds).label("s")).group_by(r.c.config_id)
    return [(float(row["n"]), float(row["s"])) for row in ledger.rows(query) if row["n"] and row["s"] is not None]


def recorded_pace(found: Sequence[Sibling], stepping: bool) -> Pace | None:
    """Returns what earlier results took, of this context if there are any, else of the same trainable, version and data; None without.

    Packs: a worker's first pack is left out (it loads and compiles), unless there are no others.
    """
    for close in (True, False):
        used: dict[str, list[tuple[float, float]]] = {}
        first: list[tuple[float, float]] = []
        for each in found:
            if not (each.same if close else each.related):
                continue
            if stepping:
                rows = trials_of(each.ledger)
            else:
                packs = packs_of(each.ledger)
                rows, early = [(n, s) for n, s, new in packs if not new], [(n, s) for n, s, new in packs if new]
                first += early
                rows = rows or early
            if rows:
                used[each.name] = rows
        if used:
            sizes, seconds = np.array([row for rows in used.values() for row in rows]).T
            count = len(sizes) if stepping else int(sizes.sum())
            noun = ("trial" if stepping else "result") + ("" if count == 1 else "s")
            source = f"from {count:,} {noun} of {', '.join(used)}{'' if close else ', under another protocol or seed'}"
            mean = seconds.sum() / sizes.sum()
            warm = float(np.median([max(0.0, s - mean * n) for n, s in first])) if first else 0.0
            return Pace(sizes, seconds, warm=warm, source=source)
    return None


def start_ups(found: Sequence[Sibling]) -> Span:
    """Returns how long sessions on this machine were not at work, at their start and end; `START_UP` where none is on record."""
    host, waits = socket.gethostname(), []
    for each in found:
        t, a = each.ledger.tables.trials, each.ledger.tables.attempts
        query = sa.select(a.c.session_id, a.c.attempt, a.c.ended, sa.func.sum(t.c.seconds).label("s")).join(t, t.c.attempt == a.c.attempt)
        rows = each.ledger.rows(query.where(t.c.source.is_(None)).group_by(a.c.attempt).order_by(a.c.ended))
        for session in each.ledger.sessions():
            mine = [row for row in rows if row["session_id"] == session["session_id"] and row["ended"] and row["s"] is not None]
            if mine and session["ended"] and session["reason"] == "finished" and session["provenance"].get("host") == host:
                whole = _seconds(session["started"], session["ended"])
                waits.append(max(0.0, whole - _seconds(mine[0]["ended"], mine[-1]["ended"]) - mine[0]["s"]))
    if not waits:
        return Span(*START_UP)
    return Span(0.7 * min(waits), 1.3 * max(waits))


def _seconds(first: str, last: str) -> float:
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
