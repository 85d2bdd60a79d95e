"""What goes when there is too much, and what happens when there is no room at all."""

import os
import subprocess
import time
from datetime import timedelta

import pytest

from cluster.cache import Store
from cluster.cache.keep import MOST_SEGMENTS
from tests.cluster.test_store import Builder, bars_of, files, read, same, table_of, truth
from tests.cluster.test_store_processes import finish, start


def fill(root, models="abc", rows=500):
    """Keeps a table for each model, the first used longest ago; returns them."""
    found = {}
    for age, model in enumerate(reversed(models), 1):
        table = found[model] = table_of(bars_of(rows), model=model)
        read(root, table)
        used(root, table, timedelta(hours=age))
    return found


def used(root, table, ago):
    path, then = root / "forecasts" / table.key / "used", time.time() - ago.total_seconds()
    os.utime(path, (then, then))


def kept(root):
    return {e.spec["model"] for e in Store(root).entries()}


def test_what_was_used_longest_ago_goes_first(tmp_path):
    fill(tmp_path, "abcd")
    one = Store(tmp_path).entries()[0].bytes
    gone = Store(tmp_path).collect(limit=2 * one + 100)
    assert [e.spec["model"] for e in gone] == ["a", "b"]
    assert kept(tmp_path) == {"c", "d"}
    assert Store(tmp_path).collect(limit=10 * one) == []
    assert not list((tmp_path / ".trash").glob("*")) and not list((tmp_path / ".locks").glob(f"{gone[0].key}*"))


def test_reading_is_using(tmp_path):
    tables = fill(tmp_path)
    read(tmp_path, tables["a"], 3, 4)
    assert [e.spec["model"] for e in Store(tmp_path).collect(limit=0)] == ["b", "c", "a"]


def test_adding_beyond_the_limit_evicts_and_spares_what_was_added(tmp_path):
    tables = fill(tmp_path)
    one = Store(tmp_path).entries()[0].bytes
    new = table_of(bars_of(500), model="new")
    store = Store(tmp_path, limit=3 * one + 100)
    store.read(new, 0, 500, Builder(new))
    assert kept(tmp_path) == {"b", "c", "new"} and not store.use.notes
    used(tmp_path, new, timedelta(days=9))
    store.read(tables["a"], 0, 500, Builder(tables["a"]))
    assert kept(tmp_path) == {"b", "c", "a"}


def test_what_is_held_stays_while_its_process_lives(tmp_path):
    tables = fill(tmp_path / "cache")
    process = start(tmp_path, f"s = Store(root); s.hold({tables['a'].key!r}); s.hold({tables['a'].key!r}); say('held'); time.sleep(60)")
    assert process.stdout.readline() == "held\n"
    store = Store(tmp_path / "cache")
    assert {e.spec["model"]: e.held for e in store.entries()} == {"a": True, "b": False, "c": False}
    assert [e.spec["model"] for e in store.collect(limit=0)] == ["b", "c"]
    assert store.remove(tables["a"].key) == 0 and "held by a running study" in store.use.notes[0]
    process.kill()
    process.communicate()
    assert [e.spec["model"] for e in store.collect(limit=0)] == ["a"]


def test_two_may_hold_the_same_and_closing_gives_it_back(tmp_path):
    key = fill(tmp_path, "a")["a"].key
    with Store(tmp_path) as one, Store(tmp_path) as two:
        one.hold(key)
        two.hold(key)
        one.close()
        assert Store(tmp_path).collect(limit=0) == []
    assert len(Store(tmp_path).collect(limit=0)) == 1


def test_what_is_being_built_stays(tmp_path):
    key = fill(tmp_path, "a")["a"].key
    with Store(tmp_path).building(key):
        assert Store(tmp_path).collect(limit=0) == []
        assert Store(tmp_path).remove(key) == 0


def test_when_all_that_is_left_is_held_the_limit_gives_way_and_it_is_said(tmp_path):
    tables = fill(tmp_path, "ab")
    store = Store(tmp_path, limit=20_000)
    for table in tables.values():
        store.hold(table.key)
    new = table_of(bars_of(500), model="new")
    assert store.add(new, 0, truth(new), 1.0) == ""
    assert kept(tmp_path) == {"a", "b", "new"}
    assert store.use.notes == [f"{tmp_path} holds more than the 20.0 kB it may: what is left is in use."]
    store.close()


def test_age_evicts_whatever_the_limit(tmp_path):
    tables = fill(tmp_path)
    used(tmp_path, tables["b"], timedelta(days=40))
    assert [e.spec["model"] for e in Store(tmp_path).collect(older=timedelta(days=30))] == ["b"]


def test_removing_says_how_much(tmp_path):
    tables = fill(tmp_path)
    size = {e.key: e.bytes for e in Store(tmp_path).entries()}
    assert Store(tmp_path).remove(tables["b"].key) == size[tables["b"].key]
    assert kept(tmp_path) == {"a", "c"}
    assert read(tmp_path, tables["b"]) == [(0, 500)]


def test_a_table_larger_than_the_limit_is_not_kept_and_evicts_nothing(tmp_path):
    fill(tmp_path, "a")
    big = table_of(bars_of(5000), model="big")
    store = Store(tmp_path, limit=100_000)
    assert same(store.read(big, 0, 5000, Builder(big)), truth(big))
    assert kept(tmp_path) == {"a"}
    assert store.use.notes == ["big, BTCUSD: 120.0 kB are not kept, the cache may have 100.0 kB. Set ALPHASWEEP_CACHE_LIMIT higher."]


