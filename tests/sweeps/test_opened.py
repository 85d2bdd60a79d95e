"""A study on disk, opened without running it: boards and files with verdicts, and what `verify` and `show` say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results import Ledger, ResultRow, config_ids, series
from sweeps import Study, StudyResult, open_study
from sweeps.commands.results import _looks, describe
from sweeps.evidence import judge
from sweeps.home import header_of
from sweeps.opened import OpenStudy
from sweeps.runner import LEDGER, Search
from sweeps.study import StudyError

Command = Callable[..., Any]
FILE = """\
name: toy
trainable: alphasweep_toys:Parabola
space:
  x: [0, 1, 2, 4, 5]
  shape: [round, flat]
"""
DAYS = 400
SOME_RETURNS = np.random.default_rng(1).normal(0.002, 0.01, (10, DAYS)).astype(np.float32)


@pytest.fixture
def file(toys: Path, tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(FILE)
    return path


def ask(file: Path, *options: str, done: int | None = None, returns: np.ndarray | None = None) -> Path:
    """Asks for a search as `run` does, without Ray: the first `done` points get a result; returns the folder of studies."""
    study = Study.load(file, options)
    search = Search(study)
    header = header_of(search, search.prepare())
    home = file.parent / "runs" / study.name
    home.mkdir(parents=True, exist_ok=True)
    size = search.sampler.size
    configs = [search.config(c) for c in search.sampler.configs(0, size if done is None else done)]
    ids = config_ids(header.context_id, configs, header.defaults)
    with Ledger.open(home / LEDGER) if (home / LEDGER).exists() else Ledger.create(home / LEDGER, header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), search.plan_spec, size)
        known = ledger.known(ids)
        rows = [
            ResultRow(plan.offset + i, ids[i], c, "completed", [-((c["x"] - 1) ** 2), c["x"], c["x"] / 10])
            for i, c in enumerate(configs)
            if ids[i] not in known
        ]
        attempt = ledger.open_attempt(plan.plan_id, len(rows))
        if returns is not None:
            days = np.arange(returns.shape[1]).astype("datetime64[D]")
            series.write_days(home, days, np.arange(len(days)) * 4 // len(days), {"flat": np.zeros(len(days))})
            series.write(ledger, home, attempt, ids[: len(returns)], returns)
        ledger.accept(attempt, rows)
    return home.parent


def test_a_study_is_opened_by_name_or_file_without_loading_any_data(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ask(file, returns=SOME_RETURNS)
    monkeypatch.setattr("sweeps.search.Search.prepare", lambda *_: pytest.fail("data were loaded"))
    for name in ("toy", str(file)):
        opened = open_study(name, folder)
        assert type(opened) is OpenStudy and (opened.study.name, opened.folder) == ("toy", folder / "toy")
        assert opened.leaderboard(top=3)["trial"].tolist() == [2, 3, 0]
        assert opened.leaderboard(1, "cost")["trial"].item() == 0
        assert opened.judge(top=3).assessment is not None
        assert len(opened.frame()) == 10 and opened.failed == 0 and opened.verify().ok
    assert issubclass(StudyResult, OpenStudy) and not {"tally", "stopped", "prepared"} & set(OpenStudy.__dataclass_fields__)


def test_a_study_that_is_not_there_is_refused_with_the_nearest_name(file: Path, tmp_path: Path) -> None:
    folder = ask(file)
    with pytest.raises(StudyError, match=r"toyy: no study of that name has run in .*Did you mean 'toy'"):
        open_study("toyy", folder)
    with pytest.raises(StudyError, match=r"toy: no study has run in .*: there is no such folder"):
        open_study("toy", tmp_path / "nowhere")


def test_a_leaderboard_has_what_is_known_of_each_trial_and_nothing_where_no_returns_were_kept(file: Path) -> None:
    same = SOME_RETURNS.copy()
    same[3] = same[2]
    opened = open_study("toy", ask(file, returns=same[:4]))
    board = opened.leaderboard(top=5)
    assert board.columns[:5].tolist() == ["rank", "trial", "score", "verdict", "dsr"]
    assert board["trial"].tolist() == [2, 3, 0, 1, 4] and board["alike"].tolist()[:4] == [2, 2, 1, 1]
    assert board["verdict"].tolist()[:4] == opened.judge().by_trial().loc[[2, 3, 0, 1], "verdict"].tolist()
    assert board["folds_won"].between(0, 4).tolist()[:4] == [True] * 4
    last = board.iloc[4][["verdict", "verdict_words", "dsr", "psr", "sharpe_low", "sharpe_high", "alike", "folds_won"]]
    assert last.isna().all()
    plain = opened.leaderboard(top=5, judged=False)
    assert "verdict" not in plain and plain["trial"].tolist() == board["trial"].tolist()
    folded = opened.judge(top=5).board
    assert folded["trial"].tolist() == [2, 0, 1, 4, 5] and folded["rank"].tolist() == [1, 2, 3, 4, 5]


def test_without_daily_returns_a_board_and_a_file_have_no_columns_of_verdicts(command: Command, file: Path, tmp_path: Path) -> None:
    folder = ask(file)
    assert "verdict" not in open_study("toy", folder).leaderboard()
    done = command("leaderboard", "toy", "--dir", folder, "--csv", tmp_path / "all.csv")
    assert "n/a: no daily returns were kept of these trials" in done.out and "verdict" not in pd.read_csv(tmp_path / "all.csv")


def test_figures_do_not_depend_on_how_many_rows_are_shown_or_which_metric_sorts(file: Path) -> None:
    folder = ask(file, returns=SOME_RETURNS)
    every = judge(folder / "toy").by_trial()
    assert every is not None
    for found in (judge(folder / "toy", top=1), judge(folder / "toy", "cost", top=3)):
        shown = found.board.set_index("trial")[["dsr", "psr", "sharpe_low", "sharpe_high"]]
        pd.testing.assert_frame_equal(shown, every.loc[shown.index, shown.columns], rtol=1e-9)
        assert found.assessment is not None
        winner = found.board.iloc[0]
        assert winner["verdict_words"] == str(found.assessment.verdict)
        assert winner["sharpe_low"] == pytest.approx(found.assessment.intervals["sharpe"].low[0], rel=1e-9)


@pytest.mark.parametrize("options", [(), ("--pareto", "score,cost"), ("--where", "score > 5")])
def test_files_have_the_verdicts_whatever_the_terminal_shows(
    command: Command, file: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = ask(file, returns=SOME_RETURNS[:4])
    done = command("leaderboard", "toy", "--dir", folder, *options, "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert done.code == 0
    table, records = pd.read_csv(tmp_path / "a.csv"), json.loads((tmp_path / "a.json").read_text())
    assert table["verdict"].notna().tolist() == [True] * 4 + [False] * 6 == [bool(r["evidence"]) for r in records]
    judged = judge(folder / "toy").by_trial()
    assert judged is not None
    np.testing.assert_allclose(table["dsr"][:4], judged["dsr"])
    assert records[2]["evidence"]["verdict_words"] == judged["verdict_words"][2] == table["verdict_words"][2]


def test_trials_that_cannot_be_told_apart_have_a_reason_in_place_of_pbo_and_stability(command: Command, file: Path) -> None:
    folder = ask(file, returns=np.repeat(SOME_RETURNS[:1], 10, axis=0))
    done = command("leaderboard", "toy", "--dir", folder)
    assert "  overfitting  PBO n/a: all 10 trials behave identically\n" in done.out
    assert "  folds        rank stability n/a: all 10 trials behave identically\n" in done.out


def test_a_winner_without_returns_is_not_judged_and_the_others_are(command: Command, file: Path) -> None:
    folder = ask(file, returns=SOME_RETURNS[:1])
    found = judge(folder / "toy")
    assert found.assessment is None and found.board.set_index("trial")["verdict"].notna().sum() == 1
    assert (
        "n/a: no daily returns were kept of trial 2; a run that ends keeps the best" in command("leaderboard", "toy", "--dir", folder).out
    )


def test_looks_are_split_into_those_clustered_and_those_counted_singly_on_one_line(file: Path) -> None:
    folder = ask(file, returns=SOME_RETURNS)
    alone = judge(folder / "toy")
    assert re.fullmatch(r"10, clustered into [\d.]+ independent trials", str(dict(describe(alone))["looks"]))
    ask(file, "name=sister", "space.x=[7, 8, 9]")
    crowded = judge(folder / "toy")
    assert crowded.assessment is not None and crowded.assessment.deflation is not None and alone.assessment is not None
    words = str(dict(describe(crowded))["looks"])
    assert re.fullmatch(r"16: 10 clustered into [\d.]+ independent, 6 elsewhere counted singly", words)
    big = replace(crowded.assessment.deflation, looks=1_012_054, effective=123.4)
    assert len(f"  {'looks':<12} {_looks(crowded, big)}") <= 100


def test_a_study_that_was_stopped_is_incomplete_and_says_what_goes_on(command: Command, file: Path) -> None:
    folder = ask(file, done=6)
    done = command("verify", file, "--dir", folder)
    assert done.code == 1 and "NOT verified" not in done.out and "no result for configuration" not in done.out
    assert f"  incomplete: 6 of 10 points have a result; alphasweep run {file} --dir {folder} goes on\n" in done.out
    ask(file)
    assert command("verify", file, "--dir", folder).code == 0


def test_a_leaderboard_says_how_far_an_unfinished_study_is_and_why_there_is_no_table_yet(command: Command, file: Path) -> None:
    folder = ask(file, done=0)
    done = command("leaderboard", "toy", "--dir", folder)
    assert (done.code, "rank  trial" in done.out) == (0, False)
    assert done.out.startswith("toy: nothing to rank before a first trial is completed\n")
    assert "  trials       0 of 10 have a result (closed); the same run goes on\n" in done.out
    ask(file, done=6)
    assert "  trials       6 of 10 have a result (closed); the same run goes on\n" in command("leaderboard", "toy", "--dir", folder).out
    ask(file)
    done = command("leaderboard", "toy", "--dir", folder)
    assert "rank  trial" in done.out and "have a result" not in done.out


def test_a_study_that_does_not_cut_time_has_no_holdout_to_seal_or_to_open(command: Command, file: Path) -> None:
    folder = ask(file)
    assert "  holdout      none: alphasweep_toys:Parabola does not cut time\n" in command("leaderboard", "toy", "--dir", folder).out
    done = command("promote", "toy", "--dir", folder)
    assert done.code == 2
    assert "toy: no holdout: alphasweep_toys:Parabola does not cut time, so there is nothing to open" in done.err
    with Ledger.open(folder / "toy" / LEDGER, readonly=True) as ledger:
        assert not ledger.events("holdout_opened")


def test_an_earlier_search_with_more_trials_is_named_as_the_incomplete_one(command: Command, file: Path) -> None:
    folder = ask(file, "search.trials=8", "search.sampler=grid", done=5)
    ask(file, "search.trials=4", "search.sampler=grid")
    done = command("verify", file, "--dir", folder)
    assert done.code == 1
    which = r"\(plan 1: grid, 8 trials, asked \d{4}-.* UTC\)"
    assert re.search(rf"  incomplete: \d of 8 points have a result {which}; alphasweep run .* --trials 8 goes on\n", done.out), done.out
    assert re.search(r"  the latest search \(plan 2: grid, 4 trials, asked .* UTC\) is complete\n", done.out)
    # Another grid than the file's is not what the file's command goes on with.
    ask(file, "space.x=[6, 7]", done=1)
    assert "(plan 3: grid, all, asked " in (told := command("verify", file, "--dir", folder).out)
    assert told.count("; the same alphasweep run command goes on\n") == 1


def test_a_deleted_result_is_damage_and_not_a_run_that_was_stopped(command: Command, file: Path) -> None:
    import sqlite3

    folder = ask(file, done=6)
    with sqlite3.connect(folder / "toy" / LEDGER) as connection:
        connection.execute("DELETE FROM trials WHERE trial = 2")
    done = command("verify", "toy", "--dir", folder)
    assert done.code == 1 and "toy: NOT verified" in done.out and "  1 results were accepted and are gone\n" in done.out


def test_show_tells_of_earlier_tries_in_words_and_of_no_fencing_number(command: Command, file: Path) -> None:
    folder = ask(file, done=6)
    assert "attempt" not in command("show", "toy", 0, "--dir", folder).out
    with Ledger.open(folder / "toy" / LEDGER) as ledger:
        ledger.begin_session({})
        config = Search(Study.load(file)).sampler.configs(6, 7)[0]
        [identity] = config_ids(ledger.header.context_id, [config], ledger.header.defaults)
        ledger.accept(ledger.open_attempt(1, 1), [ResultRow(6, identity, config, "failed", None, None, "ValueError: no\nvalue")])
        ledger.reopen_failed()
        ledger.accept(ledger.open_attempt(1, 1), [ResultRow(6, identity, config, "completed", [0.0, 1.0, 2.0])])
    assert re.search(r" tried +2 times; before this it failed: ValueError: no value +\n", command("show", "toy", 6, "--dir", folder).out)


def test_a_metric_without_a_direction_is_refused_by_sort(command: Command, file: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alphasweep_toys  # type: ignore[import-not-found]

    from results import Metric

    monkeypatch.setattr(alphasweep_toys.Parabola, "metrics", (*alphasweep_toys.Parabola.metrics[:2], Metric("share", None)))
    done = command("leaderboard", "toy", "--dir", ask(file), "--sort", "share")
    assert done.code == 2 and "cannot rank by share: more is neither better nor worse; metrics with a direction are score, cost" in done.err
