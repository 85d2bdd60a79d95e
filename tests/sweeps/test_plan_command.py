"""`alphasweep plan` says before a run what is known, what is left and what that takes; it changes nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.lanes import visible_cards
from results import Ledger, ResultRow
from results.identity import config_ids
from results.reports import ReportRow
from sweeps.commands.plan import cost_lines, known_lines
from sweeps.home import header_of
from sweeps.planning.estimate import Lanes, Span, lanes_of
from sweeps.planning.recorded import Known, count_known, recorded_pace, siblings
from sweeps.runner import LEDGER
from sweeps.search import Search
from sweeps.study import Study

Command = Callable[..., Any]


def contents(folder: Path) -> dict[str, str]:
    """Every file with its hash, but for the index and the empty log that SQLite itself puts beside a file it reads."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def line(name: str, text: str) -> str:
    [found] = re.findall(rf"^  {name} +(.*)$", text, re.MULTILINE)
    return str(found)


@pytest.mark.ray
def test_points_with_a_result_are_counted_exactly_and_nothing_is_changed(command: Command, toy_file: Path, runs: Path) -> None:
    before = contents(runs)
    done = command("plan", toy_file, "--dir", runs, "--no-probe")
    assert done.code == 0, done.err
    assert line("known", done.out) == "12 of 12 points: 12 in toy; nothing is left to run"
    assert "of those in toy 2 failed; run --retry-failed tries them again" in done.out and "  time " not in done.out
    more = command("plan", toy_file, "--dir", runs, "--no-probe", "--set", "space.x=[4, 5, 6, 7]")
    assert line("known", more.out) == "4 of 8 points: 4 in toy; 4 left"
    draws = ("--set", "space.x={int: [4, 9]}", "--set", "search.sampler=qmc", "--trials", "64")
    twice = command("plan", toy_file, "--dir", runs, "--no-probe", *draws)
    assert line("known", twice.out) == "4 of 64 points: 4 in toy; 8 left"
    assert "52 points are the same configuration as another, evaluated once" in twice.out
    # Elsewhere only what was completed is taken over: x = 3 failed.
    other = command("plan", toy_file, "--dir", runs, "--set", "name=other")
    assert line("known", other.out) == "10 of 12 points: 10 in toy; 2 left"
    assert other.code == 0 and re.search(r"from \d+ results of toy|probe of \d+", line("each", other.out))
    assert re.search(r" m?s on \d+ CPUs?, start-up included$", line("time", other.out)) and "core-hours" in line("cost", other.out)
    assert contents(runs) == before and not (runs / "other").exists()


@pytest.mark.ray
def test_the_context_is_that_of_the_ledger_and_other_conditions_are_told(command: Command, toy_file: Path, runs: Path) -> None:
    search = Search(Study.load(toy_file))
    header = header_of(search, search.prepare())
    with Ledger.open(runs / "toy" / LEDGER, readonly=True) as ledger:
        assert (header.context_id, header.metrics) == (ledger.header.context_id, ledger.header.metrics)
    done = command("plan", toy_file, "--dir", runs, "--set", "seed=4")
    assert "were made under other conditions" in done.out and "--set name=toy_2" in done.out
    assert line("known", done.out) == "no point has a result yet; 12 left"


@pytest.mark.ray
def test_plan_counts_what_run_then_finds(toy_file: Path, runs: Path) -> None:
    from cluster.session import ray_session
    from sweeps import run

    study = Study.load(toy_file, ["name=other", "space.x=[1, 2, 3, 9]"])
    search = Search(study)
    header = header_of(search, search.prepare())
    with siblings(runs, header) as found:
        known = count_known(search, header, found)
    with ray_session(None, 1):
        tally = run(study, runs, slots=1).tally
    assert (known.left, known.size - known.left) == (tally.done, tally.known) == (4, 4)


def test_a_study_that_never_ran_is_probed_and_leaves_no_folder(command: Command, toy_file: Path, tmp_path: Path) -> None:
    done = command("plan", toy_file, "--dir", tmp_path / "runs", "--price", "2.5")
    assert done.code == 0 and not (tmp_path / "runs").exists()
    assert line("known", done.out) == "no point has a result yet; 12 left"
    assert re.search(r", probe of [\d,]+$", line("each", done.out)) and line("cost", done.out).endswith(" at 2.5 a slot-hour")
    without = command("plan", toy_file, "--dir", tmp_path / "runs", "--no-probe")
    assert line("time", without.out).startswith("n/a: no results of this trainable on these data in ") and "  each " not in without.out


