import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cluster.cache import CacheError, Store, Use, default_limit, default_root
from cluster.cache.rows import pieces
from cluster.cache.segment import parse, stamp
from trainables import tables
from trainables.tables import Table

ROOT = Path(__file__).parents[2]
HOUR = np.timedelta64(3600, "s").astype("timedelta64[ns]")
START = np.datetime64("2024-01-01T00:00:00", "ns")
COLUMNS = ("close h1 p10", "close h1 p50", "close h1 p90")


def bars_of(count, seed=0):
    return np.random.default_rng(seed).lognormal(size=(4, count))


def table_of(bars, reach=32, model="small", times=None, columns=COLUMNS):
    times = START + np.arange(bars.shape[1]) * HOUR if times is None else times
    return Table("forecasts", {"model": model}, columns, ("BTCUSD",), times, bars, reach, f"{model}, BTCUSD")


def truth(table):
    """Rows that depend on every bit of the bars in reach and on nothing else; some are NaN with payloads."""
    words = np.ascontiguousarray(table.bars).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = np.bitwise_xor.reduce(words * np.arange(1, 2 * len(words), 2, dtype=np.uint64)[:, None])
    mixed = mixed ^ (table.times.view(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))
    if table.reach:
        padded = np.concatenate([np.zeros(table.reach - 1, np.uint64), mixed])
        seen = np.bitwise_xor.reduce(np.lib.stride_tricks.sliding_window_view(padded, table.reach), axis=1)
    else:
        seen = np.bitwise_xor.accumulate(mixed)
    odd = np.arange(1, 2 * len(table.columns), 2, dtype=np.uint64)[:, None] * np.uint64(0xFF51AFD7ED558CCD)
    values = (seen * odd).view(np.float64)
    values[:, table.times.view(np.int64) // HOUR.view(np.int64) % 97 == 0] = np.array([0x7FF8_0000_DEAD_BEEF], np.uint64).view(np.float64)[
        0
    ]
    return values


class Builder:
    def __init__(self, table):
        self.rows, self.asked = truth(table), []

    def __call__(self, first, stop, done):
        self.asked.append((first, stop))
        done(stop - first)
        return self.rows[:, first:stop]


def same(left, right):
    return left.shape == right.shape and np.array_equal(np.asarray(left).view(np.int64), np.ascontiguousarray(right).view(np.int64))


def read(root, table, first=0, stop=None):
    """What a process that starts now reads and builds."""
    stop = len(table.times) if stop is None else stop
    builder, store = Builder(table), Store(root)
    rows = store.read(table, first, stop, builder)
    assert same(rows, builder.rows[:, first:stop])
    assert not store.use.notes
    return joined(builder.asked)


def joined(asked):
    """Runs that were built in pieces, as one."""
    found = []
    for first, stop in asked:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((first, stop))
    return found


def files(root):
    return sorted(root.rglob("*.arrow"))


def test_rows_are_built_once_and_come_back_with_the_same_bits(tmp_path):
    table = table_of(bars_of(700))
    assert np.isnan(truth(table)).any()
    assert read(tmp_path, table) == [(0, 700)]
    assert read(tmp_path, table) == []
    assert len(files(tmp_path)) == 1


def test_served_rows_are_read_only_and_one_line_per_column(tmp_path):
    table = table_of(bars_of(300))
    for _ in range(2):
        rows = Store(tmp_path).read(table, 10, 300, Builder(table))
        assert rows.dtype == np.float64 and rows.flags.c_contiguous and not rows.flags.writeable


def test_a_store_makes_nothing_before_it_is_needed(tmp_path):
    store, table = Store(tmp_path / "cache"), table_of(bars_of(10))
    assert store.load(table, 0, 10).missing == [(0, 10)]
    assert (store.entries(), store.check(table.key) != [], store.remove(table.key), store.collect()) == ([], True, 0, [])
    assert not store.root.exists()


def test_a_new_day_builds_a_day(tmp_path):
    bars = bars_of(2024)
    read(tmp_path, table_of(bars[:, :2000]))
    assert read(tmp_path, table_of(bars)) == [(2000, 2024)]
    assert read(tmp_path, table_of(bars)) == []


