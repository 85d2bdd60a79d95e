"""Exactly once: what a ledger takes, refuses, remembers and gives back."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from results import Accepted, Ledger, LedgerError, LedgerLocked, Metric
from results.tracking.tail import Tail


@contextmanager
def statements_sent() -> Iterator[dict[str, int]]:
    seen = {"statements": 0, "commits": 0}

    def on_statement(*_: Any) -> None:
        seen["statements"] += 1

    def on_commit(*_: Any) -> None:
        seen["commits"] += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", on_statement)
    sa.event.listen(sa.Engine, "commit", on_commit)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", on_statement)
        sa.event.remove(sa.Engine, "commit", on_commit)


def context_of(ledger: Ledger) -> str:
    return ledger.header.context_id


def test_what_was_accepted_is_there_after_reopening(location: str, header: Any, make_rows: Callable) -> None:
    with Ledger.create(location, header) as ledger:
        ledger.begin_session({"host": "a"})
        plan = ledger.add_plan({"x": [1]}, {"kind": "grid"}, 3)
        attempt = ledger.open_attempt(plan.plan_id, 3, "worker-1")
        assert ledger.accept(attempt, make_rows(context_of(ledger), range(3))) == Accepted(3, 0)
        ledger.end_session("finished")
    with Ledger.open(location) as ledger:
        assert ledger.counts()["completed"] == 3 and ledger.counts()["attempts_accepted"] == 1
        found = ledger.trial(2)
        assert found["config"] == {"x": 2, "edge": 2.5, "mode": "high_low"}
        assert found["metrics"] == {"sharpe": 2 / 7.0, "total_return": 0.02, "max_drawdown": -0.1, "loss": 1 / 3}
        assert (found["worker"], found["seconds"], found["intact"]) == ("worker-1", 0.25, True)
        assert ledger.header == header.__class__(**{**header.__dict__, "created": ledger.header.created})
        assert ledger.sessions()[0]["reason"] == "finished"


def test_accepting_costs_one_commit_and_as_many_statements_for_any_number_of_rows(ledger: Ledger, make_rows: Callable) -> None:
    cost = []
    for start, size in ((0, 2), (100, 800)):
        attempt = ledger.open_attempt(1, size)
        rows = make_rows(context_of(ledger), range(start, start + size))
        with statements_sent() as seen:
            ledger.accept(attempt, rows)
        cost.append(dict(seen))
    assert cost[0]["commits"] == 1
    assert cost[0] == cost[1]


def test_a_configuration_counts_once_whoever_delivers_it_again(ledger: Ledger, make_rows: Callable) -> None:
    context = context_of(ledger)
    first, second = ledger.open_attempt(1, 4), ledger.open_attempt(1, 4)
    assert ledger.accept(first, make_rows(context, [0, 1, 2, 3])) == Accepted(4, 0)
    late = make_rows(context, [2, 3, 4, 5], lambda number: [99.0, 0.0, 0.0, 0.0])
    assert ledger.accept(second, late) == Accepted(2, 2)
    assert ledger.trial(2)["metrics"]["sharpe"] == 2 / 7.0
    assert ledger.trial(4)["metrics"]["sharpe"] == 99.0
    event = ledger.events("rejected")[-1]["detail"]
    assert event["trials"] == [2, 3] and event["attempt"] == second


def test_a_trial_number_that_is_taken_is_refused_too(ledger: Ledger, make_rows: Callable) -> None:
    context = context_of(ledger)
    ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [0]))
    clash = make_rows(context, [5])[0]._replace(trial=0)
    assert ledger.accept(ledger.open_attempt(1, 1), [clash]) == Accepted(0, 1)


def test_repeats_inside_one_delivery_count_once(ledger: Ledger, make_rows: Callable) -> None:
    row = make_rows(context_of(ledger), [0])[0]
    assert ledger.accept(ledger.open_attempt(1, 3), [row, row, row._replace(trial=1)]) == Accepted(1, 2)
    assert ledger.counts()["trials"] == 1


def test_a_lost_attempt_is_fenced_off_and_its_late_result_recorded(location: str, header: Any, make_rows: Callable) -> None:
    with Ledger.create(location, header) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 10)
        zombie = ledger.open_attempt(1, 2)
        ledger.record("started")
        ledger._session = None  # the process dies here: no end_session
    with Ledger.open(location) as ledger:
        assert ledger.counts()["attempts_open"] == 1
        ledger.begin_session({})
        assert ledger.counts()["attempts_lost"] == 1
        assert ledger.events("session_started")[-1]["detail"] == {"lost_attempts": 1}
        assert ledger.sessions()[0]["reason"] == "interrupted"
        fresh = ledger.open_attempt(1, 2)
        assert fresh > zombie
        rows = make_rows(context_of(ledger), [0, 1])
        assert ledger.accept(zombie, rows) == Accepted(0, 2)
        assert ledger.counts()["trials"] == 0 and ledger.counts()["attempts_rejected"] == 1
        assert ledger.events("rejected")[-1]["detail"] == {"attempt": zombie, "reason": "attempt is lost", "rows": 2, "trials": [0, 1]}
        assert ledger.accept(fresh, rows) == Accepted(2, 0)


def test_an_attempt_closes_when_all_its_rows_are_in_and_takes_nothing_more(ledger: Ledger, make_rows: Callable) -> None:
    context = context_of(ledger)
    attempt = ledger.open_attempt(1, 3)
    ledger.accept(attempt, make_rows(context, [0, 1]))
    assert ledger.counts()["attempts_open"] == 1
    ledger.accept(attempt, make_rows(context, [2]))
    assert ledger.counts()["attempts_accepted"] == 1
    assert ledger.accept(attempt, make_rows(context, [3])) == Accepted(0, 1)


def test_an_attempt_given_up_by_the_driver_is_fenced_off_in_the_same_session(ledger: Ledger, make_rows: Callable) -> None:
    attempt = ledger.open_attempt(1, 1)
    assert ledger.close_attempt(attempt, "lost") is True
    assert ledger.close_attempt(attempt, "accepted") is False
    assert ledger.accept(attempt, make_rows(context_of(ledger), [0])) == Accepted(0, 1)
    with pytest.raises(LedgerError, match="closed as"):
        ledger.close_attempt(attempt, "open")


def test_fencing_numbers_are_never_given_out_twice(ledger: Ledger) -> None:
    numbers = [ledger.open_attempt(1, 1) for _ in range(5)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": [1.0]}, "4 metrics are declared"),
        ({"metrics": None}, "4 metrics are declared"),
        ({"status": "done"}, "status is 'done'"),
        ({"status": "failed"}, "failed but brings metrics"),
        ({"config": {"x": 99}}, "is not that of its configuration"),
        ({"config": {"x": math.nan}}, "no identity"),
        ({"trial": -1}, "negative"),
        ({"metrics": ["a", 1, 1, 1]}, "not a number"),
    ],
)
def test_a_malformed_row_is_refused_with_its_reason_and_nothing_is_written(
    ledger: Ledger, make_rows: Callable, change: dict, message: str
) -> None:
    rows = make_rows(context_of(ledger), [0, 1])
    rows[1] = rows[1]._replace(**change)
    attempt = ledger.open_attempt(1, 2)
    with pytest.raises(LedgerError, match=message):
        ledger.accept(attempt, rows)
    assert ledger.counts()["trials"] == 0 and ledger.counts()["attempts_open"] == 1


def test_nan_and_infinite_metrics_are_not_available(ledger: Ledger, make_rows: Callable) -> None:
    values = [[math.nan, math.inf, -math.inf, None], [1.0, 2.0, 3.0, -0.0]]
    rows = make_rows(context_of(ledger), [0, 1], lambda number: values[number])
    ledger.accept(ledger.open_attempt(1, 2), rows)
    assert list(ledger.trial(0)["metrics"].values()) == [None] * 4
    assert ledger.trial(0)["intact"] and ledger.trial(1)["intact"]
    assert ledger.top("sharpe", n=5)["trial"].tolist() == [1, 0]
    assert ledger.verify([[row.config_id for row in rows]]).ok


def test_failed_trials_are_known_and_run_again_only_when_reopened(ledger: Ledger, make_rows: Callable, make_failed: Callable) -> None:
    context = context_of(ledger)
    failed = make_failed(context, 1, "ValueError: too big")
    ledger.accept(ledger.open_attempt(1, 2), [make_rows(context, [0])[0], failed])
    assert ledger.known([failed.config_id]) == {failed.config_id}
    assert ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [1])) == Accepted(0, 1)
    assert ledger.reopen_failed() == [1]
    assert ledger.reopen_failed() == []
    event = ledger.events("reopened")[-1]
    assert event["trial"] == 1 and event["detail"]["error"] == "ValueError: too big" and event["detail"]["config"]["x"] == 1
    assert ledger.known([failed.config_id]) == set()
    assert ledger.accept(ledger.open_attempt(1, 1), make_rows(context, [1])) == Accepted(1, 0)
    assert ledger.counts()["failed"] == 0 and ledger.counts()["completed"] == 2


def test_known_finds_exactly_the_points_with_a_result(ledger: Ledger, make_rows: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(context_of(ledger), range(0, 60, 2))
    ledger.accept(ledger.open_attempt(1, 30), rows)
    wanted = [row.config_id for row in make_rows(context_of(ledger), range(60))]
    monkeypatch.setattr("results.reader.ID_CHUNK", 7)
    assert ledger.known(iter(wanted)) == {row.config_id for row in rows}
    assert ledger.known([]) == set()


def test_a_search_asked_for_again_is_the_same_plan_and_another_starts_after_it(ledger: Ledger) -> None:
    again = ledger.add_plan({"x": [1.0, 2.0]}, {"kind": "grid"}, 1000)
    assert (again.plan_id, again.offset, again.count) == (1, 0, 1000)
    endless = ledger.add_plan({"x": [1, 2]}, {"kind": "tpe"}, None)
    assert endless.offset == 1000
    wider = ledger.add_plan({"x": [1, 2, 3]}, {"kind": "grid"}, 3)
    assert wider.offset > 1000 + 10**8
    assert [plan.digest for plan in ledger.plans()] == [again.digest, endless.digest, wider.digest]
    assert wider.space == {"x": [1, 2, 3]} and wider.sampler == {"kind": "grid"}


def test_events_keep_order_kind_and_details(ledger: Ledger) -> None:
    ledger.record("stopped", trial=3, rung=9, cutoff=0.25, reason="below the median")
    ledger.record_all("reported", [(i, {"fold": i}) for i in range(5)])
    stopped = ledger.events("stopped")
    assert len(stopped) == 1 and stopped[0]["trial"] == 3 and stopped[0]["detail"]["reason"] == "below the median"
    assert [event["trial"] for event in ledger.events("reported", limit=3)] == [2, 3, 4]
    with statements_sent() as seen:
        ledger.record_all("reported", [(i, {}) for i in range(500)])
    assert seen["commits"] == 1
    with pytest.raises(LedgerError, match="event 'odd'"):
        ledger.record("odd", value=math.nan)


def test_writing_needs_a_session_and_a_known_attempt(location: str, header: Any) -> None:
    with Ledger.create(location, header) as ledger:
        with pytest.raises(LedgerError, match="begin_session"):
            ledger.open_attempt(1, 1)
        ledger.begin_session({})
        with pytest.raises(LedgerError, match="still open"):
            ledger.begin_session({})
        with pytest.raises(LedgerError, match="no attempt 17"):
            ledger.accept(17, [])
        with pytest.raises(LedgerError):
            ledger.open_attempt(99, 1)  # no such plan


def test_a_reader_cannot_write(location: str, header: Any) -> None:
    Ledger.create(location, header).close()
    with Ledger.open(location, readonly=True) as reader, pytest.raises(LedgerError, match="reading only"):
        reader.begin_session({})


def test_a_second_writer_is_refused_until_the_first_closes(location: str, header: Any) -> None:
    with Ledger.create(location, header):
        with pytest.raises(LedgerLocked, match="one writer"):
            Ledger.open(location)
        Ledger.open(location, readonly=True).close()
    Ledger.open(location).close()


def test_a_second_ledger_in_the_same_place_is_refused(location: str, header: Any) -> None:
    Ledger.create(location, header).close()
    with pytest.raises(LedgerError, match="already"):
        Ledger.create(location, header)


def test_an_exception_in_the_driver_is_the_session_s_reason(location: str, header: Any) -> None:
    with pytest.raises(KeyboardInterrupt), Ledger.create(location, header) as ledger:
        ledger.begin_session({})
        raise KeyboardInterrupt
    with Ledger.open(location, readonly=True) as ledger:
        assert ledger.sessions()[0]["reason"] == "stopped by KeyboardInterrupt"


def test_a_study_reuses_the_results_of_a_sibling(new_location: Callable, make_header: Callable, make_rows: Callable) -> None:
    first, second, third = new_location(), new_location(), new_location()
    with Ledger.create(first, make_header("small")) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 10)
        rows = make_rows(context_of(ledger), range(3))
        ledger.accept(ledger.open_attempt(1, 3), rows)
    numbered = {rows[2].config_id: 0, rows[0].config_id: 5, bytes(16): 6}
    with Ledger.create(second, make_header("large")) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 10)
        found = ledger.reuse_from(first, numbered)
        assert [(row.trial, row.config["x"], row.source) for row in found] == [(0, 2, "small"), (5, 0, "small")]
        assert ledger.accept(ledger.open_attempt(1, 2), found) == Accepted(2, 0)
        assert ledger.trial(5)["metrics"]["total_return"] == 0.0 and ledger.trial(5)["source"] == "small"
    with sa.create_engine(f"sqlite:///{first}" if "://" not in first else first).begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET m_sharpe = 9 WHERE trial = 2")
    with Ledger.open(second) as ledger:  # a result that was changed runs again
        assert [row.trial for row in ledger.reuse_from(first, numbered)] == [5]
    other_data = make_header("other data", data_fingerprint="xyz")
    with Ledger.create(third, other_data) as ledger, pytest.raises(LedgerError, match="data_fingerprint"):
        ledger.reuse_from(first, numbered)


def test_a_header_holds_no_nonsense(header: Any) -> None:
    with pytest.raises(LedgerError, match="objective 'nope'"):
        header.__class__(**{**header.__dict__, "objective": "nope"})
    with pytest.raises(LedgerError, match="context needs exactly"):
        header.__class__(**{**header.__dict__, "context": {"seed": 1}})
    with pytest.raises(LedgerError, match="upper and lower case"):
        header.__class__(**{**header.__dict__, "metrics": (Metric("a"), Metric("A")), "objective": "a"})


def test_a_plan_keeps_the_order_of_its_axes_because_it_numbers_the_points(location: str, header: Any) -> None:
    with Ledger.create(location, header) as ledger:
        ledger.begin_session({})
        first = ledger.add_plan({"b": [1, 2], "a": [3]}, {"sampler": "grid"}, 2)
        second = ledger.add_plan({"a": [3], "b": [1, 2]}, {"sampler": "grid"}, 2)
    assert [list(plan.space) for plan in (first, second)] == [["b", "a"], ["a", "b"]]
    assert first.plan_id != second.plan_id


def test_a_ledger_that_keeps_rows_by_number_as_earlier_ones_do_is_gone_on_with(tmp_path: Any, header: Any, make_rows: Callable) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, header) as ledger:
        ledger.begin_session({})
        ledger.add_plan({"x": [1]}, {"kind": "grid"}, 9)
        ledger.accept(ledger.open_attempt(1, 2), make_rows(context_of(ledger), [5, 2]))
    with closing(sqlite3.connect(path)) as plain, plain:
        [(made,)] = plain.execute("SELECT sql FROM sqlite_master WHERE name = 'trials'")
        before = made.replace("UNIQUE (trial)", "PRIMARY KEY (trial)").replace("TABLE trials", "TABLE earlier")
        assert before.count("PRIMARY KEY (trial)") == 1
        plain.execute(before)
        plain.execute("INSERT INTO earlier SELECT * FROM trials")
        plain.execute("DROP TABLE trials")
        plain.execute("ALTER TABLE earlier RENAME TO trials")
        plain.execute("CREATE INDEX trials_objective ON trials (m_sharpe)")
    with Ledger.open(path) as ledger:
        ledger.begin_session({})
        assert ledger.accept(ledger.open_attempt(1, 3), make_rows(context_of(ledger), [7, 2, 3])) == Accepted(2, 1)
        assert ledger.numbers(0, 9).tolist() == [2, 3, 5, 7] and ledger.top("sharpe", n=2)["trial"].tolist() == [7, 5]
        assert [list(batch["trial"]) for batch in ledger.stream(["trial", "config_id"])] == [[2, 3, 5, 7]]
        assert [part.trial.tolist() for part in Tail(path).poll(settled=True)] == [[2, 5, 3, 7]]
        assert ledger.counts()["completed"] == 4 and ledger.trial(3)["intact"]
