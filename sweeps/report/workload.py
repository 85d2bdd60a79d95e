"""Who worked when, and what it took: attempts laid out on lanes, hours, failures, what was saved."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from results.reader import LedgerReader
from results.tracking import CACHE_USE
from sweeps.endings import recorded_rules
from sweeps.report.part import Missing

BARS: Final = 1_500  # of the timeline; what is closer together than this many to its width is one bar
LANES: Final = 40
NAMED: Final = 20_000  # trials up to which bars name theirs


class Bar(NamedTuple):
    """Work on a lane without a pause, seconds since the first session began, pauses between sessions left out.

    Attributes:
        lane: From 0.
        begin: Seconds.
        end: Seconds.
        kind: "completed", "stopped early", "failed", "lost" or "work".
        words: What it was.
    """

    lane: int
    begin: float
    end: float
    kind: str
    words: str


@dataclass(frozen=True)
class Timeline:
    """Attempts on lanes.

    Attributes:
        bars: Work.
        lanes: Their names; a worker where one is on record.
        hidden: Lanes beyond the first ones, that are not drawn.
        begins: Second at which each session begins.
        seconds: Of all sessions.
        merged: Attempts in all, where neighbours share a bar; 0 where each has its own.
        named: Whether lanes are workers on record.
    """

    bars: tuple[Bar, ...]
    lanes: tuple[str, ...]
    hidden: int
    begins: tuple[float, ...]
    seconds: float
    merged: int
    named: bool = False


@dataclass(frozen=True)
class Cost:
    """What a study took.

    Attributes:
        sessions: There were.
        wall: Seconds of all sessions.
        worked: Seconds of evaluation, failures included.
        by_status: Of these, by how trials ended.
        trials: Evaluated here.
        reused: Trials taken over from other studies.
        failed_before: Failures that were tried again.
        attempts: By status.
        handed: Seconds of all attempts from start to end, waiting for a worker included.
        cache: Of the sessions together, by the names of `cluster.cache.records.Use`; empty if none is on record.
        price: An hour of a lane, if the study has one.
    """

    sessions: int
    wall: float
    worked: float
    by_status: Mapping[str, float]
    trials: int
    reused: int
    failed_before: int
    attempts: Mapping[str, int]
    handed: float
    cache: Mapping[str, float] = field(default_factory=dict)
    price: float | None = None

    @property
    def each(self) -> float:
        """Seconds of evaluation a trial, NaN without trials."""
        return self.worked / self.trials if self.trials else float("nan")


class _Attempt(NamedTuple):
    number: int
    session: int
    start: float
    end: float
    status: str
    worker: str
    n: int


def workload_of(ledger: LedgerReader, counts: Mapping[str, int]) -> tuple[Timeline | Missing, Cost]:
    """Gathers the timeline and the cost.

    Args:
        ledger: The study.
        counts: As `LedgerReader.counts`, which takes a second where trials are many.
    """
    attempts = list(_attempts(ledger))
    sessions = _sessions(ledger, attempts)
    return _timeline(ledger, attempts, sessions, counts), _cost(ledger, attempts, sessions, counts)


def _attempts(ledger: LedgerReader) -> Iterable[_Attempt]:
    t = ledger.tables.attempts
    for row in ledger.rows(sa.select(t).where(t.c.n > 0).order_by(t.c.started, t.c.attempt)):
        start = _stamp(row["started"])
        # Of what was given up only the start is known for certain.
        end = _stamp(row["ended"]) if row["ended"] and row["status"] == "accepted" else start
        yield _Attempt(row["attempt"], row["session_id"], start, max(start, end), row["status"], row["worker"], row["n"])


def _stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _sessions(ledger: LedgerReader, attempts: Sequence[_Attempt]) -> dict[int, tuple[float, float]]:
    """Returns start and end of each session; one that was killed lasted until its last result."""
    last: dict[int, float] = {}
    for attempt in attempts:
        last[attempt.session] = max(last.get(attempt.session, 0.0), attempt.end)
    found = {}
    for row in ledger.sessions():
        start = _stamp(row["started"])
        end = _stamp(row["ended"]) if row["ended"] else last.get(row["session_id"], start)
        found[row["session_id"]] = (start, max(start, end))
    return found


def _timeline(
    ledger: LedgerReader, attempts: Sequence[_Attempt], sessions: Mapping[int, tuple[float, float]], counts: Mapping[str, int]
) -> Timeline | Missing:
    if not attempts:
        return Missing("nothing was evaluated in this study itself")
    shift, begins, clock = {}, [], 0.0
    for number, (start, end) in sessions.items():
        shift[number] = clock - start
        begins.append(clock)
        clock += end - start
    names: dict[str, int] = {}
    placed = [(lane, attempt) for lane, attempt in _placed(attempts, names)]
    named = all(names)
    labels = list(names) if named else [f"lane {i + 1}" for i in range(max(lane for lane, _ in placed) + 1)]
    # Of packs a bar is many trials; where each reports by itself, a bar is one.
    trials = _trials(ledger) if counts["trials"] <= NAMED and recorded_rules(ledger) is not None else {}
    bars = [
        Bar(lane, a.start + shift[a.session], a.end + shift[a.session], *_fate(a, trials.get(a.number, ())))
        for lane, a in placed
        if lane < LANES
    ]
    few = bars if len(bars) <= BARS else _merged(bars, clock / BARS * 2.0)
    hidden = max(0, len(labels) - LANES)
    return Timeline(tuple(few), tuple(labels[:LANES]), hidden, tuple(begins), clock, len(bars) if len(few) < len(bars) else 0, named)


def _placed(attempts: Sequence[_Attempt], names: dict[str, int]) -> Iterable[tuple[int, _Attempt]]:
    """Puts each attempt on its worker's lane, or where workers are not on record on the first lane that is free."""
    if all(attempt.worker for attempt in attempts):
        for attempt in attempts:
            yield names.setdefault(attempt.worker, len(names)), attempt
        return
    names[""] = 0
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes = 0
    for attempt in attempts:
        while busy and busy[0][0] <= attempt.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(busy, (attempt.end, lane))
        yield lane, attempt


