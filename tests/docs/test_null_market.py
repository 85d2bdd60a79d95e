"""The null-market demonstration shows what its page says it shows."""

import runpy
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "null_market.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def program():
    return runpy.run_path(str(DOCS / "null_market.py"))


@pytest.fixture(scope="module")
def found(program):
    return program["measure"]((1, 2, 3), program["MAIN"])


def test_legacy_rules_report_fat_profits_on_a_market_without_an_edge(program, found):
    sweeps = found[program["LEGACY"]]
    assert np.median([s.returns[s.winner] for s in sweeps]) > 2.0
    assert all(s.significant for s in sweeps)


def test_realistic_rules_report_no_profit_beyond_its_interval(program, found):
    for sweep in found[program["REALISTIC"]]:
        assert (sweep.low <= 0).all() and not sweep.significant
        assert sweep.returns.shape == (54,) and np.median(sweep.returns) < -0.2


def test_without_costs_realistic_rules_find_no_edge(program, found):
    sweeps = found[program["GROSS"]]
    above = np.concatenate([s.low > 0 for s in sweeps])
    around = np.concatenate([(s.low <= 0) & (s.high >= 0) for s in sweeps])
    assert above.mean() < 0.05 and around.mean() > 0.7
    assert not any(s.significant for s in sweeps)


def test_a_bar_of_lag_is_what_the_legacy_profit_lives_on(program, found):
    late = next(rules for rules in program["ABLATION"] if rules.changes == {"lag": 1})
    [sweeps] = program["measure"]((1, 2, 3), [late]).values()
    assert np.median([s.returns[s.winner] for s in sweeps]) < 0.3
    assert not any(s.significant for s in sweeps)


def test_the_bootstrap_recovers_the_standard_error_of_independent_returns(program):
    returns = np.random.default_rng(5).normal(0.001, 0.01, (4800, 3))
    draws = program["bootstrap"](returns, 1)
    np.testing.assert_allclose(draws.mean(axis=0), returns.mean(axis=0), atol=3e-5)
    np.testing.assert_allclose(draws.std(axis=0), 0.01 / 4800**0.5, rtol=0.25)


def test_the_program_prints_its_tables_and_draws_its_picture(program, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("sys.argv", ["null_market.py", "--seeds", "1", "--out", str(tmp_path / "p.png")])
    program["main"]()
    printed = capsys.readouterr().out
    assert all(rules.name in printed for rules in program["ABLATION"][1:])
    assert 5_000 < (tmp_path / "p.png").stat().st_size < 150_000


def test_the_page_s_tables_are_those_of_the_program(program):
    found = program["measure"](range(1, 21), program["MAIN"])
    for rules, sweeps in found.items():
        best = [s.returns[s.winner] for s in sweeps]
        figures = [program["percent"](x) for x in (np.median(best), min(best), max(best), np.median([s.returns for s in sweeps]))]
        assert f"| {rules.name} | {' | '.join(figures)} |" in PAGE
