"""`alphasweep plot` and `alphasweep importance`: the files they write, and what these say."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
import pytest

from results import Ledger
from sweeps.commands import plots as cli_plots
from sweeps.plots import pictures
from sweeps.plots.figures import KINDS, drawing, label_of
from sweeps.plots.importance import EVALUATORS, Evaluator
from sweeps.plots.pages import figure_of
from sweeps.plots.projection import ProjectionError
from tests.sweeps.test_projection import METRICS, grid, ledger_of

Command = Callable[..., Any]
SPACE = {"x": {"int": [0, 5]}, "rate": {"loguniform": [1e-4, 1e-2], "points": 3}, "mode": ["flat", "round"]}


def _scores(config: Mapping[str, Any]) -> Sequence[float | None] | None:
    if config["x"] == 5 and config["mode"] == "flat":
        return None
    return [config["x"] / 10.0, 1.0 + config["x"] * config["rate"] + (config["mode"] == "flat"), 2.0]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of a study of 36 trials, three of which failed; two were stopped early."""
    return ledger_of(tmp_path / "made", [grid(SPACE)], _scores, stopped=[0, 2]).parent


def _metrics(kind: str) -> list[str] | None:
    return ["score", "cost"] if kind == "pareto" else None


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_without_a_network_and_names_its_study(made: Path, kind: str) -> None:
    path, drawn = cli_plots.draw(made, kind, _metrics(kind))
    assert path == made / "plots" / f"{kind}{'-cost' if kind == 'pareto' else ''}.html"
    text = path.read_text(encoding="utf-8")
    assert f"<title>{drawn.title}</title>" in text and drawn.title.startswith("made: ")
    page = re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", text[: text.index("<script")] + page)
    assert len(text) > 3_000_000 and "Plotly.newPlot" in text  # plotly.js is in it
    assert '"showSendToCloud": false' in text or '"showSendToCloud":false' in text
    for note in drawn.notes:
        assert note.replace("'", "&#x27;") in page
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fmt", ["png", "svg"])
def test_pictures_are_drawn_without_a_browser_and_leave_matplotlib_as_it_was(made: Path, tmp_path: Path, kind: str, fmt: str) -> None:
    matplotlib.use("svg")
    before = (matplotlib.get_backend(), dict(matplotlib.rcParams))
    path, _ = cli_plots.draw(made, kind, _metrics(kind), to=tmp_path / f"{kind}.{fmt}")
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if fmt == "png" else b"<?xml" in start
    assert path.stat().st_size > 8_000
    assert (matplotlib.get_backend(), dict(matplotlib.rcParams)) == before


def test_figures_show_the_ledgers_numbers_under_the_ledgers_names(made: Path) -> None:
    with Ledger.open(made / "ledger.sqlite", readonly=True) as ledger:
        frame = ledger.frame()
        history, slices = figure_of(drawing(ledger, "history")), figure_of(drawing(ledger, "slice", params=["x"]))
        intermediate = figure_of(drawing(ledger, "intermediate", unit="epochs"))
        front = figure_of(drawing(ledger, "pareto", ["score", "cost"]))
        timeline = figure_of(drawing(ledger, "timeline"))
    done = frame[frame["status"] == "completed"]
    points, best = history.data[0], history.data[1]
    assert list(points.x) == done["trial"].tolist() and list(points.y) == done["score"].tolist()
    assert list(best.y) == done["score"].cummax().tolist() and best.name == "best so far"
    assert history.layout.yaxis.title.text == "score, higher is better"
    assert sorted(zip(slices.data[0].x, slices.data[0].y, strict=True)) == sorted(zip(done["x"], done["score"], strict=True))
    assert {trace.name: list(trace.x) for trace in intermediate.data} == {"trial 0": [1, 2], "trial 2": [1, 2]}
    assert intermediate.layout.xaxis.title.text == "epochs"
    assert {trace.name for trace in front.data} == {"dominated", "not dominated"}
    assert front.layout.yaxis.title.text == "cost, lower is better"
    assert {trace.name: len(trace.y) for trace in timeline.data} == {"completed": 31, "stopped early": 2, "failed": 3}
    assert label_of(METRICS[2]) == "seconds (s)"


def test_a_completed_trial_without_the_metric_is_drawn_as_completed_and_not_as_failed(tmp_path: Path) -> None:
    def scores(config: Mapping[str, Any]) -> Sequence[float | None] | None:
        return None if config["x"] == 3 else [None if config["x"] > 3 else float(config["x"]), 1.0, 2.0]

    with Ledger.open(ledger_of(tmp_path / "gaps", [grid({"x": {"int": [0, 5]}})], scores), readonly=True) as ledger:
        drawn = drawing(ledger, "timeline")
        assert drawing(ledger, "timeline", ["cost"]).projection.blank == frozenset()
    timeline = figure_of(drawn)
    assert {trace.name: list(trace.y) for trace in timeline.data} == {
        "completed": [0, 1, 2],
        "completed, metric n/a": [4, 5],
        "failed": [3],
    }
    assert drawn.notes[0] == "6 trials: 3 completed, 2 completed without score, 1 failed."
    cli_plots.draw(tmp_path / "gaps", "timeline", to=tmp_path / "timeline.svg")
    assert "completed, metric n/a" in re.sub(r"<!--|-->", "", (tmp_path / "timeline.svg").read_text())
    # Optuna itself, whose files know no n/a, is told that they failed: a waiting trial it would run.
    assert {t.state.name for t in drawn.projection.study.get_trials(deepcopy=False)} == {"COMPLETE", "FAIL"}


