"""The glossary and the page on the verdict name everything that is measured and printed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from cluster.session import ray_session
from results.metrics import MIN_DAYS
from results.validity.overfitting import SPLITS
from results.validity.verdict import FLAT, MAX_PBO, MIN_BEHAVIOURS, MIN_PERIODS, MIN_TRADES, SIGNIFICANCE, Code
from sweeps import Study, open_study, run
from sweeps.commands.results import _agreement, describe
from sweeps.kept import COLUMNS, UNITS
from trainables.chronos2.trainable import ChronosLora
from trainables.selector.summary import METRICS

DOCS = Path(__file__).parents[2] / "docs"
METRICS_PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
VERDICT_PAGE = (DOCS / "verdict.md").read_text(encoding="utf-8")
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
BETTER = {"max": "higher", "min": "lower", None: "–"}


def rows(section: str) -> dict[str, list[str]]:
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", METRICS_PAGE, re.MULTILINE | re.DOTALL)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)}


def test_every_metric_of_the_selector_is_in_the_glossary_with_its_unit_and_direction() -> None:
    listed = rows("Of a configuration")
    assert list(listed) == [metric.name for metric in METRICS]
    for metric in METRICS:
        unit, better, what, missing = listed[metric.name]
        assert (unit, better) == (metric.unit, BETTER[metric.direction]), metric.name
        assert what
        for bound in re.findall(r"n/a (below .*)", metric.doc):
            assert re.search(r"\d+", bound)[0] in missing, metric.name  # type: ignore[index]


def test_every_metric_of_a_forecast_is_in_the_glossary_in_the_order_of_the_leaderboard() -> None:
    listed = rows("Of forecasts")
    assert list(listed) == [metric.name for metric in ChronosLora.metrics]
    for metric in ChronosLora.metrics:
        unit, better, what, _ = listed[metric.name]
        assert (unit, better) == (metric.unit, BETTER[metric.direction]) and what, metric.name


def test_every_statistic_beside_the_metrics_is_in_the_glossary() -> None:
    listed = rows("Statistics")
    assert list(listed) == list(COLUMNS)
    assert {name: cells[0] for name, cells in listed.items() if cells[0] != "–"} == dict(UNITS)


def test_every_line_below_the_leaderboard_and_every_code_is_explained() -> None:
    source = inspect.getsource(describe) + inspect.getsource(_agreement)
    names = list(dict.fromkeys(re.findall(r'\(\s*"(\w+)",', source)))
    assert sorted(names) == ["Sharpe", "against", "folds", "holdout", "looks", "overfitting", "verdict", "winner"]
    assert set(names) <= set(re.findall(r"^## (\w+)$", VERDICT_PAGE, re.MULTILINE))
    assert sorted(get_args(Code)) == sorted(re.findall(r"^\| `([^`]+)` \|", VERDICT_PAGE, re.MULTILINE))


def test_the_page_has_the_thresholds_of_the_code() -> None:
    for words in (
        f"under {MIN_TRADES} trades, {MIN_DAYS:g} days or {MIN_PERIODS} returns",
        f"DSR < {1 - SIGNIFICANCE:g}",
        f"SPA p > {SIGNIFICANCE:g} against `{FLAT}`",
        f"PBO ≥ {MAX_PBO:g}",
        f"fewer than {MIN_BEHAVIOURS} different behaviours, or fewer than {2 * SPLITS} days",
    ):
        assert words in VERDICT_PAGE, words


@pytest.mark.ray
@pytest.mark.slow
def test_the_worked_example_is_what_the_command_prints_and_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ray_session(None, 2):
        run(Study.load("selector_grid"), slots=2)
    told = [f"  {name:<12} {line}" for name, line in describe(open_study("selector_grid").judge(top=3))]
    for page in (VERDICT_PAGE, README):
        shown = re.search(r"^  verdict      .*?^  holdout .*?$", page, re.MULTILINE | re.DOTALL)
        assert shown is not None
        # Another processor's last digits may differ; the words may not.
        assert [re.sub(r"[\d.]+", "#", line) for line in shown[0].splitlines()] == [re.sub(r"[\d.]+", "#", line) for line in told]
    [code] = re.findall(r"^```python\n(.*?)^```$", VERDICT_PAGE, re.MULTILINE | re.DOTALL)
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["found"].assessment is not None  # type: ignore[attr-defined]
