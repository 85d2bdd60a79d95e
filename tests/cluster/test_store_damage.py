"""Whatever happens to a file, its rows are served as they were written or built again."""

import json
import os
import random
import shutil
import time

import numpy as np
import pytest

from cluster.cache import Store
from cluster.cache.segment import _verified, write_segment
from tests.cluster.test_store import Builder, bars_of, files, joined, read, same, table_of, truth

COUNT = 120


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    table = table_of(bars_of(COUNT))
    read(root, table)
    return root, table


def copied(kept, tmp_path, name="copy"):
    root = tmp_path / name
    shutil.copytree(kept[0], root, ignore=shutil.ignore_patterns(".*"))
    return root, files(root)[0]


def rebuilds(root, table, word="damaged"):
    """Reads as a new process would; returns the store."""
    store, builder = Store(root), Builder(table)
    for _ in range(2):
        assert same(store.read(table, 0, COUNT, builder), truth(table))
    assert builder.asked == [(0, COUNT)], "built once, then kept"
    assert any(word in note and table.where in note for note in store.use.notes), store.use.notes
    return store


def flip(path, at, bit=0):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


@pytest.mark.parametrize("part", range(10))
def test_a_file_with_any_bit_flipped_is_never_served(kept, tmp_path, part):
    chance = random.Random(part)
    size = files(kept[0])[0].stat().st_size
    places = [chance.randrange(size * part // 10, size * (part + 1) // 10) for _ in range(12)]
    for at in {0, size - 1, *places}:
        root, path = copied(kept, tmp_path, str(at))
        flip(path, at, chance.randrange(8))
        assert Store(root).check(kept[1].key), "checking says so and leaves it"
        assert path.exists()
        rebuilds(root, kept[1])
        assert Store(root).check(kept[1].key) == []


def test_a_file_of_any_other_length_is_never_served(kept, tmp_path):
    size = files(kept[0])[0].stat().st_size
    for length in [0, 1, 6, 8, size // 2, size - 8, size - 1, *random.Random(3).sample(range(size), 30)]:
        root, path = copied(kept, tmp_path, str(length))
        os.truncate(path, length)
        rebuilds(root, kept[1])
    for more in (b"\0", b"x" * 8, b"\0" * 4096):
        root, path = copied(kept, tmp_path, f"more{len(more)}")
        path.write_bytes(path.read_bytes() + more)
        rebuilds(root, kept[1])


def test_a_file_with_a_page_of_zeros_is_never_served(kept, tmp_path):
    size = files(kept[0])[0].stat().st_size
    for at in range(0, size, 512):
        root, path = copied(kept, tmp_path, str(at))
        raw = path.read_bytes()
        zeroed = raw[:at] + b"\0" * len(raw[at : at + 512]) + raw[at + 512 :]
        path.write_bytes(zeroed)
        if zeroed != raw:
            rebuilds(root, kept[1])


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"not rows at all", bytes(range(256)) * 40])
def test_something_else_under_the_name_is_never_served(kept, tmp_path, content):
    root, path = copied(kept, tmp_path)
    path.write_bytes(content)
    rebuilds(root, kept[1])


def test_rows_of_another_table_under_this_key_are_never_served(kept, tmp_path):
    other = table_of(bars_of(COUNT), model="other")
    read(tmp_path / "other", other)
    root, path = copied(kept, tmp_path)
    (theirs,) = files(tmp_path / "other")
    path.unlink()
    shutil.copy(theirs, path.parent / theirs.name)
    rebuilds(root, kept[1])


def test_a_file_under_another_s_checksum_is_never_served(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    path.rename(path.with_name(path.name[: -len("0" * 32 + ".arrow")] + "0" * 32 + ".arrow"))
    rebuilds(root, kept[1])


def test_a_renamed_file_is_not_read(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    path.rename(path.with_name("mine.arrow"))
    store, builder = Store(root), Builder(kept[1])
    store.read(kept[1], 0, COUNT, builder)
    assert builder.asked == [(0, COUNT)]
    assert "mine.arrow is not read by anybody" in store.check(kept[1].key)[0]


def test_times_in_the_name_are_a_first_choice_only(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    path.rename(path.with_name(path.name.replace("20240101T000000", "20230101T000000")))
    assert read(root, kept[1]) == [], "the rows inside are right, and so are their times"
    assert Store(root).load(kept[1], 5, 9).missing == []


def test_a_file_that_changes_after_it_was_read_once_is_read_again(kept, tmp_path, monkeypatch):
    root, path = copied(kept, tmp_path)
    assert read(root, kept[1]) == []
    assert str(path) not in {seen[0] for seen in _verified}, "a change within one tick of the file system's clock would not show"
    monkeypatch.setattr("cluster.cache.segment._SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    assert read(root, kept[1]) == []
    assert str(path) in {seen[0] for seen in _verified}
    then = path.stat().st_mtime_ns
    flip(path, path.stat().st_size // 2)
    os.utime(path, ns=(then, then))
    rebuilds(root, kept[1])


def test_the_good_files_beside_a_bad_one_are_served(tmp_path):
    table = table_of(bars_of(1000))
    for first, stop in ((0, 600), (700, 1000)):
        read(tmp_path, table, first, stop)
    flip(next(f for f in files(tmp_path) if "300rows" in f.name), 3000)
    store, builder = Store(tmp_path), Builder(table)
    assert same(store.read(table, 0, 1000, builder), truth(table))
    assert joined(builder.asked) == [(600, 1000)]


def test_a_bad_file_is_not_joined_into_a_good_one(tmp_path):
    table = table_of(bars_of(100))
    read(tmp_path, table, 0, 50)
    flip(files(tmp_path)[0], 2000)
    store = Store(tmp_path)
    assert store.add(table, 50, truth(table)[:, 50:], 1.0) == ""
    assert store.load(table, 0, 100).missing == [(0, 50)]
    assert "damaged" in store.use.notes[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"key": "other"}', b"\xff\xfe", b'{"key": 1, "spec": 2}', b"half"],
)
def test_a_damaged_description_is_set_aside_and_written_again(kept, tmp_path, content):
    root, path = copied(kept, tmp_path)
    about = path.parent / "about.json"
    before = json.loads(about.read_text())
    about.write_bytes(about.read_bytes()[:40] if content == b"half" else content)
    (entry,) = Store(root).entries()
    assert (entry.kind, entry.spec, entry.columns, entry.rows) == ("forecasts", {}, (), COUNT)
    assert "about.json is damaged" in Store(root).check(kept[1].key)[0]
    store = Store(root)
    assert same(store.read(kept[1], 0, COUNT, lambda *_: pytest.fail("rows need no description")), truth(kept[1]))
    assert "set aside as about.json.damaged" in store.use.notes[0]
    assert {**json.loads(about.read_text()), "created": ""} == {**before, "created": ""}
    assert Store(root).entries()[0].spec == {"model": "small"}


def test_a_missing_description_is_written_again(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    (path.parent / "about.json").unlink()
    assert read(root, kept[1]) == []
    assert Store(root).entries()[0].spec == {"model": "small"}


def test_a_file_of_a_later_format_is_left_alone(kept, tmp_path, monkeypatch):
    root, path = copied(kept, tmp_path)
    path.unlink()
    with monkeypatch.context() as later:
        later.setattr("cluster.cache.segment.FORMAT", 2)
        newer = write_segment(path.parent, kept[1], 0, np.zeros((3, COUNT)), 1.0)
    assert "another version" in Store(root).check(kept[1].key)[0]
    store, builder = Store(root), Builder(kept[1])
    assert same(store.read(kept[1], 0, COUNT, builder), truth(kept[1]))
    assert builder.asked == [(0, COUNT)] and newer.exists() and not store.use.notes


def test_files_that_vanish_are_built_again_without_a_word(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    path.unlink()
    assert read(root, kept[1]) == [(0, COUNT)]
    shutil.rmtree(root)
    assert read(root, kept[1]) == [(0, COUNT)]


def test_what_a_dead_writer_left_is_never_read_and_goes_with_the_next_write(kept, tmp_path):
    root, path = copied(kept, tmp_path)
    path.rename(path.with_name(".partial-1234"))
    assert read(root, kept[1]) == [(0, COUNT)]
    assert not list(root.rglob(".partial-*"))
