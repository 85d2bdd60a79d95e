"""Reading a ledger beside its writer, in the order in which results were accepted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import Ledger
from results.tracking import CACHE_USE, tail
from results.tracking.tail import Stretch, Tail


def read(found: Tail, **options: Any) -> list[tuple[int, str, int]]:
    """Returns what is new: trial, status, attempt."""
    parts = list(found.poll(**{"settled": True, **options}))
    assert [part.start for part in parts] == list(itertools.accumulate([found.read - sum(map(len, parts)), *map(len, parts)][:-1]))
    return [row for part in parts for row in zip(part.trial.tolist(), part.status, part.attempt.tolist(), strict=True)]


def test_results_come_in_the_order_in_which_attempts_ended_and_each_once(ledger: Ledger, location: str, make_rows: Any) -> None:
    context, found = ledger.header.context_id, Tail(location)
    slow, quick = ledger.open_attempt(1, 2), ledger.open_attempt(1, 2)
    ledger.accept(quick, make_rows(context, [7, 5]))
    assert read(found) == [(5, "completed", quick), (7, "completed", quick)]
    third = ledger.open_attempt(1, 1)
    ledger.accept(slow, make_rows(context, [1, 2]))
    assert read(found) == [(1, "completed", slow), (2, "completed", slow)]
    ledger.accept(third, make_rows(context, [3]))
    assert read(found) == [(3, "completed", third)]
    assert read(found) == []
    assert [row[0] for row in read(Tail(location))] == [5, 7, 1, 2, 3]


def test_what_is_read_is_what_the_ledger_has(ledger: Ledger, location: str, make_rows: Any, make_failed: Any) -> None:
    rows = [*make_rows(ledger.header.context_id, [0, 1]), make_failed(ledger.header.context_id, 2)]
    rows[1] = rows[1]._replace(source="sibling", seconds=None)
    attempt = ledger.open_attempt(1, 3, worker="card 0")
    ledger.accept(attempt, rows)
    ledger.record(CACHE_USE, rows_found=3)
    (part,) = Tail(location).poll(settled=True)
    assert part.config_id == [row.config_id for row in rows]
    assert part.metrics[:2].tolist() == [list(row.metrics or ()) for row in rows[:2]]
    assert part.seconds[0] == 0.25 and part.seconds[1] != part.seconds[1] and part.metrics[2].tolist() != part.metrics[2].tolist()
    assert part.reused.tolist() == [False, True, False]
    assert part.worker == ["card 0"] * 3 and part.left.tolist() == [2, 1, 0] and part.delivered.all()
    assert '"edge":0.5' in part.config[0].replace(" ", "")
    assert (part.ended >= part.began).all() and [detail for _, detail in part.cache] == [{"rows_found": 3}]
    (bare,) = Tail(location, configs=False).poll(settled=True)
    assert bare.config == [] and bare.trial.tolist() == [0, 1, 2]


def test_an_attempt_waits_until_its_end_lies_back(ledger: Ledger, location: str, make_rows: Any) -> None:
    found, context = Tail(location), ledger.header.context_id
    ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [0]))
    ended = time.time()
    assert read(found, settled=False, now=ended - 10) == []
    assert [row[0] for row in read(found, settled=False, now=ended + 10)] == [0]


def test_results_of_an_attempt_that_was_given_up_count_once_it_has_ended(ledger: Ledger, location: str, make_rows: Any) -> None:
    found, context = Tail(location), ledger.header.context_id
    half, none = ledger.open_attempt(1, 4), ledger.open_attempt(1, 1)
    ledger.accept(half, make_rows(context, [0, 1]))
    assert read(found) == []
    ledger.close_attempt(none, "lost")
    ledger.close_attempt(half, "lost")
    assert ledger.accept(half, make_rows(context, [2])).accepted == 0
    (part,) = found.poll(settled=True)
    assert part.trial.tolist() == [0, 1] and not part.delivered.any()


def test_what_an_interrupted_session_left_open_is_read_when_the_next_one_begins(
    new_location: Callable[[], str], make_header: Any, make_rows: Any
) -> None:
    place = new_location()
    with Ledger.create(place, make_header()) as first:
        first.begin_session({})
        first.add_plan({"x": [1, 2]}, {"kind": "grid"}, 10)
        first.accept(first.open_attempt(1, 3), make_rows(first.header.context_id, [0, 1]))
        first._session = None  # killed: nobody ends it
    found = Tail(place)
    assert read(found) == []
    with Ledger.open(place) as second:
        second.begin_session({})
        second.accept(second.open_attempt(1, 1), make_rows(second.header.context_id, [2]))
        parts = list(found.poll(settled=True))
        assert [(p.trial.tolist(), p.session.tolist()) for p in parts] == [([0, 1, 2], [1, 1, 2])]


def test_a_failure_that_is_tried_again_stays_where_it_was_and_comes_again(
    ledger: Ledger, location: str, make_rows: Any, make_failed: Any
) -> None:
    found, context = Tail(location), ledger.header.context_id
    first = ledger.open_attempt(1, 2)
    ledger.accept(first, [*make_rows(context, [0]), make_failed(context, 1)])
    assert read(found) == [(0, "completed", first), (1, "failed", first)]
    assert ledger.reopen_failed() == [1]
    assert read(found) == []
    again = ledger.open_attempt(1, 1)
    ledger.accept(again, [make_failed(context, 1)])
    ledger.reopen_failed()
    last = ledger.open_attempt(1, 1)
    ledger.accept(last, make_rows(context, [1]))
    assert read(found) == [(1, "failed", again), (1, "completed", last)]
    assert read(Tail(location)) == [(0, "completed", first), (1, "failed", first), (1, "failed", again), (1, "completed", last)]


def test_a_failure_that_is_moved_away_between_two_reads_is_still_read(
    ledger: Ledger, location: str, make_rows: Any, make_failed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHUNK", 2)
    context = ledger.header.context_id
    ledger.accept(ledger.open_attempt(1, 4), [*make_rows(context, [0, 1, 2]), make_failed(context, 3)])
    reading = Tail(location).poll(settled=True)
    assert next(reading).trial.tolist() == [0, 1]
    ledger.reopen_failed()
    rest = next(reading)
    assert rest.trial.tolist() == [2, 3] and rest.status == ["completed", "failed"]


def test_rows_that_were_refused_are_not_waited_for(ledger: Ledger, location: str, make_rows: Any) -> None:
    found, context = Tail(location), ledger.header.context_id
    ledger.accept(ledger.open_attempt(1, 2), make_rows(context, [0, 1]))
    second = ledger.open_attempt(1, 3)
    ledger.accept(second, make_rows(context, [0, 1, 2]))
    assert [row[0] for row in read(found)] == [0, 1, 2]
    ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [3]))
    assert [row[0] for row in read(found)] == [3]


def test_numbers_come_in_any_order_and_are_looked_up_by_what_is_new(ledger: Ledger, location: str, make_rows: Any) -> None:
    found, context = Tail(location), ledger.header.context_id
    for number in range(20, 60, 10):
        ledger.accept(ledger.open_attempt(1, 10), make_rows(context, list(range(number, number + 10))))
        read(found)
    ledger.accept(ledger.open_attempt(1, 3), make_rows(context, [4, 60, 11]))
    assert [row[0] for row in read(found)] == [4, 11, 60]
    if ledger.engine.dialect.name == "sqlite":
        with ledger.connect() as connection:
            plan = str(connection.exec_driver_sql("EXPLAIN QUERY PLAN SELECT attempt, trial FROM trials WHERE attempt IN (7, 8)").all())
        assert "SEARCH trials USING COVERING INDEX trials_attempt" in plan


def test_a_ledger_that_is_not_there_yet_is_waited_for(new_location: Callable[[], str], make_header: Any, make_rows: Any) -> None:
    place = new_location()
    if "://" in place:
        pytest.skip("a server has its tables, or is no ledger")
    found = Tail(place)
    assert read(found) == [] and not found.gone
    with Ledger.create(place, make_header()) as made:
        made.begin_session({})
        made.add_plan({"x": [1, 2]}, {"kind": "grid"}, 10)
        made.accept(made.open_attempt(1, 1), make_rows(made.header.context_id, [0]))
        assert len(read(found)) == 1


def test_a_study_that_was_set_aside_gives_nothing_of_the_one_in_its_place(tmp_path: Path, make_header: Any, make_rows: Any) -> None:
    def make() -> None:
        with Ledger.create(tmp_path / "study" / "ledger.sqlite", make_header()) as made:
            made.begin_session({})
            made.add_plan({"x": [1, 2]}, {"kind": "grid"}, 10)
            made.accept(made.open_attempt(1, 1), make_rows(made.header.context_id, [0]))

    make()
    found = Tail(tmp_path / "study" / "ledger.sqlite")
    assert len(read(found)) == 1
    (tmp_path / "study").rename(tmp_path / "aside")
    removed = Tail(found.path, _created=found._created)
    assert read(removed) == [] and removed.gone
    time.sleep(0.01)  # it was created at another millisecond
    make()
    assert read(found) == [] and found.gone


def test_a_reader_leaves_no_transaction_open_while_what_was_read_is_written(ledger: Ledger, location: str, make_rows: Any) -> None:
    if "://" in location:
        pytest.skip("the log of SQLite")
    context = ledger.header.context_id
    ledger.accept(ledger.open_attempt(1, 2), make_rows(context, [0, 1]))
    reading = Tail(location).poll(settled=True)
    assert isinstance(next(reading), Stretch)
    ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [2]))
    assert ledger._writes is not None
    with ledger._writes.connect() as connection:
        # Busy is 1 where a reader holds on to an old state, and the log grows.
        assert connection.exec_driver_sql("ROLLBACK") is not None
        assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").first()[0] == 0  # type: ignore[index]
    assert list(reading) == []
