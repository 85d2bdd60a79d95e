"""A process killed at any moment, two processes at once, a damaged file: SQLite's side of the promises."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import Header, Ledger, LedgerError, LedgerLocked, config_ids

ROOT = Path(__file__).resolve().parents[2]

# A child of `fork` writes packs until it is killed; after each accept it notes, in a file, what the ledger has promised.
KILLED_WRITER = """
import os, random, signal, sys, time
from results import Ledger, ResultRow, config_ids

path, notes, rounds, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), 40
out = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def write(beat):
    with Ledger.open(path) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, None)
        start = ledger.counts()["trials"]
        os.write(beat, b".")
        while True:
            configs = [{"x": number} for number in range(start, start + size)]
            ids = config_ids(ledger.header.context_id, configs)
            attempt = ledger.open_attempt(1, size)
            rows = [ResultRow(start + i, ids[i], configs[i], "completed", [float(i)] * 4, 0.1) for i in range(size)]
            assert ledger.accept(attempt, rows).accepted == size
            os.write(out, f"{attempt} {start}\\n".encode())
            os.write(beat, b".")
            start += size

moments = random.Random(20240607)
for _ in range(rounds):
    heard, beat = os.pipe()
    child = os.fork()
    if child == 0:
        write(beat)
    for _ in range(moments.randrange(5)):  # 0: killed while opening; the moment is counted in work done, not in seconds
        os.read(heard, 1)
    time.sleep(moments.random() * 0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(heard), os.close(beat)
"""

HOLDER = """
import sys, time
from results import Ledger
ledger = Ledger.open(sys.argv[1])
ledger.begin_session({})
print("holding", flush=True)
sys.stdin.read()
"""


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True, **options)


@pytest.fixture
def path(tmp_path: Path, header: Header) -> Path:
    Ledger.create(tmp_path / "study" / "ledger.db", header).close()
    return tmp_path / "study" / "ledger.db"


def test_kill_9_at_random_moments_loses_nothing_committed_and_tears_nothing(path: Path, tmp_path: Path) -> None:
    size, rounds = 40, 20
    assert python(KILLED_WRITER, path, tmp_path / "notes", rounds).wait(timeout=120) == 0
    lines = (tmp_path / "notes").read_text().split("\n")
    promised = [tuple(map(int, line.split())) for line in lines if line]
    assert len(promised) >= rounds  # the test did kill writers at work
    assert path.with_name("ledger.db-wal").stat().st_size > 0  # and the last one left its WAL behind
    with Ledger.open(path, readonly=True) as ledger:
        held = ledger.frame(["trial", "attempt"])
        by_attempt = held.groupby("attempt")["trial"].agg(["count", "min", "max"])
        assert set(by_attempt["count"]) == {size}
        for attempt, start in promised:
            assert by_attempt.loc[attempt].tolist() == [size, start, start + size - 1]
        assert held["trial"].tolist() == list(range(len(held)))  # each session went on where the last one got to
        points = config_ids(ledger.header.context_id, ({"x": number} for number in range(len(held))))
        assert ledger.verify([points]).ok
    with Ledger.open(path) as ledger:
        ledger.begin_session({})
        assert ledger.counts()["attempts_open"] == 0


def test_one_writer_at_a_time_and_the_lock_dies_with_its_process(path: Path) -> None:
    holder = python(HOLDER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        with pytest.raises(LedgerLocked, match=f"process {holder.pid} on .*one writer"):
            Ledger.open(path)
        with pytest.raises(LedgerLocked):
            Ledger.open(path)
        with Ledger.open(path, readonly=True) as reader:
            assert reader.sessions()[0]["reason"] is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with Ledger.open(path, readonly=True) as reader:  # before any writer recovers the WAL
            assert len(reader.sessions()) == 1
        with Ledger.open(path) as ledger:
            ledger.begin_session({})
            assert ledger.sessions()[0]["reason"] == "interrupted"
    finally:
        holder.kill()
        holder.wait()
        for stream in (holder.stdin, holder.stdout):
            assert stream is not None
            stream.close()


def test_the_lock_holds_inside_one_process_and_is_given_back_by_close(path: Path) -> None:
    with Ledger.open(path), pytest.raises(LedgerLocked):
        Ledger.open(path)
    Ledger.open(path).close()


def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    ledger = Ledger.open(path)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        ledger.close()
        Ledger.open(path).close()
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for descriptor in (*ready, *go):
            os.close(descriptor)


def test_writes_are_synced_to_disk_at_every_commit(path: Path) -> None:
    with Ledger.open(path) as ledger, ledger._transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_a_reader_sees_one_consistent_state_while_the_writer_goes_on(path: Path, make_rows: Callable) -> None:
    with Ledger.open(path) as writer, Ledger.open(path, readonly=True) as reader:
        writer.begin_session({})
        writer.add_plan({}, {}, None)
        context = writer.header.context_id
        writer.accept(writer.open_attempt(1, 100), make_rows(context, range(100)))
        batches = reader.stream(["trial"], chunk=10)
        seen = list(next(batches)["trial"])
        writer.accept(writer.open_attempt(1, 100), make_rows(context, range(100, 200)))
        for batch in batches:
            seen += batch["trial"]
        assert seen == list(range(100))
        assert reader.counts()["trials"] == 200


def test_a_closed_ledger_is_one_file_that_can_be_copied(path: Path, tmp_path: Path, make_rows: Callable) -> None:
    with Ledger.open(path) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, None)
        ledger.accept(ledger.open_attempt(1, 3), make_rows(ledger.header.context_id, range(3)))
    (tmp_path / "copy.db").write_bytes(path.read_bytes())
    with Ledger.open(tmp_path / "copy.db", readonly=True) as copy:
        assert copy.counts()["completed"] == 3


def test_a_closed_ledger_in_a_folder_that_cannot_be_written_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ledger.db-wal", "ledger.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    monkeypatch.setattr("results.engine.os.access", lambda *_: False)
    with Ledger.open(path, readonly=True) as reader:
        assert reader.counts()["trials"] == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]


@pytest.mark.parametrize("readonly", [True, False])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "cut to one page", "other database"])
def test_a_damaged_ledger_is_an_error_that_names_the_file_and_is_left_alone(path: Path, damage: str, readonly: bool) -> None:
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other database":
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE notes (x)")
        connection.close()
    else:
        page = int.from_bytes(content[16:18], "big")
        kinds = {"empty": b"", "text": b"hello " * 100, "cut": content[:-100], "cut to one page": content[:page]}
        path.write_bytes(kinds[damage])
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(LedgerError, match=r"ledger\.db") as caught:
        Ledger.open(path, readonly=readonly)
    assert any(word in str(caught.value) for word in ("damaged", "no ledger at", "not laid out"))
    assert (path.read_bytes() if path.exists() else None) == before
    if damage != "missing":
        path.write_bytes(content)  # nothing stayed locked
        Ledger.open(path).close()


def test_a_page_overwritten_with_noise_is_reported_not_read(path: Path, make_rows: Callable) -> None:
    with Ledger.open(path) as ledger:
        ledger.begin_session({})
        ledger.add_plan({}, {}, None)
        ledger.accept(ledger.open_attempt(1, 2000), make_rows(ledger.header.context_id, range(2000)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"damaged.*recover"):
        Ledger.open(path)
    with Ledger.open(path, readonly=True) as reader, pytest.raises(LedgerError, match=r"damaged.*recover"):
        reader.verify([])


def test_a_crash_during_creation_leaves_no_ledger_behind(tmp_path: Path, header: Header, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("results.creation.os.replace", crash)
        with pytest.raises(OSError, match="power cut"):
            Ledger.create(tmp_path / "ledger.db", header)
    assert not (tmp_path / "ledger.db").exists()
    Ledger.create(tmp_path / "ledger.db", header).close()


def test_a_ledger_of_a_newer_version_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE study SET schema_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="newer version"):
        Ledger.open(path)


def test_a_changed_context_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    context = json.loads(connection.execute("SELECT context FROM study").fetchone()[0])
    connection.execute("UPDATE study SET context = ?", (json.dumps(context | {"seed": 8}),))
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="header was changed"):
        Ledger.open(path)


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(LedgerError, match="neither"):
        Ledger.open("mysql://host/db")