def recorded(folder: Path, study: Study, packs: Sequence[tuple[int, float]]) -> Search:
    """Makes a ledger whose packs took so many seconds a configuration, one after the other."""
    search = Search(study)
    header = header_of(search, search.prepare())
    (folder / study.name).mkdir(parents=True)
    with Ledger.create(folder / study.name / LEDGER, header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), {}, search.sampler.size)
        trial = 0
        for n, each in packs:
            configs = [search.config(point) for point in search.sampler.configs(trial, trial + n)]
            ids = config_ids(header.context_id, configs, header.defaults)
            rows = [ResultRow(trial + i, key, c, "completed", [0.0] * 3, each) for i, (key, c) in enumerate(zip(ids, configs, strict=True))]
            ledger.accept(ledger.open_attempt(plan.plan_id, n), rows)
            trial += n
        ledger.end_session("finished")
    return search


def test_seconds_come_from_the_ledgers_without_a_workers_first_pack(command: Command, toy_file: Path, tmp_path: Path) -> None:
    study = Study.load(toy_file, ["space.x={uniform: [4, 9]}", "search.sampler=random", "search.trials=400"])
    search = recorded(tmp_path, study, [(16, 0.5), (100, 0.02), (50, 0.05)])
    header = header_of(search, search.prepare())
    with siblings(tmp_path, header) as found:
        pace = recorded_pace(found, stepping=False)
        assert pace is not None and sorted(zip(pace.sizes, pace.seconds.round(9), strict=True)) == [(50.0, 2.5), (100.0, 2.0)]
        assert pace.mean == pytest.approx(4.5 / 150) and pace.warm == pytest.approx(16 * (0.5 - 0.03))
        assert pace.source == "from 150 results of toy"
    done = command(
        "plan", toy_file, "--dir", tmp_path, *(f"--set={item}" for item in ("space.x={uniform: [4, 9]}", "search.sampler=random"))
    )
    assert done.code == 2, "random draws have no end"
    sets = ("space.x={uniform: [4, 9]}", "search.sampler=random", "search.trials=400")
    done = command("plan", toy_file, "--dir", tmp_path, *(f"--set={item}" for item in sets))
    assert line("known", done.out) == "166 of 400 points: 166 in toy; 234 left" and "from 150 results of toy" in line("each", done.out)
    seed = command("plan", toy_file, "--dir", tmp_path, *(f"--set={item}" for item in (*sets, "seed=9", "name=later")))
    assert "from 150 results of toy, under another protocol or seed" in line("each", seed.out)


WALK = """\
name: walk
trainable: tests.sweeps.toy_steps:Walk
space: {goal: [GOALS]}
scheduler: {kind: asha, grace: 3, factor: 4}
"""


def walked(folder: Path, n: int, stopped: int = 0) -> Path:
    """Makes a study file of 24 walks, and a ledger of the first n: twelve steps of half a second each, the last few stopped at 3."""
    file = folder / "walk.yaml"
    file.write_text(WALK.replace("GOALS", ", ".join(f"{k}.5" for k in range(24))))
    search = Search(Study.load(file))
    header = header_of(search, search.prepare())
    (folder / "runs" / "walk").mkdir(parents=True)
    with Ledger.create(folder / "runs" / "walk" / LEDGER, header) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), {}, 24)
        rng = np.random.default_rng(0)
        for trial, point in enumerate(search.sampler.configs(0, n)):
            config = search.config(point)
            [key] = config_ids(header.context_id, [config], header.defaults)
            attempt, early = ledger.open_attempt(plan.plan_id, 1), trial >= n - stopped
            for step in range(1, 4 if early else 13):
                values = [config["goal"] * (1 - 0.7**step) + 0.01 * rng.normal(), step, 0.0]
                row = ResultRow(trial, key, config, "stopped" if early else "completed", values, 0.5 * step)
                ends = row if early and step == 3 else None
                ledger.report(attempt, ReportRow(trial, key, step, values, 0.5), ends, {"rule": "asha"} if ends else None)
            if not early:
                ledger.accept(attempt, [row])
        ledger.end_session("finished")
    return file


