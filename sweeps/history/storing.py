"""Imported results in a ledger: what is there already stays as it is, what is new is added, what has changed is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from results import Header, Ledger, Plan, ResultRow
from results.engine import guard
from results.identity import config_ids
from results.leaderboard import IMPORTED as TRAINABLE
from results.provenance import collect
from results.reader import LedgerReader
from results.schema import metric_column
from results.secrets import redacted
from sweeps.history import IMPORTED, MARK, NOTE
from sweeps.history.records import Record
from sweeps.history.tables import Problem
from sweeps.home import LEDGER, move_aside
from sweeps.study import Study

CHUNK: Final = 10_000
SHOWN: Final = 1_000  # problems that are kept; all are counted
_LOOKUP: Final = 5_000
_MOST_NOTES: Final = 100_000  # more are not compared


@dataclass
class Outcome:
    """What became of rows.

    Attributes:
        new: Added.
        same: There already.
        blank: Without a result.
        changed: There already with other values, which stay; the first of them in words.
        changes: How many.
        problems: What could not be read; the first of them.
        faults: How many.
        total: Trials of the study now.
        widened: Metrics that the study did not have before.
    """

    new: int = 0
    same: int = 0
    blank: int = 0
    changed: list[Problem] = field(default_factory=list)
    changes: int = 0
    problems: list[Problem] = field(default_factory=list)
    faults: int = 0
    total: int = 0
    widened: tuple[str, ...] = ()

    def tell(self, problem: Problem) -> None:
        """Takes something that could not be read."""
        self.faults += 1
        if len(self.problems) < SHOWN:
            self.problems.append(replace(problem, words=redacted(problem.words)))

    def change(self, problem: Problem) -> None:
        """Takes a row that differs from what is kept."""
        self.changes += 1
        if len(self.changed) < SHOWN:
            self.changed.append(replace(problem, words=redacted(problem.words)))


def header_for(name: str, files: Sequence[str], metrics: tuple[Any, ...], objective: str) -> Header:
    """Returns the header of an imported study.

    Its data are not known, so its context says `imported` and its own name: no other study has the same, and none takes its results
    over or counts them as looks at its data.
    """
    told = f"Imported from {', '.join(files)}; UNVERIFIED, not evaluated here."
    spec: dict[str, Any] = {"name": name, "description": told, "trainable": TRAINABLE, "objective": objective}
    spec |= {"data": {"imported": list(files)}, "space": {}, "search": {"sampler": IMPORTED}}
    study = Study.parse(spec, "--name")
    context = {"trainable": TRAINABLE, "version": IMPORTED, "data_fingerprint": f"{IMPORTED}: {name}", "protocol": {}, "seed": 0}
    return Header(name, study.model_dump(), context, metrics, objective)


def add(
    ledger: Ledger, found: Iterable[Record | None], most: int, how: Mapping[str, Any], outcome: Outcome, at: Callable[[int], None]
) -> None:
    """Adds the rows that a ledger does not have yet.

    Args:
        ledger: Open for writing.
        found: Rows, None for one without a result.
        most: How many there are at most.
        how: They were read: files and options, to be kept.
        outcome: Takes what becomes of them.
        at: Called with the number of rows looked at.
    """
    writer, rows, seen = _Writer(ledger, most, outcome), iter(found), 0
    while chunk := list(islice(rows, CHUNK)):
        seen += len(chunk)
        taken = [record for record in chunk if record is not None]
        outcome.blank += len(chunk) - len(taken)
        writer.take(taken)
        at(seen)
    if writer.begun:
        ledger.record(IMPORTED, **how)
    elif (ledger.sessions() or [{"reason": None}])[-1]["reason"] != "finished":
        ledger.begin_session(collect(Path.cwd()))  # an earlier one was killed between its last row and its end
    if writer.begun or ledger.sessions()[-1]["reason"] is None:
        ledger.end_session("finished")
    outcome.total = ledger.counts()["trials"]


class _Writer:
    """Takes rows in chunks; a session and a plan begin with the first that is new."""

    def __init__(self, ledger: Ledger, most: int, outcome: Outcome):
        self._ledger, self._left, self._outcome = ledger, most, outcome
        self._plan: Plan | None = None
        self._added = 0
        self._notes = _notes(ledger)

    @property
    def begun(self) -> bool:
        return self._plan is not None

    def take(self, chunk: list[Record]) -> None:
        ledger, context = self._ledger, self._ledger.header.context_id
        chunk = _without_secrets(chunk)
        ids = config_ids(context, (record.config for record in chunk))
        stored, fresh = _stored(ledger, ids), dict[bytes, Record]()
        for key, record in zip(ids, chunk, strict=True):
            if key in stored:
                number, source, values = stored[key]
                where = f"trial {number} ({source.removeprefix(MARK)})"
                self._compare(record, values, where, self._notes.get(number))
            elif key in fresh:
                first = fresh[key]
                self._compare(record, first.metrics, f"line {first.line}", first.note)
            else:
                fresh[key] = record
        if fresh:
            self._accept(fresh)
        self._left -= len(chunk)

    def _compare(self, record: Record, values: Mapping[str, float | None], where: str, note: str | None) -> None:
        header = self._ledger.header
        told = []
        for name, value in record.metrics.items():
            if value != values.get(name):
                unit = header.metric(name).unit
                told.append(f"{name} is {_exact(value, unit)} here and {_exact(values.get(name), unit)} in {where}")
        if not told and note is not None and note != record.note:
            told = [f"its note differs from that of {where}"]
        if told:
            self._outcome.change(Problem(record.file, record.line, f"{'; '.join(told)}; kept as it was"))
        else:
            self._outcome.same += 1

    def _accept(self, fresh: Mapping[bytes, Record]) -> None:
        ledger = self._ledger
        if self._plan is None:
            ledger.begin_session(collect(Path.cwd()))
            sampler: dict[str, Any] = {"sampler": IMPORTED, "trials": None, "seed": 0, "fixed": {}, "import": len(ledger.plans()) + 1}
            self._plan = ledger.add_plan({}, sampler, self._left)
        start, names = self._plan.offset + self._added, ledger.header.metric_names
        rows = [
            ResultRow(number, key, each.config, metrics=[each.metrics.get(n) for n in names], seconds=each.seconds, source=_source(each))
            for number, (key, each) in enumerate(fresh.items(), start)
        ]
        # Notes first: a kill between the two leaves notes of numbers that no trial ever gets.
        noted = [(row.trial, {"note": record.note}) for row, record in zip(rows, fresh.values(), strict=True) if record.note]
        ledger.record_all(NOTE, noted)
        ledger.accept(ledger.open_attempt(self._plan.plan_id, len(rows), worker=IMPORTED), rows)
        self._added += len(rows)
        self._outcome.new += len(rows)


def _without_secrets(chunk: list[Record]) -> list[Record]:
    """Returns rows with secrets of the environment blotted out. All texts are looked at together, as nearly always there is nothing."""
    texts = {text for record in chunk for text in (*record.config.values(), record.note) if isinstance(text, str)}
    joined = "\n".join(sorted(texts))
    if redacted(joined) == joined:
        return chunk
    safe = {text: redacted(text) for text in texts}
    return [
        replace(
            record,
            config={name: safe[value] if isinstance(value, str) else value for name, value in record.config.items()},
            note=safe[record.note],
        )
        for record in chunk
    ]


def _source(record: Record) -> str:
    return f"{MARK}{record.file}:{record.line}"


def _exact(value: float | None, unit: str) -> str:
    if value is None:
        return "n/a"
    return f"{100 * value:.10g} %" if unit == "fraction" else f"{value:.10g}"


def _stored(ledger: LedgerReader, ids: Sequence[bytes]) -> dict[bytes, tuple[int, str, dict[str, float | None]]]:
    """Returns number, source and metrics of those that are in a ledger."""
    trials, names = ledger.tables.trials, ledger.header.metric_names
    columns = [trials.c.config_id, trials.c.trial, trials.c.source, *(trials.c[metric_column(name)] for name in names)]
    found = {}
    with guard(ledger.where), ledger.connect() as connection:
        for start in range(0, len(ids), _LOOKUP):
            query = sa.select(*columns).where(trials.c.config_id.in_(ids[start : start + _LOOKUP]))
            for key, number, source, *values in connection.execute(query):
                found[bytes(key)] = (int(number), str(source), dict(zip(names, values, strict=True)))
    return found


def _notes(ledger: LedgerReader) -> dict[int, str]:
    """Returns the notes of all trials, "" of those without one; nothing where they are too many to compare."""
    events = ledger.tables.events
    count = ledger.rows(sa.select(sa.func.count().label("n")).select_from(events).where(events.c.kind == NOTE))[0]["n"]
    if not count or count > _MOST_NOTES or ledger.counts()["trials"] > _MOST_NOTES:
        return {}
    kept = dict.fromkeys((int(row["trial"]) for row in ledger.rows(sa.select(ledger.tables.trials.c.trial))), "")
    return kept | {trial: detail["note"] for trial, detail in _all(ledger, NOTE)}


def _all(ledger: LedgerReader, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields trial and detail of all events of a kind, however many."""
    events, last = ledger.tables.events, 0
    while True:
        query = sa.select(events).where(events.c.kind == kind, events.c.seq > last).order_by(events.c.seq).limit(CHUNK)
        if not (found := ledger.rows(query)):
            return
        for row in found:
            yield row["trial"], json.loads(row["detail"])
        last = found[-1]["seq"]


