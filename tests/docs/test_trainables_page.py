"""The trainable the documentation shows is run and audited."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.evaluator import Evaluator
from sweeps.search import Search
from sweeps.study import Study
from trainables.audit import audit
from trainables.timeline import Protocol

PAGE = (Path(__file__).parents[2] / "docs" / "trainables.md").read_text(encoding="utf-8")


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    code, study = (re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1] for kind in ("python", "yaml"))  # type: ignore[index]
    (tmp_path / "crossover.py").write_text(code, encoding="utf-8")
    (tmp_path / "crossover.yaml").write_text(study, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "crossover", raising=False)
    return Search(Study.load(tmp_path / "crossover.yaml"))


def test_the_page_s_trainable_keeps_the_contract_in_both_parts(search: Search) -> None:
    search.check()
    configs = [search.config(c) for c in search.sampler.configs(0, 9)]
    prints = set()
    for part in ("search", "holdout"):
        prepared = search.prepare(part)
        prints.add(prepared.fingerprint)
        values = Evaluator(search.study, prepared.defaults, len(prepared.days)).evaluate(configs, prepared.inputs)
        assert values.shape == (9, 2 + len(prepared.days)) and len(prepared.day_folds) == len(prepared.days)
        np.testing.assert_allclose(np.prod(1.0 + values[:, 2:], axis=1) - 1.0, values[:, 0], atol=1e-5)
        assert (values[:, 1] > 0).all()
    assert len(prints) == 1


def test_the_page_s_trainable_passes_the_audit(search: Search) -> None:
    data = {"source": "sample", "bars": 500, "symbols": ["BTCUSD", "ETHUSD"]}
    report = audit(search.trainable, data, {}, [{"fast": 6, "slow": 48}, {"fast": 12, "slow": 96}], cuts=3)
    assert report.ok and report.finding("future").passed, str(report)


def test_the_page_s_trainable_that_reports_passes_the_checks_the_page_calls() -> None:
    scope: dict[str, object] = {}
    for kind in ("python stepping", "python check"):
        [code] = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        exec(code, scope)
    assert scope["Descent"]


def test_the_page_s_trainable_that_learns_from_a_market_never_gets_the_holdout_in_a_search() -> None:
    scope: dict[str, Any] = {}
    for kind in ("python stepping", "python timed"):
        [code] = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        exec(code, scope)
    data = {"source": "sample", "bars": 2400, "symbols": ["BTCUSD"]}
    search, sealed = (scope["Learner"]().prepare(data, {}, Protocol(folds=2), part) for part in ("search", "holdout"))
    assert (search.fingerprint, search.protocol) == (sealed.fingerprint, sealed.protocol)
    panel, folds = search.inputs
    holdout = sealed.timeline.holdout
    assert holdout.stop > holdout.start > panel.n_bars == folds[-1].tune.stop and len(folds) == 2
    assert sealed.inputs[1][0].tune == holdout and sealed.inputs[1][0].train.stop == panel.n_bars