@pytest.mark.parametrize("reach", [1, 32, 300])
def test_an_altered_bar_builds_only_what_could_see_it(tmp_path, reach):
    bars = bars_of(4000)
    read(tmp_path, table_of(bars, reach))
    altered = bars.copy()
    altered[2, 2000] = np.nextafter(altered[2, 2000], 9)
    ((first, stop),) = read(tmp_path, table_of(altered, reach))
    assert 2000 - 256 < first <= 2000 and 2000 + reach <= stop < 2000 + reach + 256
    assert read(tmp_path, table_of(altered, reach)) == []
    assert read(tmp_path, table_of(bars, reach)) == [], "the bars as they were are still there"


def test_where_all_bars_count_an_altered_one_leaves_what_was_before_it(tmp_path):
    bars = bars_of(4000)
    read(tmp_path, table_of(bars, 0))
    bars[0, 3000] += 1
    ((first, stop),) = read(tmp_path, table_of(bars, 0))
    assert 3000 - 256 < first <= 3000 and stop == 4000


def test_a_last_bar_that_is_still_forming_costs_the_end_only(tmp_path):
    bars = bars_of(3000)
    for day in range(5):
        bars[:, 2999] += 1
        asked = read(tmp_path, table_of(bars))
        assert asked == [(0, 3000)] if day == 0 else asked[0][0] > 2999 - 256


def test_a_bar_that_vanished_builds_its_neighbourhood_and_finds_the_rest_where_it_moved(tmp_path):
    bars, times = bars_of(4000), START + np.arange(4000) * HOUR
    read(tmp_path, table_of(bars))
    kept = np.arange(4000) != 2000
    ((first, stop),) = read(tmp_path, table_of(bars[:, kept], times=times[kept]))
    assert 2000 - 256 < first <= 2000 and stop < 2000 + 32 + 256


def test_history_that_begins_earlier_is_told_apart_where_rows_can_see_it(tmp_path):
    bars = bars_of(3000)
    read(tmp_path, table_of(bars[:, 500:], times=START + np.arange(500, 3000) * HOUR))
    asked = read(tmp_path, table_of(bars))
    assert asked[0][0] == 0 and 500 + 31 <= asked[-1][1] <= 500 + 256


def test_only_the_runs_that_are_missing_are_built(tmp_path):
    table = table_of(bars_of(600))
    assert read(tmp_path, table, 100, 200) == [(100, 200)]
    assert read(tmp_path, table, 300, 400) == [(300, 400)]
    assert read(tmp_path, table, 150, 350) == [(200, 300)]
    assert read(tmp_path, table, 120, 390) == []
    assert read(tmp_path, table, 50, 450) == [(50, 100), (400, 450)]
    assert read(tmp_path, table) == [(0, 50), (450, 600)]
    assert read(tmp_path, table) == []


def test_random_requests_of_changing_bars_always_get_the_rows_of_those_bars(tmp_path):
    rng, bars = np.random.default_rng(5), bars_of(1500)
    for _ in range(150):
        if rng.random() < 0.3:
            bars = bars.copy()
            bars[rng.integers(4), rng.integers(1500)] += 1
        count = int(rng.integers(1, 1501))
        first, stop = sorted(int(x) for x in rng.integers(0, count + 1, 2))
        read(tmp_path, table_of(bars[:, :count], reach=int(rng.choice([0, 1, 50]))), first, stop)
    for key in {e.key for e in Store(tmp_path).entries()}:
        assert Store(tmp_path).check(key) == []


@pytest.mark.parametrize("backwards", [False, True])
def test_daily_additions_leave_a_handful_of_files_that_hold_each_row_once(tmp_path, backwards):
    table, most = table_of(bars_of(200 * 24)), 0
    days = range(199, -1, -1) if backwards else range(200)
    for day in days:
        assert read(tmp_path, table, 24 * day, 24 * day + 24) == [(24 * day, 24 * day + 24)]
        most = max(most, len(files(tmp_path)))
    assert most <= 8
    assert sum(parse(f.name).rows for f in files(tmp_path)) == 4800
    assert read(tmp_path, table) == []


