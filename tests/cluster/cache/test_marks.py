"""Sessions of outputs: what is remembered and swept, and what happens where nothing can be kept."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.cache import CacheError, Store, builds, evict
from cluster.cache.marks import LASTS, SESSIONS
from cluster.cache.outputs import DiskOutputs, session_of
from cluster.cache.own import own_folder
from tests.cluster.cache.built import KEY, OTHER, fail, fill, never


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files of the session lie here, not among the user's."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def worker_of(session: DiskOutputs) -> DiskOutputs:
    return pickle.loads(pickle.dumps(session))


def killed(action: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def as_nobody(action: Callable[[], None]) -> int:
    """Runs as a user for whom this test's folder is closed; returns the exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """A disk on which longer files find no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["a file", "no name for a folder"])
def test_where_nothing_can_be_kept_each_process_builds_its_own_and_the_driver_is_told(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "cache" if kind == "a file" else tmp_path / ("x" * 300)
    if kind == "a file":
        root.write_text("a file")
    alone = DiskOutputs(root)
    place = alone.folder(KEY, fill())
    assert (place / "deep" / "file").read_text() == "x" and alone.folder(KEY, never) == place
    assert any("outputs are not kept" in note for note in alone.notes) and not alone.is_building(KEY) and not alone.builds()
    with session_of(Store(root)) as built:
        for worker in (worker_of(built), worker_of(built)):
            assert (worker.folder(KEY, fill(), "toy.a") / "deep" / "file").read_text() == "x"
        with pytest.raises(ZeroDivisionError):
            worker_of(built).folder(OTHER, fail, "toy.b")
        with pytest.raises(CacheError, match=r"^the thirteenth floor$"):
            worker_of(built).folder(OTHER, never, "toy.b")
    use = built.use()
    assert use.used == use.built == {"toy.a": 1}
    [note] = [note for note in use.notes if "outputs are not kept" in note]
    assert "each process builds its own" in note and "ALPHASWEEP_CACHE" in note
    assert not list((own_folder() / SESSIONS).iterdir()) and not list((own_folder() / evict.LOCKS).iterdir())


def test_who_asks_for_no_outputs_does_not_hear_that_they_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with session_of(Store(tmp_path / "cache")) as built:
        pass
    assert built.use().notes == ()


def test_where_nothing_can_be_remembered_either_the_driver_says_that_nothing_is_kept(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    (temporary / f"alphasweep-{os.getuid()}").write_text("somebody else's")
    with session_of(Store(tmp_path / "cache")) as built:
        assert worker_of(built).folder(KEY, fill(), "toy.a").is_dir()
        assert not built.building()
    assert [note for note in built.use().notes if "outputs are not kept" in note]


def test_a_cache_that_cannot_be_entered_ends_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "closed" / "cache"
    with session_of(Store(root)):
        DiskOutputs(root).folder(KEY, fill())
    root.parent.chmod(0)
    place = tempfile.mkdtemp(dir="/tmp")  # which anybody may enter, as tmp_path may not
    os.chmod(place, 0o777)
    monkeypatch.setattr(tempfile, "tempdir", place)

    def study() -> None:
        with session_of(Store(root)) as idle:
            pass
        assert not idle.use().notes
        with session_of(Store(root)) as built:
            assert worker_of(built).folder(KEY, fill("mine"), "toy.a").is_dir()
            assert not built.building() and not built.builds() and DiskOutputs(root).look(KEY) is None
        assert built.use().built == {"toy.a": 1} and any("outputs are not kept" in note for note in built.use().notes)

    try:
        assert as_nobody(study) == 0
    finally:
        root.parent.chmod(0o755)
        shutil.rmtree(place)


def test_a_disk_that_is_full_when_a_stage_has_ended_loses_nothing_and_is_no_failure(tmp_path: Path) -> None:
    with session_of(Store(tmp_path / "cache")) as built:
        worker = worker_of(built)
        with files_of_at_most(250):  # a mark, and what the stage made, but not the description of an output
            place = worker.folder(KEY, fill(), "toy.a")
        assert (place / "deep" / "file").read_text() == "x" and worker.folder(KEY, never) == place
        assert not list((tmp_path / "cache" / "outputs").glob(f"{KEY}*")), "it is whole or not there"
        other = worker_of(built).folder(KEY, fill(), "toy.a")
        assert other.is_relative_to(tmp_path / "cache"), "there is room again"
    assert built.use().used == built.use().built == {"toy.a": 1}
    assert [note for note in built.use().notes if "toy.a was built and could not be kept" in note]


def test_a_disk_without_room_for_anything_fails_those_who_ask_then_and_nobody_later(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_of(Store(tmp_path / "cache")) as built:
        with files_of_at_most(250), monkeypatch.context() as patch, pytest.raises(OSError):
            patch.setattr(tempfile, "tempdir", str(temporary / "missing"))
            worker_of(built).folder(KEY, fill(), "toy.a")
        assert worker_of(built).folder(KEY, fill(), "toy.a").is_dir()


def test_a_session_that_the_cache_has_no_room_for_leaves_no_lock_in_it(tmp_path: Path) -> None:
    with files_of_at_most(0), session_of(Store(tmp_path / "cache")):
        pass
    assert not list((tmp_path / "cache" / evict.LOCKS).glob("*.session"))


def test_what_kills_its_builder_twice_is_given_to_no_third_also_where_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with session_of(Store(tmp_path / "cache")) as built:
        for _ in range(2):
            killed(lambda: worker_of(built).folder(KEY, lambda out: os.kill(os.getpid(), signal.SIGKILL), "toy.a") and None)
        with pytest.raises(CacheError, match="killed its worker twice"):
            worker_of(built).folder(KEY, never)

        def crowd(depth: int) -> None:  # builders that live, which nobody keeps apart here, are not taken for dead
            worker_of(built).folder(OTHER, lambda out: crowd(depth - 1) if depth else (out / "file").touch(), "toy.b")

        crowd(3)


def test_a_session_that_was_killed_is_swept_with_its_lock_and_a_living_one_is_not(tmp_path: Path) -> None:
    root = tmp_path / "cache"

    def driver() -> None:
        session = session_of(Store(root))
        session.__enter__().folder(KEY, fill())
        os.kill(os.getpid(), signal.SIGKILL)

    killed(driver)
    assert len(list((root / SESSIONS).iterdir())) == len(list((root / evict.LOCKS).glob("*.session"))) == 1
    with session_of(Store(root)) as alive:
        alive.folder(OTHER, fill())
        with session_of(Store(root)) as second:
            assert {path.name for path in (root / SESSIONS).iterdir()} == {alive.session, second.session}
    assert not list((root / SESSIONS).iterdir()) and not list((root / evict.LOCKS).glob("*.session"))


def test_a_node_without_drivers_sweeps_old_sessions_when_it_first_builds_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    for name, age in (("old", LASTS + 60), ("young", LASTS - 60)):  # of drivers whose locks lie on another node
        (root / SESSIONS / name).mkdir(parents=True)
        then = time.time() - age
        os.utime(root / SESSIONS / name, (then, then))
    worker = DiskOutputs(root, session="mine")
    worker.folder(KEY, fill())
    assert {path.name for path in (root / SESSIONS).iterdir()} == {"mine", "young"}


def test_what_is_in_use_may_exceed_the_limit_and_that_is_said(tmp_path: Path) -> None:
    with session_of(Store(tmp_path / "cache", limit=10_000)) as built:
        worker = worker_of(built)
        worker.folder(KEY, fill("x" * 8_000), "toy.a")
        assert not built.use().notes
        worker.folder(OTHER, fill("y" * 8_000), "toy.b")
        [note] = built.use().notes
    assert "holds more than the 10.0 kB it may: what is left is in use" in note


def test_threads_that_hold_one_key_leave_no_lock_behind(tmp_path: Path) -> None:
    store, start = Store(tmp_path), threading.Barrier(8)

    def hold() -> None:
        start.wait(60)
        store.hold(KEY)

    for _ in range(25):
        threads = [threading.Thread(target=hold) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.close()
        assert not evict.lock_of(tmp_path, KEY, evict.HOLD).is_taken()


def test_the_record_of_builds_is_cut_to_its_later_half_and_a_session_counts_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "MOST_BYTES", 5_000)
    with session_of(Store(tmp_path)) as built:
        for number in range(60):
            built.folder(f"{number:032x}", lambda out: (out / "file").touch(), "toy.a")
        log = tmp_path / "outputs" / builds.LOG
        assert 2_000 < log.stat().st_size <= 5_200 and not list(log.parent.glob(".*"))
        kept = builds.recorded(log.parent)
        assert [one.key for one in kept.values()] == [f"{n:032x}" for n in range(60 - len(kept), 60)]
        assert len(built.builds()) == 60, "the others are told by what is there"
        log.unlink()
    assert built.use().built == {"toy.a": 60}