def _trials(ledger: LedgerReader) -> dict[int, list[tuple[int, str]]]:
    """Returns number and status of the trials each attempt brought."""
    found: dict[int, list[tuple[int, str]]] = {}
    for batch in ledger.stream(["trial", "attempt", "status"]):
        for trial, attempt, status in zip(batch["trial"], batch["attempt"], batch["status"], strict=True):
            found.setdefault(attempt, []).append((trial, status))
    return found


def _fate(attempt: _Attempt, trials: Sequence[tuple[int, str]]) -> tuple[str, str]:
    if attempt.status != "accepted":
        return "lost", f"{'not ended' if attempt.status == 'open' else attempt.status}, {_many(attempt.n)}"
    if len(trials) == 1:
        trial, status = trials[0]
        kind = "stopped early" if status == "stopped" else status
        return kind, f"trial {trial}, {kind}"
    return "work", _many(attempt.n)


def _many(n: int) -> str:
    return f"{n:,} {'trial' if n == 1 else 'trials'}"


def _merged(bars: Sequence[Bar], gap: float) -> list[Bar]:
    """Joins bars of a lane that follow one another within `gap` seconds."""
    made: list[Bar] = []
    open_: dict[int, list[Any]] = {}

    def close(lane: int) -> None:
        begin, end, n = open_.pop(lane)
        made.append(Bar(lane, begin, end, "work", f"{n:,} attempts"))

    for bar in sorted(bars, key=lambda each: (each.lane, each.begin)):
        now = open_.get(bar.lane)
        if now is not None and bar.begin - now[1] <= gap:
            now[1], now[2] = max(now[1], bar.end), now[2] + 1
            continue
        if now is not None:
            close(bar.lane)
        open_[bar.lane] = [bar.begin, bar.end, 1]
    for lane in list(open_):
        close(lane)
    return sorted(made)


def _cost(
    ledger: LedgerReader, attempts: Sequence[_Attempt], sessions: Mapping[int, tuple[float, float]], counts: Mapping[str, int]
) -> Cost:
    t = ledger.tables.trials
    query = sa.select(t.c.status, t.c.source.is_(None).label("own"), sa.func.count().label("n"), sa.func.sum(t.c.seconds).label("s"))
    rows = ledger.rows(query.group_by(t.c.status, t.c.source.is_(None)))
    again = ledger.events("reopened", limit=None)
    by_status = {str(row["status"]): float(row["s"] or 0.0) for row in rows if row["own"]}
    before = sum(float(event["detail"].get("seconds") or 0.0) for event in again)
    price = ledger.header.spec.get("stop", {}).get("price")
    return Cost(
        len(sessions),
        sum(end - start for start, end in sessions.values()),
        sum(by_status.values()) + before,
        by_status,
        sum(row["n"] for row in rows if row["own"]),
        sum(row["n"] for row in rows if not row["own"]),
        len(again),
        {status: counts[f"attempts_{status}"] for status in ("accepted", "open", "lost", "rejected")},
        sum(attempt.end - attempt.start for attempt in attempts),
        dict(sum((Counter(event["detail"]) for event in ledger.events(CACHE_USE, limit=None)), Counter[str]())),
        float(price) if isinstance(price, (int, float)) and not isinstance(price, bool) else None,
    )
