"""The page on fine-tuning: its study is valid, its table is the library's, its Python imports what exists."""

import re
from pathlib import Path

import yaml

from sweeps import Study
from sweeps.search import Search
from sweeps.study import LIBRARY
from trainables.chronos2.trainable import _SETTINGS, HORIZONS, ChronosLora

PAGE = (Path(__file__).parents[2] / "docs" / "chronos.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_table_has_every_study_of_the_library_with_its_number_of_trials():
    listed = {name: int(n) for name, n in re.findall(r"^\| `(lora_\w+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    assert listed == {path.stem: Search(Study.load(path)).sampler.size for path in LIBRARY.glob("lora_*.yaml")}


def test_the_study_of_the_page_is_valid_but_for_a_model_that_takes_a_download():
    [text] = blocks("yaml")
    study = yaml.safe_load(text.replace("1e-6, 2e-4", "1.0e-6, 2.0e-4"))
    assert study["settings"].pop("model") == "amazon/chronos-2" and study["fixed"].pop("context") == 1024
    search = Search(Study.parse({**study, "name": "page"}))
    search.check()
    assert search.sampler.size == 24


def test_the_tables_have_every_parameter_and_setting_with_its_default_and_what_is_allowed():
    [text] = re.findall(r"^## Parameters and settings\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| .+ \|$", text, re.MULTILINE)
    rows = {name: (default, allowed) for name, default, allowed in cells}
    declared = (*ChronosLora.parameters, *_SETTINGS.values())
    assert list(rows) == [*(p.name for p in declared), "score"] and rows.pop("score")[0] == str(list(HORIZONS))
    for p in declared:
        default, allowed = (cell.replace("`", "") for cell in rows[p.name])
        assert default == (p.default if isinstance(p.default, str) else f"{p.default:g}"), p.name
        if p.kind != "text":
            assert allowed == (", ".join(p.choices) if p.choices else f"{p.low:g} to {f'{p.high:,.6f}'.rstrip('0').rstrip('.')}"), p.name


def test_an_adapter_is_loaded_and_checked_as_the_page_says(tmp_path, monkeypatch):
    from trainables.stepping import StepContext
    from trainables.timeline import Protocol

    data = {"source": "sample", "bars": 1000, "symbols": ["BTCUSD"]}
    prepared = ChronosLora().prepare(data, {"eval_every": 1, "origins": 3}, Protocol(folds=2))
    ctx = StepContext(prepared.inputs, tmp_path / "trial")
    ctx.folder.mkdir()
    config = {**prepared.defaults, "steps": 1, "context": 32, "horizon": 4, "batch_rows": 4}
    list(ChronosLora().evaluate(config, ctx))
    ChronosLora().export(config, ctx, tmp_path / "adapters", False, "page/0")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for code in blocks("python"):
        exec(code, scope)
    assert type(scope["pipeline"]).__name__ == "Chronos2Pipeline"