def test_a_run_that_closes_a_gap_joins_both_sides(tmp_path):
    table = table_of(bars_of(100))
    read(tmp_path, table, 0, 30)
    read(tmp_path, table, 70, 100)
    assert len(files(tmp_path)) == 2
    read(tmp_path, table)
    assert len(files(tmp_path)) == 1
    assert Store(tmp_path).load(table, 0, 100).missing == []


def test_bars_of_less_than_a_second_are_told_apart(tmp_path):
    bars, step = bars_of(500), np.timedelta64(1_000_007, "ns")
    for start in (START, np.datetime64("1969-12-31T23:59:59.9", "ns")):
        table = table_of(bars, times=start + np.arange(500) * step)
        for first in (0, 400, 100, 200, 300):
            read(tmp_path, table, first, first + 100)
        assert read(tmp_path, table) == []
        stamps = [stamp(t) for t in table.times]
        assert stamps == sorted(stamps)


def test_people_can_open_a_file(tmp_path):
    table = table_of(bars_of(50))
    read(tmp_path, table)
    (path,) = files(tmp_path)
    frame = pa.ipc.open_file(str(path)).read_all().to_pandas()
    assert list(frame.columns) == ["issued_at", *COLUMNS]
    assert (frame["issued_at"] == pd.DatetimeIndex(table.times, tz="UTC")).all()
    assert same(frame[list(COLUMNS)].to_numpy().T, truth(table))
    assert pd.read_feather(path).shape == (50, 4)
    about = json.loads((path.parent / "about.json").read_text())
    assert about["spec"] == {"model": "small"} and about["columns"] == list(COLUMNS) and about["symbols"] == ["BTCUSD"]


def test_no_rows_and_one_row(tmp_path):
    table = table_of(bars_of(20))
    assert Store(tmp_path).read(table, 5, 5, Builder(table)).shape == (3, 0)
    assert Store(tmp_path).add(table, 5, np.empty((3, 0)), 0.0) == ""
    assert files(tmp_path) == []
    assert read(tmp_path, table, 19, 20) == [(19, 20)]
    assert read(tmp_path, table, 19, 20) == []
    empty = table_of(bars_of(0))
    assert Store(tmp_path).read(empty, 0, 0, lambda *_: pytest.fail("nothing is missing")).shape == (3, 0)


def test_arrays_of_any_layout_are_kept(tmp_path):
    table = table_of(bars_of(90))
    rows = truth(table)
    for model, values in {
        "f": np.asfortranarray(rows),
        "strided": np.repeat(rows, 2, axis=1)[:, ::2],
        "swapped": rows.astype(">f8"),
    }.items():
        table = table_of(bars_of(90), model=model)
        assert same(Store(tmp_path).read(table, 0, 90, lambda a, b, _, values=values: values[:, a:b]), rows)
        assert same(Store(tmp_path).read(table, 0, 90, lambda *_: pytest.fail("kept")), rows)


def test_a_table_without_its_bars_reads_what_the_whole_one_wrote(tmp_path):
    table = table_of(bars_of(400))
    read(tmp_path, table)
    bare = pickle.loads(pickle.dumps(table))
    assert same(Store(tmp_path).read(bare, 3, 400, lambda *_: pytest.fail("kept")), truth(table)[:, 3:])


def test_what_a_build_raises_is_raised_and_leaves_nothing(tmp_path):
    table, store = table_of(bars_of(50)), Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.read(table, 0, 50, lambda *_: 1 / 0)
    with pytest.raises(CacheError, match=r"small, BTCUSD: built \(3, 7\) for rows 0 to 50 of 50; expected \(3, 50\)"):
        store.read(table, 0, 50, lambda *_: np.zeros((3, 7)))
    assert files(tmp_path) == [] and not list(tmp_path.rglob(".partial-*"))
    assert read(tmp_path, table) == [(0, 50)]


@pytest.mark.parametrize(("first", "stop"), [(-1, 5), (6, 5), (0, 51)])
def test_rows_that_a_table_does_not_have_are_refused(tmp_path, first, stop):
    with pytest.raises(CacheError, match=f"rows {first} to {stop} of 50"):
        Store(tmp_path).load(table_of(bars_of(50)), first, stop)


