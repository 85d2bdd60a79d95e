"""Several processes on one cache: real ones, some of which are killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cluster.cache import Store
from cluster.cache.segment import open_segment
from tests.cluster.test_store import ROOT, Builder, bars_of, files, read, same, table_of, truth

HEAD = """
import os, sys, time, signal
from pathlib import Path
from cluster.cache import Store
from tests.cluster.test_store import Builder, bars_of, same, table_of, truth
root, side = Path(sys.argv[1]), Path(sys.argv[2])
table = table_of(bars_of(400))
def say(word):
    print(word, flush=True)
def slow(first, stop, done):
    if first == 0:  # of two pieces
        (side / f"build-{os.getpid()}").touch()
        say("building")
    while not (side / "enough").exists():
        time.sleep(0.01)
    return truth(table)[:, first:stop]
"""


def start(tmp_path, body):
    side = tmp_path / "side"
    side.mkdir(exist_ok=True)
    command = [sys.executable, "-c", HEAD + body, str(tmp_path / "cache"), str(side)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def finish(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out.split()


def go(*processes):
    """Lets them begin together."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


# Builds until told that it is enough.
READ = """
store = Store(root)
say("ready")
sys.stdin.readline()
store.on_wait = lambda asked, seconds: say(f"waited-{asked.where}-{seconds >= 1}".replace(" ", ""))
assert same(store.read(table, 0, 400, slow), truth(table))
say(f"found-{store.use.rows_found}-built-{store.use.rows_built}")
"""


def test_four_processes_that_ask_at_once_build_once(tmp_path):
    processes = [start(tmp_path, READ) for _ in range(4)]
    go(*processes)
    time.sleep(0.5)
    (tmp_path / "side" / "enough").touch()
    said = [finish(p) for p in processes]
    assert len(list((tmp_path / "side").glob("build-*"))) == 1
    assert sorted(s[-1] for s in said) == ["found-0-built-400", *["found-400-built-0"] * 3]


def test_who_waits_is_told_what_for(tmp_path):
    first, second = start(tmp_path, READ), start(tmp_path, READ)
    go(first)
    assert first.stdout.readline() == "building\n"
    go(second)
    assert second.stdout.readline() == "waited-small,BTCUSD-True\n"
    (tmp_path / "side" / "enough").touch()
    assert finish(first) == ["found-0-built-400"]
    assert finish(second) == ["found-400-built-0"]


def test_when_the_builder_is_killed_one_of_those_who_wait_builds(tmp_path):
    first, *others = [start(tmp_path, READ) for _ in range(3)]
    go(first)
    assert first.stdout.readline() == "building\n"
    go(*others)
    for other in others:
        assert other.stdout.readline().startswith("waited")
    first.kill()
    first.communicate()
    (tmp_path / "side" / "enough").touch()
    assert sorted(finish(p)[-1] for p in others) == ["found-0-built-400", "found-400-built-0"]


def test_who_builds_is_named_when_there_is_no_waiting(tmp_path):
    first = start(tmp_path, READ)
    go(first)
    assert first.stdout.readline() == "building\n"
    store, table = Store(tmp_path / "cache"), table_of(bars_of(400))
    with pytest.raises(TimeoutError, match=f"process {first.pid} on "), store.building(table.key, timeout=0):
        pass
    with store.building("another", timeout=0):
        pass
    first.kill()
    first.communicate()
    with store.building(table.key, timeout=0):
        pass


def test_a_second_thread_waits_too_and_may_give_up(tmp_path):
    store, told = Store(tmp_path), []

    def wait():
        with pytest.raises(KeyError), store.building("key", on_wait=lambda seconds: {}[told.append(seconds)]):
            pass

    with store.building("key"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert len(told) == 1 and 1 <= told[0] < 3


def test_a_forked_child_does_not_keep_its_parent_s_locks(tmp_path):
    body = """
store = Store(root)
store.hold(table.key)
with store.building(table.key):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
say("left")
os._exit(0)
"""
    process = start(tmp_path, body)
    assert process.stdout.readline() == "left\n"
    process.wait(10)
    store = Store(tmp_path / "cache")
    with store.building(table_of(bars_of(400)).key, timeout=0):
        pass
    process.stdout.close()
    process.stdin.close()


# Dies at the n-th call that changes anything on disk, for every n until one run gets through.
CRASH = """
import itertools, threading
from cluster.cache import segment
calls = ("write", "fsync", "replace", "rename", "unlink", "mkdir", "open", "ftruncate", "pwrite")
rows = truth(table)
parts = [(0, 100), (100, 200), (300, 400), (200, 300)]  # the last ones are joined
def attempt(last):
    count = itertools.count(1)
    def deadly(call):
        def made(*args, **named):
            if next(count) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)
        return made
    for name in calls:
        setattr(os, name, deadly(getattr(os, name)))
    store = Store(root / str(last))
    for a, b in parts:
        store.read(table, a, b, lambda first, stop, _: rows[:, first:stop])
    os._exit(7)
for last in itertools.count(1):
    child = os.fork()
    if child == 0:
        attempt(last)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 7, status
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    store, asked = Store(root / str(last)), []
    for _ in range(2):
        got = store.read(table, 0, 400, lambda a, b, _: asked.append((a, b)) or rows[:, a:b])
        assert same(got, rows), last
    assert len(asked) == len(set(asked)) and not store.use.notes, (last, store.use.notes)
    assert not asked or not list((root / str(last)).rglob(".partial-*")), last
    assert store.check(table.key) == [] or not asked, (last, store.check(table.key))
say(last)
"""


def test_a_writer_that_is_killed_at_any_step_costs_rows_at_most(tmp_path):
    (steps,) = finish(start(tmp_path, CRASH))
    assert int(steps) > 40


def test_writers_that_are_killed_again_and_again_never_leave_wrong_rows(tmp_path):
    body = """
import random
chance = random.Random(os.getpid())
say("ready")
while True:
    a = chance.randrange(400)
    b = chance.randrange(a, 401)
    got = Store(root).read(table, a, b, lambda first, stop, _: truth(table)[:, first:stop])
    assert same(got, truth(table)[:, a:b])
    if chance.random() < 0.3:
        Store(root).remove(table.key)
"""
    table = table_of(bars_of(400))
    for turn in range(3):
        writers = [start(tmp_path, body) for _ in range(3)]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        time.sleep(0.2 + 0.1 * turn)
        for writer in writers:
            assert writer.poll() is None
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        store = Store(tmp_path / "cache")
        assert same(store.read(table, 0, 400, Builder(table)), truth(table))
        assert not store.use.notes
    assert len(files(tmp_path / "cache")) <= 9


def test_what_is_being_read_may_be_removed(tmp_path):
    table = table_of(bars_of(400))
    read(tmp_path, table)
    segment = open_segment(files(tmp_path)[0], table.key)
    line = segment.column(1)
    assert Store(tmp_path).remove(table.key) > 0
    assert files(tmp_path) == []
    assert len(line) >= 256 and same(line[None], truth(table)[1:2, : len(line)])