def test_axes_of_slices_end_where_the_parameters_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    space = {"share": {"uniform": [0.0, 1.0]}, "rate": {"loguniform": [1e-4, 1e-2]}, "n": {"int": [1, 100]}, "few": [1, 2]}
    configs = [
        {"share": float(rng.uniform()), "rate": float(10 ** rng.uniform(-4, -2)), "n": int(rng.integers(1, 101)), "few": i % 2 + 1}
        for i in range(40)
    ]
    path = ledger_of(tmp_path / "made", [(space, configs)], lambda c: [c["share"], 1.0, 2.0])
    with Ledger.open(path, readonly=True) as ledger:
        drawn = drawing(ledger, "slice")
    ranges = {axis.title.text: axis.range for axis in figure_of(drawn).select_xaxes()}
    assert ranges == {"share": (0.0, 1.0), "rate": (-4.0, -2.0), "n": (1.0, 100.0), "few": None}
    limits: dict[str, tuple[float, float]] = {}
    dress = pictures._dress
    monkeypatch.setattr(pictures, "_dress", lambda figure, several, d: (dress(figure, several, d), limits.update(_limits(several))))
    pictures.picture(drawn, tmp_path / "slice.png", "png")
    assert [limits[name] for name in ("share", "rate", "n")] == [(0.0, 1.0), (1e-4, 1e-2), (1.0, 100.0)]
    assert limits["few"][0] < 1.0 and limits["few"][1] > 2.0


def _limits(several: Sequence[Any]) -> dict[str, tuple[float, float]]:
    return {axes.get_xlabel(): tuple(axes.get_xlim()) for axes in several}


def test_what_cannot_be_drawn_is_a_message(made: Path, command: Command, runs: Path, tmp_path: Path) -> None:
    with Ledger.open(made / "ledger.sqlite", readonly=True) as ledger:
        for kind, options, words in [
            ("pareto", {}, "--metric A --metric B; metrics with a direction are score, cost"),
            ("history", {"metrics": ["seconds"]}, "more is neither better nor worse"),
            ("history", {"metrics": ["score", "cost"]}, "drawn for one metric"),
            ("slice", {"params": ["y"]}, "made has not varied 'y'; it varies x, rate, mode"),
            ("contour", {"params": ["x"]}, "needs two parameters"),
            ("edf", {"params": ["x"]}, "edf has no parameters to choose"),
        ]:
            with pytest.raises(ProjectionError, match=re.escape(words)):
                drawing(ledger, kind, **options)  # type: ignore[arg-type]
    assert "report nothing on the way" in command("plot", "toy", "intermediate", "--dir", runs).err
    assert "Did you mean 'history'?" in " ".join(command("plot", "toy", "histry", "--dir", runs).err.replace("│", " ").split())
    assert command("plot", "toy", "--to", tmp_path / "toy.pdf", "--dir", runs).code == 2
    assert "importance needs 20 completed trials or more, there are 10" in command("importance", "toy", "--dir", runs).err


def test_many_parameters_are_cut_to_the_most_important_and_the_figure_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    space = {name: {"int": [0, 9]} for name in "abcdefgh"}
    configs = [{name: int(rng.integers(10)) for name in space} for _ in range(300)]
    path = ledger_of(tmp_path, [(space, configs)], lambda c: [10.0 * c["g"] + 8.0 * c["b"] + c["h"] / 10, 0.0, 1.0])
    with Ledger.open(path, readonly=True) as ledger:
        found = drawing(ledger, "contour")
    assert found.params is not None and set(found.params[:2]) == {"g", "b"} and len(found.params) == 3
    assert "The 3 most important of 8 parameters" in found.notes[-1]


def test_plot_and_importance_at_the_command_line(made: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    done = command("plot", "made", "edf", "--metric", "cost", "--open", "--dir", made.parent)
    target = made / "plots" / "edf-cost.html"
    assert done.code == 0 and f"Written to {target}" in done.out and opened == [target.absolute().as_uri()]
    assert "31 completed trials" in done.out and "In-sample" in done.out
    table = tmp_path / "importance.csv"
    done = command("importance", "made", "--metric", "score", "--metric", "cost", "--csv", table, "--dir", made.parent)
    assert done.code == 0 and "no evidence of an edge" in done.out and "█" in done.out and "by chance" in done.out
    rows = list(csv.DictReader(table.open()))
    assert [row["metric"] for row in rows] == ["score"] * 3 + ["cost"] * 3 and rows[0]["parameter"] == "x"


def test_the_command_lists_what_there_is_without_loading_what_draws() -> None:
    assert sorted(cli_plots.KINDS) == sorted(KINDS) and cli_plots.EVALUATORS == tuple(EVALUATORS) == get_args(Evaluator)
    code = "import sys, sweeps.cli; print([m for m in ('optuna', 'plotly', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"