def test_load_says_what_is_missing_and_what_the_rest_had_cost(tmp_path):
    table, store = table_of(bars_of(400)), Store(tmp_path)
    assert store.add(table, 100, truth(table)[:, 100:200], 5.0) == ""
    assert store.add(table, 300, truth(table)[:, 300:350], 1.0) == ""
    found = store.load(table, 150, 400)
    assert found.missing == [(200, 300), (350, 400)]
    assert found.seconds == pytest.approx(5.0 / 2 + 1.0) and found.nbytes == 100 * 3 * 8
    assert same(found.values[:, :50], truth(table)[:, 150:200]) and np.isnan(found.values[:, 50:150]).all()
    found.values[:] = 0  # the caller's own
    assert store.load(table, 150, 200).missing == []


def test_use_counts_rows_seconds_and_bytes_and_adds_up(tmp_path):
    table, store = table_of(bars_of(400)), Store(tmp_path)
    store.add(table, 0, truth(table)[:, :100], 8.0)
    store.read(table, 0, 150, Builder(table))
    use = store.use
    assert (use.tables, use.rows_found, use.rows_built, use.seconds_saved) == (1, 0, 150, 0.0), "built here, not found"
    assert use.seconds_built == pytest.approx(8.0, abs=0.5) and use.bytes_built == 150 * 24
    later = Store(tmp_path)
    for first, stop in ((0, 160), (20, 60), (0, 100)):
        later.read(table, first, stop, Builder(table))
    use = later.use
    assert (use.rows_found, use.rows_built, use.bytes_found) == (150, 10, 150 * 24), "each row once"
    assert use.seconds_saved == pytest.approx(8.0, abs=0.5)
    assert (use + Use(tables=2, rows_found=1, notes=["a", "a"])) == Use(
        3, 151, 10, use.seconds_saved, use.seconds_built, use.bytes_found, use.bytes_built, ["a"]
    )


def test_what_was_built_before_an_interruption_is_kept(tmp_path):
    table, asked = table_of(bars_of(2000)), []

    def interrupted(first, stop, done):
        asked.append((first, stop))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return truth(table)[:, first:stop]

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).read(table, 0, 2000, interrupted)
    assert asked[0] == (0, 256)
    assert read(tmp_path, table) == [(256, 2000)]
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(("each", "call", "most"), [(0.0, 0.0, 2), (0.1, 0.0, 40), (1.0, 0.0, 45), (1e-3, 100.0, 7)])
def test_pieces_take_half_a_minute_where_that_is_more_than_a_call_costs(each, call, most):
    table, now, told = table_of(bars_of(10_000)), [0.0], []

    def build(first, stop, done):
        now[0] += call + each * (stop - first)
        done(stop - first)
        return np.zeros((3, stop - first))

    made = list(pieces(table, [(100, 200), (300, 10_000)], build, told.append, lambda: now[0]))
    assert joined([(p.first, p.stop) for p in made]) == [(100, 200), (300, 10_000)] and len(made) <= most
    assert told == sorted(told) and told[-1] == 9_800
    if not call:
        assert all(p.seconds <= max(35.0, 600 * each) for p in made)


