"""Points and rows follow from the ledger alone, in whatever pieces it is read."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import Header, Ledger, Metric, ResultRow, config_ids
from results import ledger as ledger_module
from results.tracking import CACHE_USE
from results.tracking.projection import (
    BEST,
    BUSY,
    COMPLETED,
    FAILED,
    LANES,
    RATE,
    REUSED,
    SECONDS,
    STOPPED,
    Projection,
    batch_end,
    done_at,
    points_of,
    table_rows,
)
from results.tracking.tail import Stretch, Tail
from results.tracking.tracker import Place, Point, Rows


class Clock:
    """The ledger's, moved by hand; no two looks see the same millisecond."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> str:
        self.time += timedelta(milliseconds=1)
        return self.time.isoformat(timespec="milliseconds")


METRICS = (Metric("gain", "max"), Metric("risk", "min"), Metric("trades", None, "count"))


def make_header(spec: dict[str, Any] | None = None) -> Header:
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "f", "protocol": {"defaults": {"x": 0, "mode": "a"}}, "seed": 1}
    return Header("study", {"space": {"x": [1]}, **(spec or {})}, context, METRICS, "gain")


def row(header: Header, number: int, gain: float = 1.0, risk: float = 1.0, **more: Any) -> ResultRow:
    config = {"x": number + 1}
    metrics = None if more.get("status") == "failed" else [gain, risk, 30.0]
    return ResultRow(number, config_ids(header.context_id, [config], header.defaults)[0], config, **{"metrics": metrics, **more})


def told(place: Path, header: Header, count: int | None = 100, held: Place | None = None) -> tuple[list[Point], list[Rows], Projection]:
    """Reads a ledger at once."""
    fold = Projection(header, ("x", "mode"), count, held or Place())
    items = [item for part in Tail(place).poll(settled=True) for item in fold.feed(part)]
    items += fold.rest()
    return [i for i in items if isinstance(i, Point)], [i for i in items if isinstance(i, Rows)], fold


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Ledger, Clock]]:
    clock = Clock()
    monkeypatch.setattr(ledger_module, "now", clock)
    place = tmp_path / "ledger.sqlite"
    with Ledger.create(place, make_header({"objective": ["gain", "risk"], "constraints": ["trades >= 10"]})) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, 100)
        yield place, ledger, clock


def test_every_result_is_a_point_at_first_and_each_thousandth_at_last() -> None:
    assert [done_at(i) for i in (0, 1, 999, 1000, 1001, 1899, 1900, 2799, 2800, 2801)] == [
        *(1, 2, 1000, 1010, 1020, 10_000, 10_100, 100_000, 101_000, 102_000)
    ]
    assert [points_of(n) for n in (0, 1, 1000, 1009, 1010, 100_000, 100_999, 1_000_000)] == [0, 1, 1000, 1000, 1001, 2800, 2800, 3700]


@given(st.integers(0, 5_000_000))
def test_a_point_is_due_where_its_number_of_results_is_reached(done: int) -> None:
    assert done_at(points_of(done)) > done >= (done_at(points_of(done) - 1) if points_of(done) else 0)


def test_batches_of_rows_are_fifty_for_the_trials_asked_for_and_never_more_than_a_hundred_for_ten_times_as_many() -> None:
    def batches(rows: int, count: int | None) -> list[int]:
        ends = [batch_end(0, count)]
        while ends[-1] < rows:
            ends.append(batch_end(ends[-1], count))
        return np.diff([0, *ends]).tolist()

    assert batches(1_000, 1_000) == [20] * 50
    assert batches(100_000, 100_000) == [2_000] * 50
    assert batches(3_000, 1_000) == [20] * 50 + [40] * 10 + [80] * 10 + [160] * 5
    assert max(batches(200_000, 200_000)) == 4_000 and len(batches(200_000, 200_000)) == 50
    assert len(batches(200_000, 20_000)) <= 100 and max(batches(200_000, 20)) == 10_000
    assert batch_end(30, 1_000) == 40  # wherever the batch before was cut
    assert [table_rows(n, c) for n, c in ((50, 100), (300_000, 100_000), (50, 200_001), (7, None))] == [50, 200_000, 0, 7]


