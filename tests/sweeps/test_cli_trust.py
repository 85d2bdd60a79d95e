"""The commands that say whether to believe a study, before and after it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps import Study, run

Command = Callable[..., Any]
SMALL = ("--set", "data.bars=600", "--set", "data.symbols=[BTCUSD, ETHUSD]")


def test_plan_draws_the_cuts_and_counts_the_space(command: Command) -> None:
    done = command("plan", "selector_grid")
    assert done.code == 0
    lines = done.out.splitlines()
    folds = [line for line in lines if re.match(r"  fold \d ", line)]
    assert len(folds) == 4 and all("░" in line and "█" in line for line in folds)
    starts = [line.index("█") for line in folds]
    assert starts == sorted(set(starts)), "tune windows follow one another"
    [sealed] = [line for line in lines if "▓" in line and line.startswith("  holdout")]
    assert sealed.index("▓") > max(line.rindex("█") for line in folds)
    assert "54 configurations (grid)" in done.out and max(map(len, lines)) <= 80


def test_too_little_data_for_the_protocol_is_told_by_how_much(command: Command) -> None:
    done = command("plan", "selector_grid", "--set", "data.bars=150")
    assert done.code == 2 and re.search(r"the data cover 6\.25 days; .* need .* more", done.err)
    done = command("plan", "selector_grid", "--set", "protocol.fold=2")
    assert done.code == 2 and "protocol.fold: no such key; did you mean 'folds'?" in done.err


def test_audit_passes_the_honest_rules_and_fails_the_others(command: Command) -> None:
    honest = command("audit", "selector_grid", *SMALL, "--trials", "2", "--cuts", "2")
    assert honest.code == 0 and "FAILED" not in honest.out
    assert re.search(r"future +passed", honest.out) and re.search(r"batch +passed", honest.out)
    legacy = command("audit", "selector_grid", *SMALL, "--trials", "1", "--cuts", "3", "--set", "settings.profile=legacy")
    assert legacy.code == 1 and re.search(r"next bar +FAILED +candidates", legacy.out)


def test_leaderboard_judges_and_promote_opens_once(command: Command, tmp_path: Path) -> None:
    loaded = Study.load("selector_grid", ["data.symbols=[BTCUSD, ETHUSD]", "space.risk_weight=[0.75]"])
    run(loaded, tmp_path, here=60.0)
    board = command("leaderboard", "selector_grid", "--dir", tmp_path)
    assert board.code == 0
    for name in ("verdict", "looks", "against", "overfitting", "folds", "winner", "holdout"):
        assert re.search(rf"^  {name} ", board.out, re.MULTILINE), name
    assert "  holdout      sealed" in board.out
    first = command("promote", "selector_grid", "--dir", tmp_path)
    assert first.code == 0 and "opening 1" in first.out and re.search(r"total_return +-?\d", first.out)
    second = command("promote", "selector_grid", "--dir", tmp_path)
    assert second.code == 2 and "--again" in second.err
    assert "  holdout      opened 1×" in command("leaderboard", "selector_grid", "--dir", tmp_path).out