def widen(home: Path, header: Header) -> None:
    """Gives a study more metrics: it is written anew with them, and what it was is set aside.

    Args:
        home: The study's folder; nobody writes there.
        header: With all metrics it had, in whatever order, and others.
    """
    draft = home.with_name(f".{home.name}.wider")
    shutil.rmtree(draft, ignore_errors=True)
    with Ledger.open(home / LEDGER) as old, closing(Ledger.create(draft / LEDGER, header)) as new:
        new.begin_session(collect(Path.cwd()))
        plans = [new.add_plan(plan.space, plan.sampler, plan.count) for plan in old.plans()]
        for kind in (NOTE, IMPORTED):
            copied = _all(old, kind)
            while part := list(islice(copied, CHUNK)):
                new.record_all(kind, part)
        for batch in old.stream(chunk=CHUNK):
            rows = _rows(batch, header)
            for place, group in groupby(rows, key=lambda row: max(i for i, plan in enumerate(plans) if plan.offset <= row.trial)):
                some = list(group)
                new.accept(new.open_attempt(plans[place].plan_id, len(some), worker=IMPORTED), some)
        new.end_session("finished")
    move_aside(home)
    draft.rename(home)


def _rows(batch: Mapping[str, Sequence[Any]], header: Header) -> list[ResultRow]:
    columns = [batch.get(metric_column(name), [None] * len(batch["trial"])) for name in header.metric_names]
    kept = zip(batch["trial"], batch["config_id"], batch["config"], batch["seconds"], batch["source"], *columns, strict=True)
    return [
        ResultRow(trial, bytes(key), json.loads(config), "completed", values, seconds, None, source)
        for trial, key, config, seconds, source, *values in kept
    ]