def test_curves_say_what_the_ledger_says(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, clock = study
    header = ledger.header
    first = ledger.open_attempt(1, 3, worker="card 0")
    clock.time += timedelta(seconds=10)
    rows = [row(header, 0, 1.0, 5.0, seconds=2.0), row(header, 1, 9.0, 1.0, seconds=3.0)._replace(metrics=[9.0, 1.0, 5.0])]
    ledger.accept(first, [*rows, row(header, 2, 3.0, 7.0, status="stopped", seconds=4.0)])
    second = ledger.open_attempt(1, 2)
    clock.time += timedelta(seconds=5)
    ledger.accept(second, [row(header, 3, 4.0, 2.0, seconds=1.0), row(header, 4, status="failed", seconds=1.0)])
    third = ledger.open_attempt(1, 1)
    clock.time += timedelta(seconds=5)
    ledger.accept(third, [row(header, 5, 0.0, 9.0, source="sibling", seconds=99.0)])
    points, _, fold = told(place, header)
    values = [point.values for point in points]
    assert [point.done for point in points] == [1, 2, 3, 4, 5, 6] and [point.index for point in points] == list(range(6))
    # Trial 1 does not meet the constraint, trial 2 was stopped: neither is the best.
    assert [v[BEST + "gain"] for v in values] == [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
    assert [v[BEST + "risk"] for v in values] == [5.0, 5.0, 5.0, 2.0, 2.0, 2.0]
    assert [[v[name] for name in (COMPLETED, STOPPED, FAILED, REUSED)] for v in values[2:]] == [
        *([2, 1, 0, 0], [3, 1, 0, 0], [3, 1, 1, 0], [4, 1, 1, 1])
    ]
    assert [v[SECONDS] for v in values] == pytest.approx([10, 10, 10, 15, 15, 20], abs=0.05)
    # A rate and a mean of busy workers once per attempt, of all its results.
    assert [RATE in v for v in values] == [False, False, True, False, True, True]
    assert [v[RATE] for v in values if RATE in v] == pytest.approx([0.3, 0.4, 0.0], abs=0.01)
    assert [v[BUSY] for v in values if BUSY in v] == pytest.approx([0.9, 11 / 15, 11 / 20], abs=0.01)
    assert values[-1][LANES + "card 0"] == pytest.approx(9 / 20, abs=0.01)
    assert fold.best == {"gain": 4.0, "risk": 2.0} and (fold.completed, fold.stopped, fold.failed, fold.reused) == (4, 1, 1, 1)


def test_there_is_no_best_before_a_trial_meets_the_constraints(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, _ = study
    ledger.accept(ledger.open_attempt(1, 1), [row(ledger.header, 0)._replace(metrics=[9.0, 1.0, math.nan])])
    points, _, fold = told(place, ledger.header)
    assert not any(name.startswith(BEST) for name in points[0].values) and fold.best == {}


def test_time_between_sessions_does_not_count_also_where_one_was_killed(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, clock = study
    clock.time += timedelta(seconds=10)
    ledger.accept(ledger.open_attempt(1, 1), [row(ledger.header, 0)])
    ledger.accept(ledger.open_attempt(1, 2), [row(ledger.header, 1)])  # half of it, then it is killed
    ledger._session = None
    clock.time += timedelta(hours=5)
    ledger.begin_session({})
    clock.time += timedelta(seconds=20)
    ledger.record(CACHE_USE, rows_found=7)
    ledger.accept(ledger.open_attempt(1, 1), [row(ledger.header, 2)])
    points, _, _ = told(place, ledger.header)
    assert [p.values[SECONDS] for p in points] == pytest.approx([10, 10, 30], abs=0.05)
    assert points[-1].values[RATE] == pytest.approx(1 / 20, abs=0.001)
    assert [p.values.get("cache/rows_found") for p in points] == [None, None, 7.0]


def test_a_failure_tried_again_is_one_result_more_and_one_failure_less(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, _ = study
    ledger.accept(ledger.open_attempt(1, 2), [row(ledger.header, 0, status="failed"), row(ledger.header, 1, status="failed")])
    before, _, _ = told(place, ledger.header)
    ledger.reopen_failed()
    ledger.accept(ledger.open_attempt(1, 2), [row(ledger.header, 0), row(ledger.header, 1, status="failed")])
    points, tables, fold = told(place, ledger.header)
    assert [p.values for p in points[:2]] == [p.values for p in before]
    assert [(p.done, p.values[COMPLETED], p.values[FAILED]) for p in points[2:]] == [(3, 1, 1), (4, 1, 1)]
    assert (fold.done, fold.completed, fold.failed) == (4, 1, 1)
    assert tables[0].frame[["trial", "status"]].values.tolist() == [[0, "failed"], [1, "failed"], [0, "completed"], [1, "failed"]]


def test_rows_have_the_trial_its_parameters_with_defaults_and_its_metrics(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, _ = study
    ledger.accept(ledger.open_attempt(1, 2), [row(ledger.header, 0, seconds=0.5), row(ledger.header, 1, status="failed")])
    _, (rows,), _ = told(place, ledger.header)
    assert list(rows.frame) == ["trial", "status", "seconds", "x", "mode", "gain", "risk", "trades"] and rows.start == 0
    assert rows.frame.iloc[0].tolist() == [0, "completed", 0.5, 1, "a", 1.0, 1.0, 30.0]
    assert rows.frame.iloc[1][["seconds", "gain"]].isna().all()


def test_what_a_tracker_holds_is_not_given_again(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, _ = study
    ledger.accept(ledger.open_attempt(1, 90), [row(ledger.header, k, float(k)) for k in range(90)])
    points, tables, _ = told(place, ledger.header)
    assert [(t.start, len(t.frame)) for t in tables] == [(0, 20), (20, 20), (40, 20), (60, 20), (80, 10)]
    later, rest, fold = told(place, ledger.header, held=Place(points=70, rows=33))
    assert later == points[70:] and (fold.points, fold.rows) == (90, 90)
    assert [(t.start, len(t.frame)) for t in rest] == [(33, 7), (40, 20), (60, 20), (80, 10)]
    assert told(place, ledger.header, held=Place(points=90, rows=90))[:2] == ([], [])


Step = tuple[str, int]
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # hundreds of ledgers, of which none has to outlive the power
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "deliver", "deliver", "half", "fail", "lose", "reopen", "session", "poll", "poll"]),
        st.integers(0, 99),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=20, deadline=None)
@given(STEPS, st.integers(1, 7))
def test_points_and_rows_are_the_same_in_whatever_pieces_a_ledger_is_read(steps: list[Step], chunk: int) -> None:
    """A study of random attempts is read while it goes on, and again when it is over."""
    clock = Clock()
    chunked = patch("results.tracking.tail.CHUNK", chunk)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, patch.object(ledger_module, "now", clock), chunked:
        place = Path(folder) / "ledger.sqlite"
        header = make_header({"objective": ["gain", "risk"]})
        ledger = Ledger.create(place, header)
        ledger.begin_session({})
        ledger.add_plan({}, {}, 40)
        flying: dict[int, list[int]] = {}
        fresh, again = 0, list[int]()
        live, fold, seen = Tail(place), Projection(header, ("x", "mode"), 40), list[Point | Rows]()

        def look() -> None:
            assert not live.late
            now = clock.time.timestamp() + 1.0
            seen.extend(item for part in live.poll(now=now) for item in fold.feed(part))

        def drop(attempt: int) -> None:
            again.extend(flying.pop(attempt))

        for what, n in steps:
            clock.time += timedelta(milliseconds=500 * (n % 4))
            attempt = sorted(flying)[n % len(flying)] if flying else 0
            if what == "open":
                numbers = again[: 1 + n % 3] if n % 2 and again else list(range(fresh, fresh + 1 + n % 5))
                fresh, again = max(fresh, max(numbers) + 1), [k for k in again if k not in numbers]
                flying[ledger.open_attempt(1, len(numbers), worker=f"card {n % 2}" if n % 3 else "")] = numbers
            elif what == "deliver" and attempt:
                ledger.accept(attempt, [row(header, k, float((k * 7 + n) % 11), float(k % 5), seconds=0.1) for k in flying.pop(attempt)])
            elif what == "half" and attempt and len(flying[attempt]) > 1:
                ledger.accept(attempt, [row(header, flying[attempt].pop(), seconds=0.1)])
            elif what == "fail" and attempt:
                ledger.accept(attempt, [row(header, k, status="failed") for k in flying.pop(attempt)])
            elif what == "lose" and attempt:
                ledger.close_attempt(attempt, "lost")
                drop(attempt)
            elif what == "reopen":
                again += ledger.reopen_failed()
            elif what == "session":
                ledger.record(CACHE_USE, rows_found=n)
                if n % 2:
                    ledger.end_session("stopped")
                ledger._session = None  # otherwise killed
                for one in list(flying):
                    drop(one)
                ledger.begin_session({})
            elif what == "poll":
                look()
        for one in list(flying):
            ledger.close_attempt(one, "lost")
            drop(one)
        look()
        if again:  # so that every failure that was moved away has come again
            ledger.accept(ledger.open_attempt(1, len(again)), [row(header, k) for k in again])
        look()
        seen += fold.rest()
        points, tables, whole = told(place, header, count=40)
        assert [item for item in seen if isinstance(item, Point)] == points
        rows = [item for item in seen if isinstance(item, Rows)]
        assert [item.start for item in rows] == [item.start for item in tables]
        for left, right in zip(rows, tables, strict=True):
            pd.testing.assert_frame_equal(left.frame, right.frame)
        counts = ledger.counts()
        assert (whole.completed, whole.stopped, whole.failed) == (counts["completed"], counts["stopped"], counts["failed"])
        assert whole.done == counts["trials"] + len(ledger.events("reopened", limit=None))
        ledger.close()


def test_a_stretch_has_as_many_items_as_results(study: tuple[Path, Ledger, Clock]) -> None:
    place, ledger, _ = study
    ledger.accept(ledger.open_attempt(1, 3), [row(ledger.header, k) for k in range(3)])
    (part,) = Tail(place).poll(settled=True)
    assert isinstance(part, Stretch) and len(part) == 3 == len(part.config) == len(part.metrics)
