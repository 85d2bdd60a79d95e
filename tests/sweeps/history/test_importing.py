"""Imported studies: once however often, only what is new, nothing replaced, nothing counted as evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from results import Header, Ledger, LedgerError, Metric, ResultRow, config_ids
from results.leaderboard import IMPORTED, UNVERIFIED, leaderboard, render
from sweeps.evidence import count_looks
from sweeps.history import HistoryError, is_imported, note_of
from sweeps.history.importing import Options, carry_out, plan
from sweeps.history.storing import Outcome
from sweeps.home import LEDGER
from trainables.contract import HISTORICAL, Registry, TrainableError

Command = Callable[..., Any]

LOG = """\
# Progress

## Policies

| Date | Run | total_return | sharpe | Notes |
|---|---|---|---|---|
| 2026-02-05 | a | +20 % | 1.5 | first |
| 2026-02-05 | b | 10% | **2.5** | |
| 2026-02-06 | c | (running) | - | |
"""
LONGER = LOG + "| 2026-02-07 | d | 5 % | 0.5 | later |\n"
WIDER = LONGER + "\n## Preaug sweep\n\n| Run | Preaug | eval_loss |\n|---|---|---|\n| p | none | 0.0157 |\n"
ROOT = Path(__file__).parents[3]
SEEDS = ROOT.parent / "shared" / "seeds"


def bring(home: Path, *files: Path, fresh: bool = False, dry: bool = False, **options: Any) -> Outcome:
    return carry_out(plan(files, home, Options(**options), fresh), dry=dry, fresh=fresh)


def write(folder: Path, text: str, name: str = "log.md") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(home: Path) -> list[dict[str, Any]]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return [ledger.trial(int(number)) | {"note": note_of(ledger, int(number))} for number in ledger.numbers(0, 10**12)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "old"


def test_rows_are_completed_trials_with_their_source_and_their_note(tmp_path: Path, home: Path) -> None:
    done = bring(home, write(tmp_path, LOG))
    assert (done.new, done.same, done.blank, done.changes, done.faults, done.total) == (2, 0, 1, 0, 0, 2)
    first, second = rows(home)
    assert first["config"] == {"section": "Policies", "date": "2026-02-05", "run": "a"}
    assert first["metrics"] == {"total_return": 0.2, "sharpe": 1.5}
    assert (first["source"], first["note"]) == (f"unverified {tmp_path}/log.md:7", "first")
    assert (second["metrics"]["sharpe"], second["note"], second["intact"]) == (2.5, "", True)


def test_the_same_file_twice_is_imported_once_and_leaves_no_trace_of_the_second_time(tmp_path: Path, home: Path) -> None:
    path = write(tmp_path, LOG)
    bring(home, path)
    before = (home / LEDGER).read_bytes()
    done = bring(home, path)
    assert (done.new, done.same, done.total) == (0, 2, 2)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert ledger.counts()["sessions"] == 1
    assert (home / LEDGER).read_bytes() == before


def test_of_a_longer_version_only_the_new_rows_are_added(tmp_path: Path, home: Path) -> None:
    bring(home, write(tmp_path, LOG))
    before = rows(home)
    done = bring(home, write(tmp_path, LONGER, "log_2.md"))
    assert (done.new, done.same, done.total) == (1, 2, 3)
    after = rows(home)
    assert [row["checksum"] for row in after[:2]] == [row["checksum"] for row in before]
    assert (after[2]["config"]["run"], after[2]["note"]) == ("d", "later")


def test_a_changed_row_or_note_is_told_and_stays_as_it_was(tmp_path: Path, home: Path) -> None:
    bring(home, write(tmp_path, LOG))
    done = bring(home, write(tmp_path, LOG.replace("+20 %", "30 %").replace("| **2.5** | |", "| 2.5 | new words |")))
    assert (done.new, done.same, done.changes) == (0, 0, 2)
    assert [str(change) for change in done.changed] == [
        f"{tmp_path}/log.md, line 7: total_return is 30 % here and 20 % in trial 0 ({tmp_path}/log.md:7); kept as it was",
        f"{tmp_path}/log.md, line 8: its note differs from that of trial 1 ({tmp_path}/log.md:8); kept as it was",
    ]
    assert rows(home)[0]["metrics"]["total_return"] == 0.2
    done = bring(home, tmp_path / "log.md", fresh=True)
    assert (done.new, rows(home)[0]["metrics"]["total_return"]) == (2, 0.3)
    assert (home.parent / ".aside" / "old.1" / LEDGER).exists()


def test_rows_that_say_different_things_of_one_configuration_are_told(tmp_path: Path, home: Path) -> None:
    done = bring(home, write(tmp_path, LOG + "| 2026-02-05 | a | 25 % | 1.5 | first |\n| 2026-02-05 | a | 20% | 1.5 | first |\n"))
    assert (done.new, done.same, done.changes) == (2, 1, 1)
    assert "line 10: total_return is 25 % here and 20 % in line 7" in str(done.changed[0])


def test_a_later_table_with_another_metric_widens_the_study_and_keeps_every_row(tmp_path: Path, home: Path) -> None:
    bring(home, write(tmp_path, LONGER))
    before = rows(home)
    done = bring(home, write(tmp_path, WIDER))
    assert (done.new, done.same, done.widened) == (1, 3, ("eval_loss",))
    after = rows(home)
    assert [row["trial"] for row in after] == [0, 1, 2, 4]  # the plan of the first import had a row without a result
    for old, new in zip(before, after, strict=False):
        assert {key: old[key] for key in ("trial", "config_id", "config", "source", "note")} == {
            key: new[key] for key in ("trial", "config_id", "config", "source", "note")
        }
        assert new["metrics"] == old["metrics"] | {"eval_loss": None}
        assert new["intact"]
    assert after[3]["metrics"] == {"total_return": None, "sharpe": None, "eval_loss": 0.0157}
    assert bring(home, tmp_path / "log.md").new == 0


def test_csv_and_markdown_stand_in_one_study(tmp_path: Path, home: Path) -> None:
    sweep = write(tmp_path, "min_edge,total_return,sortino\n0.1,0.5,3\n0.2,0.4,2\n", "sweep.csv")
    done = bring(home, write(tmp_path, LOG), sweep)
    assert done.new == 4
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        board = leaderboard(ledger)
        assert board["total_return"].tolist() == [0.5, 0.4, 0.2, 0.1]
        assert board["section"].tolist() == ["sweep", "sweep", "Policies", "Policies"]


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path, home: Path) -> None:
    assert bring(home, write(tmp_path, LOG), dry=True).new == 2
    assert not home.exists()
    bring(home, tmp_path / "log.md")
    before = (home / LEDGER).read_bytes()
    done = bring(home, write(tmp_path, WIDER), dry=True)
    assert (done.new, done.same, done.total, done.widened) == (2, 2, 4, ("eval_loss",))
    assert (home / LEDGER).read_bytes() == before
    assert sorted(path.name for path in home.parent.iterdir()) == ["old"]


def test_an_import_that_was_cut_short_goes_on(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x,sharpe,notes\n" + "".join(f"{i},{i / 10},n{i}\n" for i in range(50))
    path = write(tmp_path, text, "sweep.csv")
    monkeypatch.setattr("sweeps.history.storing.CHUNK", 10)

    def stop(rows: int) -> None:
        if rows == 30:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        carry_out(plan([path], home, Options()), at=stop)
    assert len(rows(home)) == 30
    from sweeps.asked import unfinished

    assert "import was cut short" in unfinished(home)
    done = bring(home, path)
    assert (done.new, done.same, done.total) == (20, 30, 50)
    assert unfinished(home) == ""
    assert {row["note"] for row in rows(home)} == {f"n{i}" for i in range(50)}


def test_options_of_the_first_import_hold_for_the_next(tmp_path: Path, home: Path) -> None:
    text = "run,hit factor,stamp,pnl\na,4,1,5 %\n"
    bring(home, write(tmp_path, text, "sweep.csv"), metrics=("hit factor:max:%",), notes=("stamp",), objective="hit factor")
    done = bring(home, write(tmp_path, "run,hit factor,stamp,pnl\na,4,2,0.05\nb,6,3,0.1\n", "sweep.csv"))
    assert (done.new, done.same, done.changes) == (1, 0, 1)  # the stamp is a note now, and it changed
    assert [row["metrics"] for row in rows(home)] == [
        {"hit_factor": 0.04, "total_return": 0.05},
        {"hit_factor": 0.06, "total_return": 0.1},  # PnL in percent stays a return, where no cell says so
    ]
    with pytest.raises(HistoryError, match="ranks by hit_factor"):
        plan([tmp_path / "sweep.csv"], home, Options(objective="total_return"))


def test_a_column_is_not_read_otherwise_than_before(tmp_path: Path, home: Path) -> None:
    path = write(tmp_path, LOG)
    bring(home, path)
    with pytest.raises(HistoryError, match="date: it became a parameter before"):
        plan([path], home, Options(notes=("date",)))
    with pytest.raises(HistoryError, match="earlier imports were without it"):
        plan([path], home, Options(from_notes=True))
    plan([path], home, Options(parameters=("date",), metrics=("sharpe:max",)))  # what it was anyway
    plan([path], home, Options(notes=("date",)), fresh=True)


def test_what_cannot_be_imported_is_a_message_and_makes_no_study(tmp_path: Path, home: Path) -> None:
    for text, told in (
        ("# nothing\n", "there is no table in it"),
        ("| File | What |\n|---|---|\n| a | b |\n", r"line 1: no metric among its columns \(File, What\)"),
        ("| Run | Sharpe |\n|---|---|\n| a | TBD |\n", "no row has a result, of 1"),
        ("| Run | Trades |\n|---|---|\n| a | 3 |\n", "say --metric trades:max or :min"),
    ):
        with pytest.raises(HistoryError, match=told):
            bring(home, write(tmp_path, text))
    assert not home.exists()
    with pytest.raises(ValueError, match="letters, digits"):
        plan([write(tmp_path, LOG)], tmp_path / "no good", Options())


def test_a_study_that_ran_is_never_added_to(tmp_path: Path, home: Path) -> None:
    context = {"trainable": "selector", "version": "1", "data_fingerprint": "x", "protocol": {}, "seed": 0}
    Ledger.create(home / LEDGER, Header("old", {}, context, (Metric("sharpe", "max"),), "sharpe")).close()
    with pytest.raises(HistoryError, match="a study of this name has run"):
        plan([write(tmp_path, LOG)], home, Options())


def test_imported_results_are_no_looks_and_no_study_takes_them_over(tmp_path: Path, home: Path) -> None:
    bring(home, write(tmp_path, LOG))
    other = home.parent / "other"
    bring(other, tmp_path / "log.md")
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        header = ledger.header
        fingerprint = str(header.context["data_fingerprint"])
    assert fingerprint == "imported: old"
    assert count_looks(home.parent, fingerprint, home).trials == 0
    with Ledger.open(other / LEDGER, readonly=True) as ledger:
        assert ledger.header.context_id != header.context_id
    # One that runs, with the same parameters and metrics: other conditions, so nothing of it can be taken.
    config = {"section": "Policies", "date": "2026-02-05", "run": "a"}
    context = header.context | {"trainable": "selector", "version": "1", "data_fingerprint": "f00d"}
    with Ledger.create(home.parent / "new" / LEDGER, Header("new", {}, context, header.metrics, header.objective)) as new:
        [key] = config_ids(new.header.context_id, [config])
        with pytest.raises(LedgerError, match="cannot be reused"):
            new.reuse_from(home / LEDGER, {key: 0})
        new.begin_session({})
        attempt = new.open_attempt(new.add_plan({}, {}, 1).plan_id, 1)
        new.accept(attempt, [ResultRow(0, key, config, metrics=[0.1, 1.0])])
    assert count_looks(home.parent, "f00d").trials == 1


def test_a_leaderboard_marks_every_imported_row(tmp_path: Path, home: Path) -> None:
    bring(home, write(tmp_path, LOG))
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert is_imported(ledger.header)
        board = leaderboard(ledger)
    assert board.attrs["imported"]
    table = render(board)
    assert UNVERIFIED in str(table.title)
    assert list(table.columns[0].cells) == ["1 ?", "2 ?"]
    assert "? is an unverified result" in str(table.caption)


def test_nothing_can_be_evaluated_with_the_trainable_of_imported_results() -> None:
    assert HISTORICAL == IMPORTED
    with pytest.raises(TrainableError, match="imported from records"):
        Registry().load(HISTORICAL)


def test_a_secret_that_a_log_quotes_does_not_get_into_the_ledger(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_API_KEY", "s3cr3t-value-of-mine")
    text = "## s3cr3t-value-of-mine\n\n| Run | Sharpe | Notes |\n|---|---|---|\n| s3cr3t-value-of-mine | 1 | key s3cr3t-value-of-mine |\n"
    bring(home, write(tmp_path, text))
    assert b"s3cr3t-value-of-mine" not in (home / LEDGER).read_bytes()
    [row] = rows(home)
    assert (row["config"]["run"], row["note"]) == ("[BROKER_API_KEY]", "key [BROKER_API_KEY]")


@pytest.mark.slow
def test_a_long_file_is_read_in_bounded_memory(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    path = tmp_path / "sweep.csv"
    with path.open("w") as file:
        file.write("a,b,note,sharpe\n")
        file.writelines(f"{i % 100},{i},{'words ' * 20},{i / 7}\n" for i in range(10_000))
    monkeypatch.setattr("sweeps.history.storing.CHUNK", 1_000)
    made = plan([path], home, Options())
    tracemalloc.start()
    assert carry_out(made).new == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # a chunk takes 5, and all rows would take more


@pytest.mark.parametrize(
    ("start", "imported", "blank", "left_out"),
    [("001", 47, 2, 1), ("000", None, 0, 1), ("002", None, 4, 0), ("003", None, 3, 1), ("004", None, 0, 0)],
)
def test_the_documents_people_have_are_read(home: Path, start: str, imported: int | None, blank: int, left_out: int) -> None:
    found = sorted(SEEDS.glob(f"{start}_*.txt"))
    if not found:
        pytest.skip(f"the documents are not in {SEEDS}")
    made = plan(found, home, Options())
    assert sum(bool(part.why) for part in made.found.parts) == left_out
    assert sum(row is None for row in made.found.records(lambda problem: None)) == blank
    if imported is None:
        with pytest.raises(HistoryError, match="nothing to import"):
            carry_out(made)
        return
    done = carry_out(made)
    assert (done.new, done.faults) == (imported, 0)
    best = rows(home)[0]
    assert best["metrics"]["total_return"] == 1.6463 and best["metrics"]["annualised_return_365"] == 2.669e15
    assert rows(home)[21]["config"]["lr"] == 1e-5
    assert json.dumps(best["config"]).isascii()
