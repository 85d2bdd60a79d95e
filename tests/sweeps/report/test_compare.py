"""Studies side by side: whether they compare, what differs, winners on the same days, what they share, one leaderboard of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import Ledger, series
from results.validity.resampling import confidence_intervals
from sweeps.evidence import judge
from sweeps.report.comparison import Comparison, compare
from sweeps.report.comparison_page import comparison_page
from sweeps.report.part import Missing
from tests.sweeps.report.studies import METRICS, SPACE, write_grid, write_steps

Command = Callable[..., Any]


@pytest.fixture
def pair(tmp_path: Path) -> Comparison:
    """Two studies of the same data, with other settings, one parameter value moved, and other luck."""
    first = write_grid(tmp_path, "one")
    second = write_grid(
        tmp_path, "two", space={**SPACE, "hold": [2, 3, 4]}, protocol={"costs": 2}, edge=0.004, spec={"settings": {"costs": 2}}
    )
    return compare([first, second])


def test_studies_of_the_same_data_and_cuts_compare_and_what_differs_is_told(pair: Comparison) -> None:
    assert pair.obstacles == ()
    assert dict(pair.differences) == {"space.hold": ("[1, 2, 3]", "[2, 3, 4]"), "protocol.costs": ("–", "2")}
    assert any("different settings" in remark for remark in pair.remarks)


def test_the_difference_of_the_winners_is_day_by_day_with_a_block_bootstrap(pair: Comparison, tmp_path: Path) -> None:
    returns = []
    for name in ("one", "two"):
        with Ledger.open(tmp_path / name / "ledger.sqlite", readonly=True) as ledger:
            ids, matrix = series.read(ledger, tmp_path / name)
            numbers = ledger.found(ids)[0].tolist()
        returns.append(matrix[numbers.index(int(judge(tmp_path / name).board["trial"][0]))].astype(float))
    gap = returns[0] - returns[1]
    interval = confidence_intervals(gap, periods_per_year=365.0)["mean_return"]
    found = pair.paired[0]
    assert (found.first, found.second, found.days) == ("one", "two", 120)
    assert found.mean == pytest.approx(gap.mean() * 365) and found.low == pytest.approx(interval.low[0] * 365)
    assert found.ahead == pytest.approx((gap > 0).mean()) and found.low <= found.mean <= found.high


def test_shared_configurations_are_found_whatever_their_data_and_compared_one_by_one(pair: Comparison) -> None:
    found = pair.overlaps[0]
    assert found.shared == 4 * 2 * 2 and found.sizes == (24, 24) and found.metric == METRICS[0]
    assert found.low < found.mean < found.high and found.equal == 0


def test_a_default_that_is_given_and_one_that_is_not_are_the_same_configuration(tmp_path: Path) -> None:
    a = write_grid(tmp_path, "a", space={"hold": [1, 2], "edge": [0.0]})
    b = write_grid(tmp_path, "b", space={"hold": [1, 2]})
    assert compare([a, b]).overlaps[0].shared == 2


def test_the_union_ranks_all_and_a_metric_of_one_study_only_is_not_available(pair: Comparison, tmp_path: Path) -> None:
    assert not isinstance(pair.union, Missing)
    assert len(pair.union) == 48 and pair.union["sortino"].is_monotonic_decreasing and set(pair.union["study"]) == {"one", "two"}
    assert pair.union["rank"].tolist() == list(range(1, 49)) and set(pair.parameters) == {"edge", "hold", "mode"}
    found = compare([tmp_path / "one", write_steps(tmp_path)])
    assert "time is cut differently" in found.obstacles and any("different metrics" in each for each in found.obstacles)
    assert isinstance(found.union, Missing) and "steps does not measure sortino" in found.union.why
    assert found.paired[0].why and found.overlaps[0].shared == 0


@pytest.mark.parametrize("changed", [{"data_fingerprint": "other"}, {"protocol": {"profile": "legacy"}}, {"trainable": "historical"}])
def test_what_may_not_be_compared_says_so_and_gives_no_difference(tmp_path: Path, changed: dict[str, Any], command: Command) -> None:
    write_grid(tmp_path, "one")
    write_grid(tmp_path, "two", **changed)
    found = compare([tmp_path / "one", tmp_path / "two"])
    assert found.obstacles and found.paired[0].why == "they are not comparable"
    done = command("compare", "one", "two", "--dir", tmp_path)
    assert done.code == 0 and "NOT comparable: " in done.out and "n/a, they are not comparable" in done.out
    assert not isinstance(found.union, Missing)
    if "data_fingerprint" not in changed:
        mark = "LEGACY" if "protocol" in changed else "unverified"
        assert set(found.union.loc[found.union["study"] == "two", "mark"]) == {mark} and mark in done.out
        assert found.union.loc[found.union["study"] == "two", "dsr"].isna().all()


def test_a_study_beside_its_own_copy_differs_in_nothing(tmp_path: Path, command: Command) -> None:
    for name in ("one", "two"):
        write_grid(tmp_path, name)
    done = command("compare", "one", "two", "--dir", tmp_path)
    assert "differ in nothing that could change a result" in done.out and "none on any of 120 days" in done.out
    assert "all with the same sortino" in done.out


def test_returns_of_other_days_are_not_subtracted(tmp_path: Path) -> None:
    one, two = write_grid(tmp_path, "one"), write_grid(tmp_path, "two")
    days, folds, benchmarks = series.read_days(two)
    series.write_days(two, days + np.timedelta64(1, "D"), folds, benchmarks)
    assert compare([one, two]).paired[0].why == "their returns are of different days"


def test_compare_at_the_command_line_writes_a_page(tmp_path: Path, command: Command) -> None:
    for k, name in enumerate(("one", "two", "three")):
        write_grid(tmp_path, name, seed=k)
    page = tmp_path / "page.html"
    done = command("compare", "one", "two", "three", "--html", page, "--dir", tmp_path, "--top", 5)
    assert done.code == 0 and "together: the first 5 of 72 by sortino" in done.out and f"Written to {page}" in done.out
    assert done.out.count("minus winner of ") == 3 and "Comparable: " in done.out
    text = page.read_text()
    assert 'id="union-board"' in text and "figure-accounts" in text and "one against two against three" in text
    assert text == comparison_page(compare([tmp_path / name for name in ("one", "two", "three")]), tmp_path)
    assert command("compare", "one", "--dir", tmp_path).code == 2
    assert command("compare", "one", "two", "--open", "--dir", tmp_path).code == 2
    assert "no study of that name" in command("compare", "one", "zwei", "--dir", tmp_path).err
