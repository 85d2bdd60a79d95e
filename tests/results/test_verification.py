from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from results import Ledger, Verification


@pytest.fixture
def study(tmp_path: Path, make_header: Callable, make_rows: Callable, make_failed: Callable) -> tuple[Path, list[bytes]]:
    """A closed SQLite ledger with trials 0–19, the last failed, and the identities of its points."""
    path = tmp_path / "ledger.db"
    return path, write_study(path, make_header, make_rows, make_failed, range(19))


def write_study(path: Path, make_header: Callable, make_rows: Callable, make_failed: Callable, order: object) -> list[bytes]:
    with Ledger.create(path, make_header()) as ledger:
        context = ledger.header.context_id
        ledger.begin_session({})
        ledger.add_plan({}, {}, 20)
        for number in order:  # type: ignore[attr-defined]
            row = make_rows(context, [number])[0]._replace(seconds=random.random())
            ledger.accept(ledger.open_attempt(1, 1), [row])
        failed = make_failed(context, 19)
        ledger.accept(ledger.open_attempt(1, 1), [failed])
        return [row.config_id for row in make_rows(context, range(20))]


def verify(path: Path, expected: list[bytes]) -> Verification:
    with Ledger.open(path, readonly=True) as ledger:
        return ledger.verify([expected[:7], [], expected[7:]])


def tamper(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def test_an_untouched_ledger_verifies(study: tuple[Path, list[bytes]]) -> None:
    found = verify(*study)
    assert (found.points, found.completed, found.failed, found.missing) == (20, 19, 1, 0)
    assert (found.duplicated, found.corrupt, found.unexpected, found.problems) == (0, 0, 0, ())
    assert found.ok  # that a point failed is its result
    assert not replace(found, failed=0, missing=1).ok


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE trials SET m_sharpe = m_sharpe + 1e-12 WHERE trial = 7", "metric"),
        ("UPDATE trials SET m_loss = NULL WHERE trial = 7", "metric"),
        ("UPDATE trials SET status = 'failed' WHERE trial = 7", "status"),
        ("UPDATE trials SET status = 'completed' WHERE trial = 19", "status"),
        ("UPDATE trials SET config = replace(config, 'high_low', 'high') WHERE trial = 7", "configuration"),
        ("UPDATE trials SET checksum = zeroblob(8) WHERE trial = 7", "checksum"),
        ("UPDATE trials SET config_id = zeroblob(16) WHERE trial = 7", "configuration"),
    ],
)
def test_any_change_to_a_result_in_the_file_is_found(study: tuple[Path, list[bytes]], statement: str, word: str) -> None:
    before = verify(*study)
    tamper(study[0], statement)
    after = verify(*study)
    assert after.corrupt == 1 and not after.ok
    assert word in after.problems[0] and after.problems[0].startswith("trial ")
    if "SET config =" not in statement and "checksum" not in statement:
        assert after.certificate != before.certificate


def test_bookkeeping_is_not_part_of_the_certificate(study: tuple[Path, list[bytes]]) -> None:
    before = verify(*study)
    tamper(study[0], "UPDATE trials SET seconds = 99 WHERE trial = 3")
    assert verify(*study) == before


def test_missing_and_unexpected_points_are_counted(study: tuple[Path, list[bytes]]) -> None:
    path, points = study
    tamper(path, "DELETE FROM trials WHERE trial = 3")
    found = verify(path, points)
    assert (found.points, found.completed, found.failed, found.missing) == (20, 18, 1, 1)
    assert points[3].hex() in found.problems[1]
    found = verify(path, points[4:])
    assert (found.points, found.completed, found.failed, found.missing, found.unexpected) == (16, 15, 1, 0, 3)
    assert verify(path, points + points).points == 20


def test_an_identity_that_ends_in_zero_bytes_is_compared_whole(study: tuple[Path, list[bytes]]) -> None:
    path, points = study
    found = verify(path, [*points, points[0][:14] + b"\0\0", bytes(16)])
    assert found.points == 22 and found.missing == 2
    assert any((points[0][:14] + b"\0\0").hex() in problem for problem in found.problems)


def test_the_same_results_give_the_same_certificate_in_any_order(
    study: tuple[Path, list[bytes]], tmp_path: Path, make_header: Callable, make_rows: Callable, make_failed: Callable
) -> None:
    shuffled = list(range(19))
    random.Random(1).shuffle(shuffled)
    points = write_study(tmp_path / "again.db", make_header, make_rows, make_failed, shuffled)
    with closing(sqlite3.connect(tmp_path / "again.db")) as connection, connection:
        connection.execute("UPDATE trials SET trial = 1000 - trial")  # another search may have numbered them otherwise
    assert verify(tmp_path / "again.db", points) == verify(*study)


def test_points_not_evaluated_yet_are_incomplete_and_results_taken_away_are_not(study: tuple[Path, list[bytes]]) -> None:
    path, points = study
    more = verify(path, [*points, b"not yet".ljust(16)])
    assert (more.missing, more.vanished) == (1, 0) and more.intact and more.incomplete and not more.ok
    for trial in (3, 4):
        tamper(path, "DELETE FROM trials WHERE trial = ?", trial)
    less = verify(path, points)
    assert (less.missing, less.vanished) == (2, 2) and not (less.intact or less.incomplete or less.ok)
    assert less.problems[0] == "2 results were accepted and are gone"


def test_failures_tried_again_and_refused_repeats_have_not_vanished(
    tmp_path: Path, make_header: Callable, make_rows: Callable, make_failed: Callable
) -> None:
    points = write_study(tmp_path / "ledger.db", make_header, make_rows, make_failed, range(19))
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.begin_session({})
        again = make_rows(ledger.header.context_id, [1, 2])
        assert ledger.accept(ledger.open_attempt(1, 2), again).rejected == 2
        assert ledger.reopen_failed() == [19]
        assert ledger.verify([points]).vanished == 0 and ledger.verify([points]).incomplete
        late = ledger.open_attempt(1, 1)
        ledger.close_attempt(late, "lost")
        ledger.accept(late, make_rows(ledger.header.context_id, [19]))
        assert ledger.verify([points]).vanished == 0
        ledger.accept(ledger.open_attempt(1, 1), make_rows(ledger.header.context_id, [19]))
        assert ledger.verify([points]).ok
        assert ledger.trial(19)["failures"] == ["ValueError: no"] and ledger.trial(1)["failures"] == []
