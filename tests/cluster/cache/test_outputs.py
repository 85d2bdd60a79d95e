"""Outputs on disk: whole or not there, once for all who ask, built again where damaged."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from cluster.cache import CacheError, Store
from cluster.cache.outputs import CONTENT, DRAFTS, KIND, SESSIONS, DiskOutputs, session_of
from tests.cluster.cache.built import KEY, OTHER, fail, fill, never, wait_for

ROOT = Path(__file__).parents[3]

PROCESS = """
import os, sys, time
from pathlib import Path
from cluster.cache.outputs import DiskOutputs
root, side = Path(sys.argv[1]), Path(sys.argv[2])
def build(out):
    (side / f"begun-{os.getpid()}").touch()
    (out / "half").write_text("half")
    print("building", flush=True)
    until = time.monotonic() + 60
    while not (side / "enough").exists() and time.monotonic() < until:
        time.sleep(0.01)
    (out / "half").rename(out / "whole")
place = DiskOutputs(root).folder("a" * 32, build, "toy.a")
print(sorted(path.name for path in place.iterdir()), flush=True)
"""


@pytest.fixture
def kept(tmp_path: Path) -> DiskOutputs:
    return DiskOutputs(tmp_path / "cache")


def start(tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "side").mkdir(exist_ok=True)
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), str(tmp_path / "side")]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_an_output_is_built_once_recorded_and_found_by_others(kept: DiskOutputs, tmp_path: Path) -> None:
    place = kept.folder(KEY, fill(), "toy.a", {"x": 3})
    assert place == tmp_path / "cache" / KIND / KEY / CONTENT and (place / "deep" / "file").read_text() == "x"
    assert DiskOutputs(tmp_path / "cache").folder(KEY, never) == kept.folder(KEY, never) == place
    [one] = kept.builds()
    assert (one.key, one.stage, one.pid, one.session) == (KEY, "toy.a", os.getpid(), "")
    assert not (place / "deep" / "file").stat().st_mode & 0o222, "nobody is to change it"
    [entry] = Store(tmp_path / "cache").entries()
    assert (entry.key, entry.kind, dict(entry.spec), entry.held) == (KEY, KIND, {"stage": "toy.a", "x": 3}, True)
    assert entry.bytes == sum(path.stat().st_size for path in place.parent.rglob("*") if path.is_file())


def test_a_build_that_raises_leaves_nothing(kept: DiskOutputs, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        kept.folder(KEY, fail)
    assert not list((tmp_path / "cache" / DRAFTS).iterdir()) and not kept.builds()
    assert kept.folder(KEY, fill()).is_dir()


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "added", "about"])
def test_what_is_damaged_is_said_and_built_again(kept: DiskOutputs, tmp_path: Path, harm: str) -> None:
    place = kept.folder(KEY, fill())
    file = place / "deep" / "file"
    file.chmod(0o644)
    {
        "changed": lambda: file.write_text("y"),
        "cut": lambda: file.write_text(""),
        "missing": file.unlink,
        "added": (place / "stranger").touch,
        "about": (place.parent / "about.json").unlink,
    }[harm]()
    assert kept.check(KEY)
    again = DiskOutputs(tmp_path / "cache")
    assert (again.folder(KEY, fill()) / "deep" / "file").read_text() == "x" and not again.check(KEY)
    assert len(again.notes) == 1 and "it is built again" in again.notes[0]
    assert len(again.builds()) == 2


def test_processes_that_ask_at_once_build_once_and_see_it_whole(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]
    wait_for(lambda: any((tmp_path / "side").glob("begun-*")))
    assert DiskOutputs(tmp_path / "cache").is_building(KEY)
    assert not (tmp_path / "cache" / KIND / KEY).exists()
    (tmp_path / "side" / "enough").touch()
    said = [process.communicate(timeout=60)[0].split("\n")[-2] for process in processes]
    assert said == ["['whole']"] * 3 and len(list((tmp_path / "side").glob("begun-*"))) == 1


def test_a_builder_that_is_killed_leaves_nothing_that_could_be_taken_for_an_output(tmp_path: Path, kept: DiskOutputs) -> None:
    builder = start(tmp_path)
    assert builder.stdout is not None and builder.stdout.readline() == "building\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait(60)
    assert not kept.is_building(KEY) and not kept.builds() and list((tmp_path / "cache" / DRAFTS).iterdir())
    assert kept.folder(KEY, fill()).is_dir() and len(kept.builds()) == 1
    kept.sweep()
    assert not list((tmp_path / "cache" / DRAFTS).iterdir())


def test_a_line_that_a_kill_has_left_out_is_made_up_for(kept: DiskOutputs, tmp_path: Path) -> None:
    kept.folder(KEY, fill(), "toy.a")
    before = kept.builds()
    log = tmp_path / "cache" / KIND / "builds.jsonl"
    log.write_text("{cut")
    assert kept.builds() == before


def test_a_session_remembers_what_failed_and_forgets_it_at_its_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with session_of(store) as built:
        worker = pickle.loads(pickle.dumps(built))
        with pytest.raises(ZeroDivisionError):
            worker.folder(KEY, fail, "toy.a")
        for other in (built, pickle.loads(pickle.dumps(built))):
            with pytest.raises(CacheError, match=r"^the thirteenth floor$"):
                other.folder(KEY, never, "toy.a")
        worker.folder(OTHER, fill(), "toy.b")
    assert built.use().used == built.use().built == {"toy.b": 1}
    with session_of(store) as later:
        assert later.folder(KEY, fill(), "toy.a").is_dir()
        later.folder(OTHER, never, "toy.b")
    assert later.use().used == {"toy.a": 1, "toy.b": 1} and later.use().built == {"toy.a": 1}
    assert not list((tmp_path / "cache" / SESSIONS).iterdir())


def test_what_kills_its_builder_twice_is_given_to_no_third(tmp_path: Path) -> None:
    with session_of(Store(tmp_path / "cache")) as built:
        for _ in range(2):
            child = os.fork()
            if child == 0:
                DiskOutputs(built.root, session=built.session).folder(KEY, lambda out: os.kill(os.getpid(), signal.SIGKILL), "toy.a")
            os.waitpid(child, 0)
        assert not built.building(), "nobody is at it"
        with pytest.raises(CacheError, match="killed its worker twice"):
            built.folder(KEY, never)


def test_what_is_being_built_is_shown(tmp_path: Path) -> None:
    with session_of(Store(tmp_path / "cache")) as built:

        def build(out: Path) -> None:
            [shown] = built.building()
            assert shown.where == f"toy.a ({KEY[:8]})" and 0 <= shown.seconds < 5

        built.folder(KEY, build, "toy.a")
        assert not built.building()


def test_an_output_goes_by_age_with_the_tables_unless_somebody_holds_it(kept: DiskOutputs, tmp_path: Path) -> None:
    kept.folder(KEY, fill())
    store = Store(tmp_path / "cache")
    assert store.collect(older=timedelta(0)) == []
    kept.close()
    assert [entry.key for entry in store.collect(older=timedelta(0))] == [KEY]
    assert not (tmp_path / "cache" / KIND / KEY).exists()
    assert kept.folder(KEY, fill()).is_dir(), "it is built again"


def test_the_limit_of_the_cache_holds_for_outputs_too(tmp_path: Path) -> None:
    small = DiskOutputs(tmp_path / "cache", limit=10_000)
    small.folder(KEY, fill("x" * 8_000))
    small.close()
    small.folder(OTHER, fill("y" * 8_000))
    assert [entry.key for entry in Store(tmp_path / "cache").entries()] == [OTHER]


def test_a_link_is_no_part_of_an_output(kept: DiskOutputs) -> None:
    with pytest.raises(CacheError, match="link: an output has files and folders only"):
        kept.folder(KEY, lambda out: (out / "link").symlink_to("/etc/hostname"))


def test_a_key_is_no_path(kept: DiskOutputs) -> None:
    with pytest.raises(CacheError, match="not a key"):
        kept.folder("../../etc", fill())
