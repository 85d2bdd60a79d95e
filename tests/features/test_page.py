"""The page's example runs, and its table names every feature."""

from __future__ import annotations

import re
from pathlib import Path

from trainables.features import FeatureSpec
from trainables.features.spec import BLOCKS

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")


def test_the_example_runs():
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    assert scope["window"].shape == (96, len(scope["spec"].columns)) and scope["window"].dtype == "float32"
    assert (abs(scope["window"]) < 50).all()


def test_the_table_names_every_feature():
    names = [part for row in PAGE.splitlines() if row.startswith("|") for part in re.findall(r"`([^`]+)`", row.split("|")[2])]
    patterns = []
    for name in names:
        parts = re.split(r"(\{[^}]*\})", name)
        kinds = ("(" + p[1:-1].replace(",", "|") + ")" if "," in p else r"\d+" for p in parts if p)
        patterns.append("".join(k if p.startswith("{") else re.escape(p) for p, k in zip((p for p in parts if p), kinds, strict=True)))
    columns = FeatureSpec(BLOCKS, horizons=(1, 4, 24)).columns
    unnamed = [column for column in columns if not any(re.fullmatch(pattern, column) for pattern in patterns)]
    unused = [pattern for pattern in patterns if not any(re.fullmatch(pattern, column) for column in columns)]
    assert not unnamed and not unused
