from __future__ import annotations

import pickle

import numpy as np
import pytest

from trainables import tables
from trainables.contract import TrainableError
from trainables.tables import Table, offered, read, runs


def make(n: int = 50, reach: int = 4, bars: np.ndarray | None = None, **kw) -> Table:
    times = np.datetime64("2025-01-01", "ns") + np.arange(n) * np.timedelta64(1, "h")
    given = np.arange(2.0 * n).reshape(2, n) if bars is None else bars
    return Table("features", {"window": reach, **kw}, ("mean", "last"), ("BTCUSD",), times, given, reach)


def build(first, stop, done):
    return np.vstack([np.arange(first, stop), -np.arange(first, stop)]).astype(float)


def test_without_a_host_rows_are_built():
    values = read(make(), 3, 7, build)
    assert values.tolist() == [[3, 4, 5, 6], [-3, -4, -5, -6]]
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1


def test_a_host_is_asked_and_then_no_more():
    class Host:
        def read(self, table, first, stop, build):
            return np.full((2, stop - first), 9.0)

    with offered(Host()):
        assert (read(make(), 0, 5, build) == 9).all()
    assert (read(make(), 0, 5, build)[0] == np.arange(5)).all()
    assert isinstance(tables._host, tables._Unkept)


def test_rows_depend_on_the_bars_they_reach_and_on_no_others():
    bars = np.arange(100.0).reshape(2, 50)
    changed = bars.copy()
    changed[1, 20] += 1e-12
    one, other = make(bars=bars), make(bars=changed)
    assert one.key == other.key
    same = [one.depends(first, first + 5) == other.depends(first, first + 5) for first in range(45)]
    # A row sees itself and three before it.
    assert [first for first in range(45) if not same[first]] == list(range(16, 24))


def test_without_a_reach_rows_depend_on_all_before():
    bars = np.arange(100.0).reshape(2, 50)
    changed = bars.copy()
    changed[0, 0] += 1e-12
    assert make(bars=bars, reach=0).depends(40, 45) != make(bars=changed, reach=0).depends(40, 45)


def test_a_series_that_begins_later_shares_the_rows_that_cannot_tell():
    whole = make(50)
    later = Table(whole.kind, whole.spec, whole.columns, whole.symbols, whole.times[10:], whole.bars[:, 10:], whole.reach)
    assert later.depends(3, 20) == whole.depends(13, 30)
    assert later.depends(2, 20) != whole.depends(12, 30)  # three bars back there is nothing


def test_the_key_names_everything_but_the_bars():
    assert make(50).key == make(40).key
    assert make(50).key != make(50, other=1).key != make(50, reach=5).key


def test_a_table_that_travels_leaves_its_bars_behind():
    table = make()
    there = pickle.loads(pickle.dumps(table))
    assert there.key == table.key and there.depends(5, 9) == table.depends(5, 9) and not there.bars.size


def test_what_is_not_the_rows_asked_for_is_refused():
    with pytest.raises(TrainableError, match=r"built \(2, 4\); expected \(2, 5\)"):
        read(make(), 0, 5, lambda first, stop, done: np.zeros((2, 4)))
    with pytest.raises(TrainableError, match="rows 40 to 60 of 50"):
        read(make(), 40, 60, build)
    with pytest.raises(TrainableError, match="ascending"):
        Table("f", {}, ("a",), ("B",), np.array(["2025-01-02", "2025-01-01"], "datetime64[ns]"), np.zeros((1, 2)))


def test_runs():
    assert runs([True, True, False, True]) == [(0, 2), (3, 4)] and runs([]) == [] and runs([False]) == []