def test_rows_of_bars_that_changed_go_before_other_tables(tmp_path):
    other = fill(tmp_path, "a", rows=2000)["a"]
    bars, one = bars_of(2000), Store(tmp_path).entries()[0].bytes
    for turn in range(6):
        bars = bars + 1
        table = table_of(bars, model="changing")
        Store(tmp_path, limit=4 * one + 1000).read(table, 0, 2000, Builder(table))
        assert kept(tmp_path) == {"a", "changing"}, turn
    assert len(files(tmp_path / "forecasts" / table.key)) == 3
    assert read(tmp_path, table) == [] == read(tmp_path, other)


def test_files_of_bars_that_changed_are_limited_in_number(tmp_path):
    for turn in range(MOST_SEGMENTS + 10):
        table = table_of(bars_of(20, seed=turn))
        read(tmp_path, table)
        assert read(tmp_path, table) == []
    assert len(files(tmp_path)) == MOST_SEGMENTS


def mounted(folder, options):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    try:
        mounted(folder, "size=1m")
    except FileNotFoundError:
        pytest.skip("no mount here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # somebody may be looking through temporary folders


def test_a_full_disk_costs_the_keeping_only(small_disk):
    root = small_disk / "cache"
    small = table_of(bars_of(2000), model="before")
    read(root, small)
    big = table_of(bars_of(60_000), model="big")
    store, builder = Store(root), Builder(big)
    assert same(store.read(big, 0, 60_000, builder), truth(big))
    (note,) = store.use.notes
    assert note.startswith(f"big, BTCUSD: 1.4 MB could not be kept in {root} (No space left on device); the study goes on. Free some space")
    assert not list(root.rglob(".partial-*")) and len(files(root)) == 2, "the first piece is kept"
    assert read(root, small) == []
    assert store.add(big, 0, truth(big), 1.0) == note and store.use.notes == [note]
    assert read(root, table_of(bars_of(2000), model="after")) == [(0, 2000)]


def test_with_no_room_to_join_files_the_new_rows_are_kept_alone(small_disk):
    root, table = small_disk / "cache", table_of(bars_of(26_000))
    read(root, table, 0, 13_000)
    assert read(root, table, 13_000, 26_000) == [(13_000, 26_000)]
    assert len(files(root)) == 3
    assert read(root, table) == []


def test_a_disk_without_a_byte_left_still_serves_and_builds(small_disk):
    root, table = small_disk / "cache", table_of(bars_of(2000))
    read(root, table)
    with pytest.raises(OSError, match="No space"), open(small_disk / "other", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert read(root, table) == []
    new, store = table_of(bars_of(1500), model="new"), Store(root)
    assert same(store.read(new, 0, 1500, Builder(new)), truth(new))
    assert "No space left" in store.use.notes[-1]
    assert Store(root).remove(table.key) > 0, "removing makes room"
    assert read(root, new) == [(0, 1500)]


def test_a_cache_that_may_only_be_read_is_read(small_disk):
    root, table = small_disk / "cache", table_of(bars_of(2000))
    read(root, table)
    (path,) = files(root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert read(root, table) == []
    new, store = table_of(bars_of(2000), model="new"), Store(root)
    store.hold(table.key)
    assert same(store.read(new, 0, 2000, Builder(new)), truth(new))
    assert "Read-only file system" in store.use.notes[-1] and "Make it writable, or set ALPHASWEEP_CACHE" in store.use.notes[-1]
    assert store.remove(table.key) == 0 and store.collect(limit=0) == [] and path.exists()
    assert store.entries()[0].rows == 2000
    store.close()


@pytest.mark.parametrize("short_by", [1, 300, 5000])
def test_a_limit_on_the_size_of_files_costs_the_keeping_only(tmp_path, short_by):
    table = table_of(bars_of(400))
    Store(tmp_path / "whole").add(table, 0, truth(table), 1.0)
    limit = files(tmp_path / "whole")[0].stat().st_size - short_by
    body = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
store = Store(root)
assert "File too large" in store.add(table, 0, truth(table), 1.0) and len(store.use.notes) == 1
assert not list(root.rglob(".partial-*")) and not list(root.rglob("*.arrow"))
assert same(store.read(table, 0, 400, lambda a, b, _: truth(table)[:, a:b]), truth(table))
say("kept" + str(store.add(table, 0, truth(table)[:, :20], 1.0) == ""))
"""
    assert finish(start(tmp_path, body)) == ["keptTrue"]
    assert read(tmp_path / "cache", table, 0, 20) == []


def test_a_root_that_is_a_file_costs_the_keeping_only(tmp_path):
    (tmp_path / "cache").write_text("mine")
    table, store = table_of(bars_of(30)), Store(tmp_path / "cache")
    assert same(store.read(table, 0, 30, Builder(table)), truth(table))
    assert "Set ALPHASWEEP_CACHE to another folder" in store.use.notes[-1]
    assert (store.entries(), store.collect(limit=0)) == ([], [])
    assert (tmp_path / "cache").read_text() == "mine"