def test_many_tables_may_be_held(tmp_path):
    body = f"""
import resource
from cluster.cache import Store
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 800))
store = Store({str(tmp_path)!r})
for i in range(500):
    store.hold(f"{{i:032x}}")
assert not store.use.notes and len(store._held) == 500
for i in range(1000):
    store.hold(f"{{i:032x}}")
assert len(store._held) == 601 and "more files than a process may open" in store.use.notes[0], store.use.notes
"""
    subprocess.run([sys.executable, "-c", body], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_joined_files_keep_the_seconds_of_both(tmp_path):
    table, store = table_of(bars_of(100)), Store(tmp_path)
    store.add(table, 0, truth(table)[:, :50], 3.0)
    store.add(table, 50, truth(table)[:, 50:], 4.0)
    assert len(files(tmp_path)) == 1 and store.load(table, 0, 100).seconds == pytest.approx(7.0)
    assert store.entries()[0].seconds == pytest.approx(7.0)


def test_rows_added_twice_are_kept_once(tmp_path):
    table, rows = table_of(bars_of(100)), truth(table_of(bars_of(100)))
    written = []
    for first, stop in ((0, 100), (0, 100), (20, 60), (0, 40), (99, 100)):
        assert Store(tmp_path).add(table, first, rows[:, first:stop], 1.0) == ""
        written.append([(f.name, f.stat().st_ino, f.stat().st_mtime_ns) for f in files(tmp_path)])
    assert len(written[0]) == 1 and written == written[:1] * 5
    assert read(tmp_path, table) == []
    table = table_of(bars_of(100), model="other")
    for first, stop in ((20, 60), (0, 100)):
        Store(tmp_path).add(table, first, rows[:, first:stop], 1.0)
    assert [parse(f.name).rows for f in files(tmp_path) if table.key in str(f)] == [100]


def test_entries_say_what_is_kept(tmp_path):
    table, store = table_of(bars_of(48)), Store(tmp_path)
    store.add(table, 0, truth(table), 2.5)
    (entry,) = store.entries()
    assert (entry.key, entry.kind, entry.spec, entry.symbols, entry.columns) == (
        table.key,
        "forecasts",
        {"model": "small"},
        ("BTCUSD",),
        COLUMNS,
    )
    assert (entry.rows, entry.segments, entry.seconds, entry.held) == (48, 1, 2.5, False)
    assert (entry.first, entry.last) == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, 23, tzinfo=UTC))
    assert entry.bytes == sum(f.stat().st_size for f in (tmp_path / "forecasts" / table.key).iterdir())
    assert abs((entry.created - datetime.now(UTC)).total_seconds()) < 60 and abs((entry.used - datetime.now(UTC)).total_seconds()) < 60
    store.hold(table.key)
    assert store.entries()[0].held
    store.close()
    with store.building(table.key):
        assert store.entries()[0].held
    assert not store.entries()[0].held


def test_a_host_may_be_a_store(tmp_path):
    table, store = table_of(bars_of(60)), Store(tmp_path)
    with tables.offered(store):
        tables.read(table, 0, 60, Builder(table))
        assert same(tables.read(table, 30, 60, lambda *_: pytest.fail("kept")), truth(table)[:, 30:])
    assert store.use.rows_built == 60


@pytest.mark.parametrize("kind", ["../up", "a/b", ".locks", "", "fore casts"])
def test_a_kind_of_any_name_stays_under_the_root(tmp_path, kind):
    table = Table(kind, {}, ("a",), (), START + np.arange(5) * HOUR, bars_of(5), 1)
    Store(tmp_path / "cache").read(table, 0, 5, lambda a, b, _: np.zeros((1, b - a)))
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
    assert Store(tmp_path / "cache").entries()[0].kind == kind
    Store(tmp_path / "cache").read(table, 0, 5, lambda *_: pytest.fail("kept"))


def test_the_root_and_the_limit_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHASWEEP_CACHE", str(tmp_path / "named"))
    assert default_root() == Store().root == tmp_path / "named"
    monkeypatch.delenv("ALPHASWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "alphasweep" / "tables"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "alphasweep" / "tables"
    monkeypatch.delenv("ALPHASWEEP_CACHE_LIMIT", raising=False)
    assert default_limit() == Store().limit == 20_000_000_000
    for text, count in {"20GB": 20e9, "1.5 tb": 1.5e12, "512MiB": 2**29, "1000": 1000, "3k": 3000, "0": 0}.items():
        monkeypatch.setenv("ALPHASWEEP_CACHE_LIMIT", text)
        assert default_limit() == count
    for text in ("lots", "-1", "5XB", "1e9"):
        monkeypatch.setenv("ALPHASWEEP_CACHE_LIMIT", text)
        with pytest.raises(CacheError, match="ALPHASWEEP_CACHE_LIMIT"):
            default_limit()


def test_the_cache_needs_neither_ray_nor_torch():
    code = "import sys, cluster.cache.store; assert not {'ray', 'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
