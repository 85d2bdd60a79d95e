"""The report as a file: contents against the ledger, the same bytes again, nothing that hurts, and a reason where a part is missing."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import Ledger
from results.leaderboard import LEGACY_LABEL
from sweeps.commands.report import write_report
from sweeps.commands.results import describe
from sweeps.evidence import judge
from sweeps.report import words
from sweeps.report.alternatives import of_learning, of_rungs
from sweeps.report.gather import gather
from sweeps.report.part import Missing
from tests.sweeps.report.studies import HOSTILE, SPACE, header_of, write_grid

Command = Callable[..., Any]
SECTIONS = ("verdict", "leaderboard", "equity", "folds", "parameters", "work", "provenance")


def page_of(home: Path, **options: Any) -> str:
    return write_report(home, **options)[0].read_text(encoding="utf-8")


def seen(page: str) -> str:
    """What a reader sees of a page's text, without scripts, styles and tags."""
    bare = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def figure(page: str, name: str) -> dict[str, Any]:
    found = re.search(rf'<script type="application/json" id="figure-{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_needs_no_network_and_has_its_sections_in_order(grid: Path) -> None:
    page = page_of(grid)
    places = [page.index(f'<section id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=[\"'](?!data:)", markup)
    assert "plotly.js v" in page and len(page) < 8_000_000 and not list(grid.glob(".*"))
    assert "unsafe-eval" not in page


def test_every_line_of_the_leaderboards_evidence_is_there_word_for_word(grid: Path) -> None:
    text = seen(page_of(grid))
    for name, line in describe(judge(grid)):
        assert f"{name} {line}" in text
    found = judge(grid)
    assert found.assessment is not None and words.answer(found)[2] in text


def test_figures_have_the_ledgers_numbers(grid: Path) -> None:
    page = page_of(grid)
    with Ledger.open(grid / "ledger.sqlite", readonly=True) as ledger:
        frame = ledger.frame()
    best = judge(grid).board.iloc[0]
    accounts = figure(page, "accounts")
    assert accounts["data"][0]["name"] == f"trial {int(best['trial'])}"
    assert accounts["data"][0]["y"][-1] == pytest.approx(1.0 + best["total_return"], rel=1e-5)
    assert len([shape for shape in accounts["layout"]["shapes"] if shape["type"] == "rect"]) == 2  # every other of three folds
    assert {trace["name"] for trace in accounts["data"]} >= {"buy and hold"} and len(accounts["data"]) == 2 * 11
    done = frame[frame["status"] == "completed"]
    points = [trace for k in (1, 2, 3) for trace in figure(page, f"slice-{k}")["data"] if trace["mode"] == "markers"]
    scores = sorted(float(f"{v:.6g}") for v in done["sortino"])
    assert sorted(points[0]["y"]) == scores
    with Ledger.open(grid / "ledger.sqlite", readonly=True) as ledger:
        certificate = gather(grid).origin
    assert not isinstance(certificate, Missing) and not isinstance(certificate.verification, Missing)
    assert certificate.verification.certificate in page


def test_every_drawing_has_a_text_alternative_with_numbers(grid: Path, steps: Path) -> None:
    for home in (grid, steps):
        page = page_of(home)
        figures = re.findall(r'<figure id="([^"]+)" role="group" aria-label="([^"]+)">', page)
        assert len(figures) == page.count("<figure ") == page.count("data-figure=") and len(figures) >= 3
        for name, alt in figures:
            assert re.search(r"\d", alt) and len(alt) > 30, name


def test_the_same_study_gives_the_same_bytes(grid: Path, steps: Path, tmp_path: Path) -> None:
    for home in (grid, steps):
        first, second = (write_report(home, tmp_path / f"{n}.html")[0].read_bytes() for n in (1, 2))
        assert first == second


def test_a_study_that_reports_shows_its_rungs_and_what_stopping_saved(steps: Path) -> None:
    page, found = page_of(steps), gather(steps)
    assert not isinstance(found.steps, Missing)
    text, metric = seen(page), found.header.metric("skill")
    assert of_rungs(found.steps, metric, "step") in text and of_learning(found.steps, metric, "step") in text
    assert f"{found.steps.made:,} of 384 steps were made" in text and "asha: asynchronous successive halving" in text
    drawn = figure(page, "rungs")
    went = next(trace for trace in drawn["data"] if trace["name"] == "went on")
    assert len(went["x"]) == sum(rung.promoted for rung in found.steps.rungs)
    assert {trace["name"] for trace in figure(page, "timeline")["data"]} == {"completed", "stopped early", "failed"}


def test_names_and_errors_from_anywhere_are_text(tmp_path: Path) -> None:
    space = {HOSTILE: [1, 2], "edge": [0.0, 0.1, 0.2, 0.3], "mode": {"choice": [HOSTILE, "</script><script>window.hurt=1</script>"]}}
    home = write_grid(
        tmp_path, space=space, failed=[3], error=f"ValueError: {HOSTILE}", spec={"description": HOSTILE, "data": {"source": HOSTILE}}
    )
    page = page_of(home)
    assert "<img src=x" not in page and "<script>window.hurt" not in page
    assert html.escape(HOSTILE) in page
    for trace in figure(page, "slice-1")["data"] + figure(page, "parallel")["layout"]["annotations"]:
        assert "<img" not in json.dumps(trace)


def test_a_secret_of_the_environment_does_not_leave_the_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-of-the-house&<>"
    monkeypatch.setenv("BROKER_API_KEY", "nothing-yet-in-it")
    space = {"note": {"choice": [secret, "plain"]}, "edge": [0.0, 0.1]}
    home = write_grid(tmp_path, space=space, failed=[2], error=f"refused: {secret}", spec={"description": f"with {secret}"})
    monkeypatch.setenv("BROKER_API_KEY", secret)
    page = page_of(home)
    for spelling in (secret, html.escape(secret), json.dumps(secret)[1:-1], "s3cr3t"):
        assert spelling not in page
    assert "[BROKER_API_KEY]" in page


@pytest.mark.parametrize("label", ["legacy", "imported"])
def test_results_that_cannot_be_believed_stand_under_a_banner_without_statistics(tmp_path: Path, label: str) -> None:
    changed: dict[str, Any] = {"protocol": {"profile": "legacy"}} if label == "legacy" else {"trainable": "historical"}
    page = page_of(write_grid(tmp_path, **changed))
    text = seen(page)
    banner = LEGACY_LABEL if label == "legacy" else "UNVERIFIED"
    assert page.index('<div class="banner" role="alert">') < page.index('<section id="verdict"') and text.count(banner) >= 2
    assert "DSR" not in text and "survives" not in text and "alphasweep promote" not in text
    assert ("(legacy)" if label == "legacy" else "(unverified)") in page[: page.index("</title>")]


def test_a_study_without_results_is_reported_and_says_why(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    with Ledger.create(home / "ledger.sqlite", header_of("empty")) as ledger:
        ledger.begin_session({})
    path, missing = write_report(home)
    text = seen(path.read_text())
    assert "no trial was completed, so there is no winner" in text and "nothing has a result yet" in text
    assert any(line.startswith("equity") for line in missing) and "loadPlotly" not in path.read_text()


def test_a_study_that_is_not_through_says_so_first(tmp_path: Path) -> None:
    home = write_grid(tmp_path)
    with Ledger.open(home / "ledger.sqlite") as ledger:
        ledger.begin_session({})
        ledger.add_plan({**SPACE, "hold": [7, 8]}, {"sampler": "grid", "trials": None, "seed": 3, "fixed": {}}, 16)
        ledger.end_session("stopped")
    text = seen(page_of(home))
    assert "Not through: 0 of 16 have a result (stopped)" in text and text.index("Not through") < text.index("trials by sortino")


def test_damaged_returns_cost_the_verdict_and_not_the_report(grid: Path) -> None:
    (grid / "returns" / "days.parquet").write_bytes(b"torn")
    path, missing = write_report(grid)
    text = seen(path.read_text())
    assert "That cannot be said" in text and "All 23 completed trials by sortino" in text
    assert [line.split()[0] for line in missing] == ["verdict", "equity"]


def test_the_holdout_is_told_and_a_loss_there_contradicts_the_search(grid: Path) -> None:
    trial = int(judge(grid).board["trial"][0])
    with Ledger.open(grid / "ledger.sqlite") as ledger:
        ledger.begin_session({})
        ledger.record("holdout_opened", trial=trial, by="me", opening=1)
        ledger.record("holdout_result", trial=trial, metrics={"total_return": -0.078})
        ledger.end_session("finished")
    text = seen(page_of(grid))
    assert f"-7.80% total_return of trial {trial}, opened 1×" in text and "is not confirmed: the holdout lost 7.80%" in text
    assert "The holdout is opened once" not in text


def test_more_trials_than_rows_leaves_the_others_out_and_says_how_many(grid: Path) -> None:
    from sweeps.report.assemble import report

    text = seen(report(gather(grid, most=5)))
    assert "The best 5 of 23 completed trials by sortino" in text and "18 more trials rank below these" in text


def test_report_at_the_command_line(grid: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: shown.append(url) or True)
    done = command("report", "made", "--dir", grid.parent, "--open")
    assert done.code == 0 and f"Written to {grid / 'report.html'}" in done.out
    assert shown == [(grid / "report.html").absolute().as_uri()]
    to = tmp_path / "elsewhere.html"
    assert command("report", "made", "--dir", grid.parent, "--to", to, "--top", 3).code == 0
    assert len(figure(to.read_text(), "accounts")["data"]) == 2 * 4
    assert command("report", "made", "--dir", grid.parent, "--to", tmp_path / "x.txt").code == 2
    assert command("report", "made", "--dir", grid.parent, "--to", tmp_path / "no" / "x.html").code == 2
    assert "Did you mean 'made'" in command("report", "mad", "--dir", grid.parent).err


def test_a_file_that_cannot_be_written_leaves_the_earlier_one(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_report(grid)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(grid)
    assert path.read_bytes() == before and not list(grid.glob(".*.partial"))