def test_recorded_curves_say_what_stopping_saves_and_which_rule_does_best(command: Command, tmp_path: Path) -> None:
    file = walked(tmp_path, 16)
    before = contents(tmp_path)
    done = command("plan", file, "--dir", tmp_path / "runs", "--slots", "2")
    assert done.code == 0, done.err
    assert line("known", done.out) == "16 of 24 points: 16 in walk; 8 left"
    assert line("each", done.out) == "500 ms a step, from 16 trials of walk"
    # Four rounds of 12 × 0.5 s, a start of 5 to 25 s, up to 0.4 s between trials.
    low, high = map(int, re.findall(r"^(\d+) to (\d+) s on 2 CPUs, .* if no trial is stopped$", line("time", done.out))[0])
    assert 29 <= low <= 31 and 49 <= high <= 51
    assert "of 8 of the 16 trials on record" in done.out
    assert "Sets of 8 stand for 24 trials, of which more meet at a rung: fewer steps than shown." in done.out
    own = next(row for row in done.out.splitlines() if row.rstrip().endswith("own"))
    assert re.match(r" asha +3 +4 +\d+% +\d+–\d+% +0% +\d+–\d+% +0 ", own)
    assert re.search(r"Suggested: scheduler: \{kind: asha, grace: 1, factor: 4\}", done.out)
    assert max(len(row) for row in done.out.splitlines() if "–" in row) <= 80
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("n", "stopped", "why"),
    [
        (24, 10, "10 trials of walk were stopped for their values"),
        (7, 0, "7 complete curves on record, 8 are needed"),
        (0, 0, "no trial of this trainable on these data has run to its end"),
    ],
)
def test_survivors_and_few_curves_are_no_base_and_how_to_get_one_is_said(
    command: Command, tmp_path: Path, n: int, stopped: int, why: str
) -> None:
    done = command("plan", walked(tmp_path, n, stopped), "--dir", tmp_path / "runs")
    assert done.code == 0 and line("stopping", done.out).startswith(f"what it saves is n/a: {why}")
    assert "--trials 24 --set scheduler.kind=none --set name=walk_curves" in done.out and "Suggested" not in done.out


def test_trials_that_report_are_probed_only_when_asked_and_without_a_trace(command: Command, tmp_path: Path) -> None:
    file = walked(tmp_path, 0)
    before = contents(tmp_path)
    silent = command("plan", file, "--dir", tmp_path / "runs", "--set", "settings.seconds=0.01")
    assert "--probe times a few points" in line("time", silent.out)
    done = command("plan", file, "--dir", tmp_path / "runs", "--set", "settings.seconds=0.01", "--probe")
    assert re.match(r"1\d ms a step.*, probe of 36 steps of 3 trials$", line("each", done.out))
    assert contents(tmp_path) == before


def test_what_is_paid_for_is_every_lane_for_the_whole_time() -> None:
    time, cost = cost_lines(Span(3600.0, 7200.0), Lanes(4, 4.0), 2.5)
    assert (
        time == "  time         1 to 2 h on 4 CPUs, start-up included"
        and cost == "  cost         4 to 8 core-hours: 10 to 20 at 2.5 a slot-hour"
    )
    time, cost = cost_lines(Span(3600.0, 7200.0), Lanes(8, 8.0, 2.0), 3.0, "if no trial is stopped")
    assert "on 2 cards, 8 trials at once, start-up included, if no trial is stopped" in time
    assert cost.endswith("2 to 4 card-hours, 8 to 16 core-hours: 6 to 12 at 3 a card-hour")


def test_lanes_are_cards_where_there_are_any_and_shares_of_a_card_lie_on_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = Study.load(walked(tmp_path, 0))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_cards() == () and lanes_of(Search(study), True) == Lanes(16, 16.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert lanes_of(Search(study), True) == Lanes(2, 2.0, 2.0)
    shared = study.model_copy(update={"resources": study.resources.model_copy(update={"cpu": 2.0, "gpu": 0.4})})
    assert lanes_of(Search(shared), True) == Lanes(4, 8.0, 2.0)
    assert lanes_of(Search(shared), False, 3) == Lanes(3, 3.0)


def test_sources_of_results_are_named_up_to_three() -> None:
    known = Known(100, 10, {}, {"b": 5, "c": 20, "d": 3, "e": 2})
    assert known_lines(known, "a") == ["  known        40 of 100 points: 10 in a, 20 in c, 5 in b, 5 in 2 more studies; 60 left"]
