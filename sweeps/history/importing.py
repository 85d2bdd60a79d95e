"""From files to a study: looked at, compared with what was imported before, and added to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results import Header, Ledger
from sweeps.history import IMPORTED, HistoryError, is_imported
from sweeps.history.columns import Choices, settled
from sweeps.history.reading import Found, look
from sweeps.history.records import Record
from sweeps.history.storing import Outcome, add, header_for, widen
from sweeps.home import LEDGER, set_aside
from sweeps.study import Study


@dataclass(frozen=True)
class Options:
    """How files are to be read.

    Attributes:
        metrics: Columns that are metrics, as `NAME[:max|min][:unit]`.
        parameters: Columns that are parameters.
        notes: Columns that are commentary.
        objective: Metric that ranks; "" chooses.
        section: What rows of CSV files are filed under; "" is the file's name.
        from_notes: Whether `name=value` in notes are columns too.
    """

    metrics: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    objective: str = ""
    section: str = ""
    from_notes: bool = False


@dataclass(frozen=True)
class Plan:
    """An import that has been looked at, and not made.

    Attributes:
        name: Of the study.
        home: Its folder.
        found: What is in the files.
        before: Header of the study, if there is one.
        how: What is kept of how the files were read.
    """

    name: str
    home: Path
    found: Found
    before: Header | None
    how: dict[str, Any]


def check_name(name: str) -> None:
    """Refuses what is no study's name, or would be a folder elsewhere.

    Raises:
        StudyError: What a name may be.
    """
    Study.parse({"name": name, "trainable": IMPORTED, "space": {}}, "--name")


def plan(paths: Sequence[Path], home: Path, options: Options, fresh: bool = False) -> Plan:
    """Looks at files, and at the study they are to be added to; writes nothing.

    Args:
        paths: To import.
        home: The study's folder; its name is the study's.
        options: How to read them; what was said at earlier imports holds too.
        fresh: Leave what was imported before out of account.

    Raises:
        HistoryError: A file or an option is not usable, or the study is no imported one.
        StudyError: The name is none.
    """
    check_name(home.name)
    before, earlier = (None, []) if fresh else _before(home)
    if before is not None and not is_imported(before):
        raise HistoryError(f"{home.name}: a study of this name has run in {home.parent}; give what is imported another --name")
    given = _merged(options, earlier)
    choices = Choices.parse(given.metrics, given.parameters, given.notes)
    mine = Choices.parse(options.metrics, options.parameters, options.notes)
    kept: dict[str, str] = {}
    for event in earlier:
        kept |= event.get("settled", {})
    declared = None if before is None else {metric.name: metric for metric in before.metrics}
    found = look(
        paths,
        replace(choices, settled=kept),
        asked=mine,
        objective=given.objective if before is None else "",
        section=given.section,
        from_notes=given.from_notes,
        declared=declared,
    )
    if before is not None and options.objective and options.objective != before.objective:
        raise HistoryError(f"--objective {options.objective}: {home.name} ranks by {before.objective}; --fresh imports it anew")
    _check_roles(home.name, found, mine, options, earlier)
    decided = {key: value for part in found.used for key, value in settled(part.table, part.columns).items()}
    how = {"files": list(found.files), "options": _as_dict(options), "settled": {**decided, **kept}, "roles": _roles(found)}
    return Plan(home.name, home, found, before, how)


def carry_out(made: Plan, *, dry: bool = False, fresh: bool = False, at: Callable[[int], None] = lambda rows: None) -> Outcome:
    """Imports what was looked at.

    Args:
        made: From `plan`.
        dry: Do it in a copy that is thrown away, to see what would come of it.
        fresh: Set aside what was imported before.
        at: Called with the number of rows looked at.

    Raises:
        HistoryError: There is nothing to import.
        LedgerError: The study's ledger cannot be written.
    """
    if not made.found.used:
        raise HistoryError(f"{', '.join(made.found.files)}: nothing to import: {_why_nothing(made.found)}")
    if not dry:
        return _write(made, made.home, fresh, at)
    with TemporaryDirectory(prefix="alphasweep-import-") as scratch:
        home = Path(scratch) / made.name
        if made.before is not None:
            home.mkdir()
            # Through SQLite, which copies a consistent state also beside a writer.
            kept = f"{(made.home / LEDGER).absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(kept, uri=True)) as source, closing(sqlite3.connect(home / LEDGER)) as copy:
                source.backup(copy)
        return _write(made, home, False, at)


def _write(made: Plan, home: Path, fresh: bool, at: Callable[[int], None]) -> Outcome:
    found, outcome = made.found, Outcome()
    for problem in found.problems:
        outcome.tell(problem)
    rows = found.records(outcome.tell)
    head, rest = _first(rows)
    if made.before is None:
        if not any(record is not None for record in head):
            told = f" ({outcome.problems[0]})" if outcome.problems else ""
            raise HistoryError(f"{', '.join(found.files)}: nothing to import: no row has a result, of {found.rows:,}{told}")
        if not found.objective:
            names = ", ".join(metric.name for metric in found.metrics)
            way = f"say --metric {found.metrics[0].name}:max or :min"
            raise HistoryError(f"none of the metrics ({names}) says whether more or less of it is better; {way}")
        if fresh and home.exists():
            set_aside(home)
        ledger = Ledger.create(home / LEDGER, header_for(made.name, found.files, found.metrics, found.objective))
    else:
        more = tuple(metric for metric in found.metrics if metric.name not in made.before.metric_names)
        if more:
            widen(home, replace(made.before, metrics=(*made.before.metrics, *more), created=""))
            outcome.widened = tuple(metric.name for metric in more)
        ledger = Ledger.open(home / LEDGER)
    with ledger:
        add(ledger, chain(head, rest), found.rows, made.how, outcome, at)
    return outcome


def _first(rows: Iterator[Record | None]) -> tuple[list[Record | None], Iterable[Record | None]]:
    """Returns rows up to the first with a result, and the others."""
    head: list[Record | None] = []
    for record in rows:
        head.append(record)
        if record is not None:
            break
    return head, rows


def _before(home: Path) -> tuple[Header | None, list[dict[str, Any]]]:
    if not (home / LEDGER).exists():
        return None, []
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return ledger.header, [event["detail"] for event in ledger.events(IMPORTED, limit=None)]


def _roles(found: Found) -> dict[str, list[str]]:
    """Returns what became of columns, by their names in snake case."""
    roles: dict[str, set[str]] = {}
    for column in (column for part in found.used for column in part.columns if column.key):
        roles.setdefault(column.key, set()).add(column.role)
    return {key: sorted(names) for key, names in roles.items()}


def _check_roles(name: str, found: Found, asked: Choices, options: Options, earlier: Sequence[dict[str, Any]]) -> None:
    """Refuses to read a column otherwise than before: its rows would be other trials, beside the same ones."""
    anew = f"rows of {name} would be other trials, beside those that are there; --fresh imports all anew"
    now = _roles(found)
    for key in sorted(asked.names):
        before = {role for event in earlier for role in event.get("roles", {}).get(key, ())}
        if before and not before >= set(now.get(key, ())):
            raise HistoryError(f"{key}: it became a {' and a '.join(sorted(before))} before, so {anew}")
    if options.from_notes and any(event.get("options") and not event["options"].get("from_notes") for event in earlier):
        raise HistoryError(f"--from-notes: earlier imports were without it, so {anew}")


def _merged(options: Options, earlier: Iterable[dict[str, Any]]) -> Options:
    """Returns options with those of earlier imports, which the later ones go before."""
    metrics, parameters, notes = dict[str, str](), dict[str, str](), dict[str, str]()
    from_notes = options.from_notes
    for given in (*(event.get("options", {}) for event in earlier), _as_dict(options)):
        for kind, names in ((metrics, "metrics"), (parameters, "parameters"), (notes, "notes")):
            for text in given.get(names, ()):
                key = Choices.parse(metrics=[text]).names.pop() if kind is metrics else Choices.parse(parameters=[text]).names.pop()
                for other in (metrics, parameters, notes):
                    other.pop(key, None)
                kind[key] = text
        from_notes = from_notes or bool(given.get("from_notes"))
    return replace(
        options, metrics=tuple(metrics.values()), parameters=tuple(parameters.values()), notes=tuple(notes.values()), from_notes=from_notes
    )


def _as_dict(options: Options) -> dict[str, Any]:
    lists = {"metrics": list(options.metrics), "parameters": list(options.parameters), "notes": list(options.notes)}
    return {**lists, "from_notes": options.from_notes, "section": options.section}


def _why_nothing(found: Found) -> str:
    if not found.parts:
        return "there is no table in it"
    return "; ".join(dict.fromkeys(f"line {part.table.line}: {part.why}" for part in found.parts[:10]))
