"""The page on policies: its example runs, and the demonstration shows what it says it shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "policy.md").read_text(encoding="utf-8")


def test_the_example_runs():
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    table = scope["orders"].table()
    assert len(table) and table["buy_amount"].between(0.0, 1.0).all()
    assert (table["timestamp"].dt.tz_localize(None).to_numpy() > scope["policy"].train_end).all()


def test_the_page_names_every_study_of_policies_and_their_points():
    from sweeps import Study
    from sweeps.search import Search

    for name in ("policy_architecture", "policy_loss", "policy_features", "selector_positions"):
        assert re.search(rf"^\| `{name}` \| {Search(Study.load(name)).space.size} \|", PAGE, re.MULTILINE), name


@pytest.fixture(scope="module")
def program():
    return runpy.run_path(str(DOCS / "policy.py"))


@pytest.mark.slow
def test_where_a_drift_is_planted_a_policy_earns_it_out_of_sample_after_costs(program):
    found = program["measure"]((0.25,), (1, 3), {})
    assert {x.part for x in found} == {"tune", "holdout"} and len(found) == 4
    for x in found:
        assert x.low > 0.0 and x.returns.mean() > 0.005 and x.metrics["trades"] >= 30 and x.metrics["fees"] > 0.0


@pytest.mark.slow
def test_without_one_it_earns_nothing_with_costs_or_without(program):
    for x in program["measure"]((0.0,), (1, 5), {}):
        assert x.low <= 0.0 and abs(x.returns.mean()) < 0.001
    for x in program["measure"]((0.0,), (3,), {"cost_multiplier": 0.0, "fill_buffer": 0.0, "slippage": 0.0}):
        assert x.low <= 0.0 <= x.high and x.metrics["trades"] > 500
        assert np.isfinite(x.returns).all()
