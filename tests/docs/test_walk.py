"""The walk from the published rules to honest ones shows what its page says it shows."""

import runpy
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "walk.md").read_text(encoding="utf-8")
SEEDS = range(1, 31)


@pytest.fixture(scope="module")
def program():
    return runpy.run_path(str(DOCS / "walk.py"))


@pytest.fixture(scope="module")
def walks(program):
    return [program["measure"](SEEDS, signal) for signal in (program["SIGNAL"], 0.0)]


def place(program, start: str) -> int:
    return next(i for i, step in enumerate(program["STEPS"]) if step.name.startswith(start))


def test_published_rules_show_a_large_profit_on_a_market_without_an_edge_and_the_honest_end_does_not(walks):
    _, null = walks
    assert (null.growth[:, 0] > 0.15).all() and null.level[0] > 0.4
    assert (null.growth[:, -1] < 0).all() and null.level[-1] < -0.1


def test_filling_in_the_next_bar_takes_most_of_it_away(program, walks):
    for walk in walks:
        lag = place(program, "lag")
        assert walk.change[lag] < 0.6 * (walk.level[-1] - walk.level[0]) < 0
        assert (walk.growth[:, lag] < walk.growth[:, 0]).all()


def test_the_planted_signal_is_worth_something_at_every_step(walks):
    kept, null = walks
    assert (kept.level > null.level).all()


def test_steps_add_up_to_the_honest_end(walks):
    for walk in walks:
        np.testing.assert_allclose(walk.change.sum(), walk.level[-1])
        np.testing.assert_allclose(walk.change[1:], np.diff(walk.level))


def test_each_step_leaves_the_rules_before_it_in_force(program):
    profiles = [step.profile for step in program["STEPS"]]
    assert profiles == sorted(profiles)  # legacy, then realistic for good
    steps = program["STEPS"]
    assert all(steps[i].changes.items() <= steps[i + 1].changes.items() for i in range(2))
    assert all(steps[i].changes.items() >= steps[i + 1].changes.items() for i in range(3, 7))  # realistic rules are switched on one by one
    assert [step.costs is None for step in steps] == [False] * 5 + [True] * 3


def test_a_walk_is_the_same_whoever_walks_beside_it(program, walks):
    growth, trades, _ = program["walk"](3, program["SIGNAL"])
    np.testing.assert_array_equal(growth, walks[0].growth[2])
    np.testing.assert_array_equal(trades, walks[0].trades[2])


def test_the_page_s_table_is_that_of_the_program(program, walks):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    assert lines[2:] == [[*signal, *null[3:]] for signal, null in zip(*map(program["rows"], walks), strict=True)]
    signal, null = map(program["whole"], walks)
    assert f"returns {signal} with the signal and {null} without" in PAGE


def test_the_program_prints_its_tables_and_draws_its_picture(program, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("sys.argv", ["walk.py", "--seeds", "1", "--out", str(tmp_path / "p.png")])
    program["main"]()
    printed = capsys.readouterr().out
    assert all(printed.count(step.name) == 2 for step in program["STEPS"])
    assert 5_000 < (tmp_path / "p.png").stat().st_size < 150_000
