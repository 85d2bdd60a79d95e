"""Ledgers in a database that a team shares: two drivers at once, a killed one, a server that goes away."""

from __future__ import annotations

import html
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from results import Ledger, LedgerError, LedgerLocked, pointer
from results.lock import is_written
from sweeps.cli import app
from sweeps.home import LEDGER, set_aside
from sweeps.kept import ELSEWHERE
from sweeps.opened import open_study
from sweeps.runner import run, verify
from sweeps.study import Study
from tests import servers

pytestmark = [pytest.mark.slow, pytest.mark.skipif(servers.PROGRAMS is None, reason=servers.WITHOUT)]
SMALL = ["data.bars=1500", "space={min_edge: [0.0, 0.001], intensity: [1.0, 1.1, 1.2]}"]


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    with servers.server() as made:
        yield made


def study(name: str) -> Study:
    return Study.load("selector_grid", [*SMALL, f"name={name}"])


def start(folder: Path, name: str, url: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sweeps.cli", "run", "selector_grid", "--dir", str(folder), "--set", f"name={name}"]
    command += [*(part for item in SMALL for part in ("--set", item)), "--ledger", url, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start_and_wait(folder: Path, name: str, url: str, *more: str) -> str:
    return start(folder, name, url, *more).communicate(timeout=120)[0]


def test_a_study_in_a_database_is_the_same_study_and_others_see_it(server: servers.Server, tmp_path: Path) -> None:
    result = run(study("alone"), tmp_path / "mine", here=60.0, ledger_url=server.url)
    local = run(study("alone"), tmp_path / "local", here=60.0)
    assert result.tally.done == 6 and verify(result.folder).certificate == verify(local.folder).certificate
    place = tmp_path / "mine" / "alone" / LEDGER
    assert place.read_text().startswith("postgresql+psycopg://") and len(place.read_text().splitlines()) == 1
    assert not list(place.parent.glob("ledger.sqlite-*")), "nothing of SQLite's"

    there = tmp_path / "colleague" / "alone" / LEDGER
    pointer.write(there, pointer.in_schema(server.url, "alone"))
    assert pointer.schemas(server.url) == ["alone"]
    board, own = open_study("alone", tmp_path / "colleague").leaderboard(judged=False), local.leaderboard(judged=False)
    assert board.drop(columns="seconds", errors="ignore").equals(own.drop(columns="seconds", errors="ignore"))

    again = run(study("alone"), tmp_path / "mine", here=60.0)  # its folder says where; the option need not be given again
    assert again.tally.done == 0 and again.tally.known == 6
    set_aside(result.folder)
    assert pointer.schemas(server.url) == ["alone.aside1"]
    fresh = run(study("alone"), tmp_path / "mine", here=60.0, ledger_url=server.url)
    assert fresh.tally.done == 6


def test_attaching_makes_folders_of_studies_only_and_of_none_that_was_set_aside(server: servers.Server, tmp_path: Path) -> None:
    run(study("Mixed.case"), tmp_path / "mine", here=60.0, ledger_url=server.url)
    run(study("own"), tmp_path / "mine", here=60.0, ledger_url=server.url)
    run(study("own"), tmp_path / "theirs", here=60.0)  # another one of that name
    with sa.create_engine(server.url).begin() as connection:
        for name in ("../outside", "Mixed.case.aside1"):
            connection.exec_driver_sql(f'CREATE SCHEMA "{name}"')
            connection.exec_driver_sql(f'CREATE TABLE "{name}".study (a int)')
    said = CliRunner().invoke(app, ["attach", server.url, "--dir", str(tmp_path / "theirs")]).output
    made = {path.name for path in (tmp_path / "theirs").iterdir()}
    assert "Mixed.case" in made and not made & {"Mixed.case.aside1", "outside"} and not (tmp_path / "outside").exists()
    assert "not of this database, and left as they are: own" in said
    assert pointer.read(tmp_path / "theirs" / "own" / LEDGER) is None
    assert open_study("Mixed.case", tmp_path / "theirs").verify().ok


def test_what_was_set_aside_in_the_database_before_a_crash_does_not_stop_the_folder_from_being(
    server: servers.Server, tmp_path: Path
) -> None:
    home = run(study("half"), tmp_path, here=60.0, ledger_url=server.url).folder
    pointer.rename_schema(server.url, "half", "half.aside1")
    assert not is_written(home / LEDGER)
    again = run(study("half"), tmp_path, here=60.0, fresh=True, ledger_url=server.url)
    assert again.tally.done == 6 and {"half", "half.aside1"} <= set(pointer.schemas(server.url))


def test_a_study_is_not_set_aside_for_a_database_that_cannot_take_the_new_one(server: servers.Server, tmp_path: Path) -> None:
    home = run(study("kept"), tmp_path, here=60.0).folder
    with sa.create_engine(server.url).begin() as connection:
        connection.exec_driver_sql("CREATE ROLE guest LOGIN")
    guest = server.url.replace("alphasweep@", "guest@")
    for url, message in (("postgresql://me@127.0.0.1:9/db", "cannot be used"), (guest, "lets guest make no ledger in it")):
        for name, fresh in (("kept", True), ("new", False)):
            with pytest.raises(LedgerError, match=message):
                run(study(name), tmp_path, here=60.0, fresh=fresh, ledger_url=url)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"] and verify(home).ok
    assert "GRANT CREATE ON DATABASE team TO guest" in start_and_wait(tmp_path, "kept", guest, "--fresh")
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["completed"] == 6


def test_asking_who_writes_keeps_one_connection_for_all_studies_of_a_database(server: servers.Server, tmp_path: Path) -> None:
    places = [tmp_path / name / LEDGER for name in ("a", "b")]
    for place in places:
        pointer.write(place, pointer.in_schema(server.url, place.parent.name))
    engine = sa.create_engine(server.url)

    def connected() -> set[int]:
        with engine.connect() as connection:
            return set(connection.exec_driver_sql("SELECT pid FROM pg_stat_activity WHERE datname = 'team'").scalars())

    assert not is_written(places[0])
    before = connected()
    for place in places * 3:
        assert not is_written(place) and connected() == before
    engine.dispose()


@pytest.mark.ray
def test_two_drivers_write_different_studies_at_once_and_one_study_has_one_writer(server: servers.Server, tmp_path: Path) -> None:
    both = [start(tmp_path, name, server.url) for name in ("left", "right")]
    said = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for name in ("left", "right"):
        found = verify(tmp_path / name)
        assert found.ok and found.points == 6, found

    place = tmp_path / "left" / LEDGER
    with Ledger.open(place):
        assert is_written(place) and not is_written(tmp_path / "right" / LEDGER)
        with pytest.raises(LedgerLocked, match="is being written by another session"):
            Ledger.open(place)
    assert not is_written(place)


@pytest.mark.ray
def test_a_killed_driver_loses_its_lock_and_nothing_else(server: servers.Server, tmp_path: Path) -> None:
    driver = start(
        tmp_path, "killed", server.url, "--set", "data.bars=26280", "--set", "space.risk_weight=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]"
    )
    place = tmp_path / "killed" / LEDGER
    end = time.monotonic() + 120
    while time.monotonic() < end and driver.poll() is None and not done(place):
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=30)
    end = time.monotonic() + 30
    while is_written(place) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_written(place)
    more = start(tmp_path, "killed", server.url, "--set", "data.bars=26280", "--set", "space.risk_weight=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]")
    said, _ = more.communicate(timeout=180)
    assert more.returncode == 0, said
    found = verify(tmp_path / "killed")
    assert found.ok and found.points == 48 and found.duplicated == 0, found


@pytest.mark.ray
def test_a_server_that_goes_away_ends_the_run_in_words_and_what_was_accepted_is_there_when_it_is_back(
    server: servers.Server, tmp_path: Path
) -> None:
    driver = start(tmp_path, "cut", server.url, "--set", "data.bars=26280", "--set", "space.risk_weight=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]")
    place = tmp_path / "cut" / LEDGER
    end = time.monotonic() + 120
    while time.monotonic() < end and driver.poll() is None and not done(place):
        time.sleep(0.1)
    server.stop()
    try:
        said, _ = driver.communicate(timeout=120)
        assert driver.returncode != 0 and "Traceback" not in said and "refused" in said, said
        with pytest.raises(LedgerError, match=r"refused|cannot be"):
            Ledger.open(place, readonly=True)
    finally:
        server.start()
    before = done(place)
    assert before > 0
    more = start(tmp_path, "cut", server.url, "--set", "data.bars=26280", "--set", "space.risk_weight=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]")
    said, _ = more.communicate(timeout=180)
    assert more.returncode == 0, said
    assert verify(tmp_path / "cut").ok


def done(place: Path) -> int:
    try:
        with Ledger.open(place, readonly=True) as ledger:
            return ledger.counts()["completed"]
    except ValueError:
        return 0


def test_a_folder_that_points_to_a_database_nobody_named_is_not_followed(
    server: servers.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(study("sent"), tmp_path / "mine", here=60.0, ledger_url=server.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody_else"))
    for look in (lambda: Ledger.open(result.folder / LEDGER, readonly=True), lambda: is_written(result.folder / LEDGER)):
        with pytest.raises(LedgerError, match=r"a database this account has not used yet.*alphasweep attach"):
            look()
    pointer.trust(server.url)
    assert verify(result.folder).ok and not is_written(result.folder / LEDGER)


def test_a_url_that_cannot_be_used_is_said_before_anything_is_written(tmp_path: Path) -> None:
    for url, message in (
        ("mysql://host/db", "'mysql' is neither"),
        ("nonsense", "the ledger's URL is not one"),
        ("postgresql://me:secret@127.0.0.1/db", "leave the password out"),
        ("postgresql://me@127.0.0.1/db?password=secret", "leave the password out"),
        ("postgresql://alphasweep@127.0.0.1:9/db", "cannot be used"),
    ):
        with pytest.raises(LedgerError, match=message) as error:
            run(study("nowhere"), tmp_path, here=60.0, ledger_url=url)
        assert "secret" not in str(error.value)
        assert not (tmp_path / "nowhere" / LEDGER).exists()


def test_names_that_postgresql_would_cut_off_or_keeps_for_itself_are_refused() -> None:
    for name in ("public", "pg_mine", "n" * 64):
        with pytest.raises(LedgerError, match="a study in a database"):
            pointer.in_schema("postgresql://me@host/db", name)
    assert len(pointer.aside("n" * 63, 12)) == 63 and pointer.is_aside(pointer.aside("n" * 63, 12))


@pytest.mark.ray
def test_a_campaign_keeps_the_ledgers_of_all_stages_in_a_database(server: servers.Server, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "campaign: team\nset: {data.bars: 1500}\nstages:\n"
        "  wide: {study: selector_grid, set: {space: {min_edge: [0.0, 0.001]}}}\n"
        "  narrow: {study: selector_grid, set: {space: {intensity: [1.0, 1.1]}}, carry: [{from: wide, fix: [min_edge]}]}\n"
    )
    call = ["campaign", "run", str(tmp_path / "c.yaml"), "--dir", str(tmp_path / "runs"), "--ledger"]
    nowhere = CliRunner().invoke(app, [*call, "postgresql://me@127.0.0.1:9/db"])
    assert nowhere.exit_code and "cannot be used" in str(nowhere.exception) and not (tmp_path / "runs").exists()
    done = CliRunner().invoke(app, [*call, server.url])
    assert done.exit_code == 0, done.output
    assert {"team.wide", "team.narrow"} <= set(pointer.schemas(server.url))
    assert pointer.read(tmp_path / "runs" / "team.narrow" / LEDGER) == pointer.in_schema(server.url, "team.narrow")


def test_an_attached_folder_says_where_daily_returns_are_and_all_else_works(server: servers.Server, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(study(name), tmp_path / "mine", here=60.0, ledger_url=server.url)
    there = tmp_path / "there"

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--dir", str(there)], env={"COLUMNS": "200"})
        assert done.exit_code == 0, (words, done.output, done.exception)
        return " ".join(done.output.split())

    assert "Daily returns stay in the folder of whoever ran a study" in call("attach", server.url)
    assert f"verdict n/a: {ELSEWHERE}" in call("leaderboard", "first")
    assert f"equity n/a: {ELSEWHERE}" in call("report", "first")
    page = html.unescape((there / "first" / "report.html").read_text())
    assert f"That cannot be said: {ELSEWHERE}" in page and "missing or damaged" not in page
    assert f"n/a, first: {ELSEWHERE}" in call("compare", "first", "second")
    assert "intensity" in call("show", "first", "0") and "first: verified" in call("verify", "first")
    own = CliRunner().invoke(app, ["leaderboard", "first", "--dir", str(tmp_path / "mine")])
    assert own.exit_code == 0 and "shared ledger" not in own.output
