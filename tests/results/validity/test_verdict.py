from __future__ import annotations

from dataclasses import replace

import pytest

from results import digits
from results.validity import Evidence, verdict

GOOD = Evidence(
    trades=200,
    periods=365,
    days=365.0,
    total_return=0.4,
    dsr=0.97,
    sharpe_low=0.3,
    spa_p={"flat": 0.01, "buy-and-hold": 0.02},
    pbo=0.1,
    looks=1944,
)


def test_good_evidence_survives_and_says_over_how_many_looks() -> None:
    found = verdict(GOOD)
    assert found.code == "survives"
    assert str(found) == "survives deflation: DSR 0.970 over 1,944 looks"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trades": 12}, "too little evidence: 12 trades"),
        ({"trades": 1}, "too little evidence: 1 trade"),
        ({"days": 20.5}, "too little evidence: 20.5 days"),
        ({"periods": 59}, "too little evidence: 59 returns"),
        ({"total_return": -0.123}, "loses money: -12.3 %"),
        ({"total_return": 0.0}, "loses money: 0.0 %"),
        ({"dsr": 0.62}, "indistinguishable from luck: DSR 0.620 over 1,944 looks"),
        ({"dsr": 0.9499}, "indistinguishable from luck: DSR 0.949 over 1,944 looks"),
        ({"sharpe_low": -0.1}, "indistinguishable from luck: the Sharpe ratio's confidence interval reaches 0"),
        ({"spa_p": {"flat": 0.2}}, "indistinguishable from luck: SPA p 0.2 against flat"),
        ({"spa_p": {"flat": 0.0501}}, "indistinguishable from luck: SPA p 0.051 against flat"),
        ({"pbo": 0.71}, "likely overfit: PBO 0.71"),
        ({"dsr": None}, "n/a: no deflated Sharpe ratio"),
        ({"dsr": float("nan")}, "n/a: no deflated Sharpe ratio"),
    ],
)
def test_each_shortcoming_has_its_words(change: dict[str, object], words: str) -> None:
    assert str(verdict(replace(GOOD, **change))) == words  # type: ignore[arg-type]


def test_evidence_that_is_not_there_is_not_held_against_a_trial() -> None:
    assert verdict(Evidence(dsr=0.99)).words == "survives deflation: DSR 0.990"
    nan = float("nan")
    assert verdict(replace(GOOD, sharpe_low=nan, spa_p={"flat": nan}, pbo=nan, trades=None)).code == "survives"
    assert verdict(Evidence()).code == "n/a"


def test_who_does_not_beat_a_benchmark_survives_with_a_but_before_the_figures() -> None:
    found = verdict(replace(GOOD, spa_p={"flat": 0.01, "buy and hold": 0.31}))
    assert found.code == "survives, but"
    assert str(found) == "survives deflation, but not shown to beat buy and hold (SPA p 0.31); DSR 0.970 over 1,944 looks"
    two = verdict(replace(GOOD, spa_p={"flat": 0.01, "buy and hold": 0.0501, "risers": 1.0}))
    assert two.words.startswith("survives deflation, but not shown to beat buy and hold (SPA p 0.051) or risers (SPA p 1); ")
    luck = verdict(replace(GOOD, dsr=0.5, spa_p={"flat": 0.01, "buy and hold": 0.4}))
    assert luck.code == "luck" and luck.remarks == ("not shown to beat buy and hold (SPA p 0.4)",)


def test_no_figure_is_rounded_across_the_threshold_it_missed() -> None:
    assert [digits.probability(x) for x in (0.94999, 0.95, 0.99999, 1.0, 0.0, float("nan"))] == [
        "0.949", "0.950", "0.999", "0.999", "0.000", "n/a",
    ]  # fmt: skip
    assert [digits.p_value(x) for x in (0.0501, 0.05, 0.000999, 0.023, 1.0, float("nan"))] == [
        "0.051", "0.05", "0.001", "0.023", "1", "n/a",
    ]  # fmt: skip
    assert [digits.share(x) for x in (0.4999, 0.5, 0.0, 1.0)] == ["0.49", "0.50", "0.00", "1.00"]


def test_every_opening_of_the_holdout_makes_it_harder() -> None:
    once, twice = replace(GOOD, openings=1), replace(GOOD, openings=2)
    assert verdict(once) == verdict(GOOD)
    assert verdict(twice).code == "luck" and verdict(twice).remarks == ("holdout opened 2 times",)
    assert verdict(replace(twice, dsr=0.98)).code == "survives"
