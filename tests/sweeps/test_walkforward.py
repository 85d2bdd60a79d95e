"""Walk-forward: what a window may know, what is kept on record, and what the stitched days say."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.session import ray_session
from results import Ledger
from results.lock import WriterLock
from results.metrics import Metric
from results.records import LedgerLocked
from sweeps import Study, StudyError
from sweeps.cli import app
from sweeps.evaluator import Evaluator
from sweeps.evidence import count_looks
from sweeps.promote import promote
from sweeps.runner import LEDGER, verify
from sweeps.search import Search
from sweeps.walk import record as walk_record
from sweeps.walk.forward import Walk, walk_forward
from sweeps.walk.result import DEFAULT, FIRST, MODAL, WALKED, WalkResult, Windowed
from trainables.market import sample_panel
from trainables.timeline import Timeline, Window
from trainables.walk_forward import scored_on, searched_on

SYMBOLS = ["BTCUSD", "ETHUSD", "SOLUSD"]
WALK = Walk(windows=3, train="20d", test="12d")


def study(**changes: Any) -> Study:
    keys: dict[str, Any] = {
        "name": "edge",
        "trainable": "selector",
        "data": {"source": "sample", "bars": 2160, "signal": 0.25, "seed": 7, "symbols": SYMBOLS},
        "settings": {"forecast_window": 48, "logits": [3, 4, 2, 2]},
        "space": {"min_edge": [0.0, 0.001], "risk_weight": [0.25, 0.75]},
        "objective": "sharpe",
    }
    return Study.parse(keys | changes)


class BrokenOffError(Exception):
    pass


def interrupted(folder: Path) -> WalkResult:
    """Walks, is broken off after the first window, and goes on."""

    def stop(window: Windowed) -> None:
        raise BrokenOffError

    with pytest.raises(BrokenOffError):
        walk_forward(study(), WALK, folder, slots=2, on_window=stop)
    assert not (folder / "edge.walk" / "window-02").exists()
    return walk_forward(study(), WALK, folder, slots=2)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> WalkResult:
    folder = tmp_path_factory.mktemp("runs")
    with ray_session(None, 2):
        return interrupted(folder)


def events(home: Path, kind: str) -> list[dict[str, Any]]:
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return ledger.events(kind)


@pytest.mark.slow
@pytest.mark.ray
def test_a_walk_that_was_broken_off_goes_on_and_repeats_nothing(walked: WalkResult) -> None:
    assert [w.number for w in walked.windows] == [0, 1, 2] and not walked.stopped
    for w in walked.windows:
        home = walked.folder / f"window-{w.number + 1:02}"
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            assert ledger.counts()["trials"] == 4 and ledger.counts()["sessions"] == 1
        assert verify(home).ok
        configs = [config for event in events(home, walk_record.OPENED) for config in event["detail"]["configs"]]
        assert len(configs) == len({str(config) for config in configs})  # nothing is tested twice
    seen: list[Windowed] = []
    again = walk_forward(study(), WALK, walked.folder.parent, on_window=seen.append)  # no Ray is running: nothing is searched
    assert again.table().equals(walked.table()) and len(seen) == 3
    assert all(len(events(walked.folder / f"window-0{k}", "session_started")) == 1 for k in (1, 2, 3))


def test_asked_to_stop_while_a_window_is_searched_its_winner_stays_open(tmp_path: Path) -> None:
    asked: list[int] = []

    def ask_once(k: int, n: int, name: str, tally: Any) -> None:
        if not asked:
            asked.append(k)
            os.kill(os.getpid(), signal.SIGINT)

    stopped = walk_forward(study(), replace(WALK, windows=1), tmp_path, on_progress=ask_once)
    home = tmp_path / "edge.walk" / "window-01"
    assert stopped.stopped and not stopped.windows and events(home, walk_record.OPENED) == []
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert ledger.sessions()[-1]["reason"] == "stopped" and ledger.counts()["trials"] < 4


def test_a_walk_that_another_process_is_at_is_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "edge.walk"
    home.mkdir()
    lock = WriterLock(home / walk_record.WALK)
    with pytest.raises(LedgerLocked):
        walk_forward(study(), WALK, tmp_path)
    lock.release()
    assert walk_record.read_walk(home) is None


@pytest.mark.ray
def test_a_test_is_on_record_before_it_is_made(walked: WalkResult) -> None:
    with Ledger.open(walked.folder / "window-02" / LEDGER, readonly=True) as ledger:
        kinds = [event["kind"] for event in ledger.events(limit=1000)]
        first = ledger.events(walk_record.OPENED)[0]
        best = ledger.top("sharpe", n=1)
    assert kinds.index("session_ended") < kinds.index(walk_record.OPENED) < kinds.index(walk_record.RESULT)
    assert first["trial"] == best["trial"].iloc[0] == walked.windows[1].tested.trial
    assert first["detail"]["winner"].items() >= walked.windows[1].config.items()


@pytest.mark.ray
def test_a_test_cut_short_is_the_same_opening(walked: WalkResult, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(walked.folder, tmp_path / "edge.walk")
    with Ledger.open(tmp_path / "edge.walk" / "window-02" / LEDGER) as ledger:
        t = ledger.tables.events
        with ledger._transaction() as connection:  # as if it had been killed between the record and the result
            connection.execute(t.delete().where(t.c.kind == walk_record.RESULT))
    opened = len(events(tmp_path / "edge.walk" / "window-02", walk_record.OPENED))
    again = walk_forward(study(), WALK, tmp_path)
    assert len(events(tmp_path / "edge.walk" / "window-02", walk_record.OPENED)) == opened
    assert again.daily().equals(walked.daily()) and again.table().equals(walked.table())


@pytest.mark.ray
def test_every_look_counts_wherever_it_is_asked_from(walked: WalkResult) -> None:
    root = walked.folder.parent
    with Ledger.open(walked.folder / "window-01" / LEDGER, readonly=True) as ledger:
        fingerprint = str(ledger.header.context["data_fingerprint"])
    tested = sum(len(w.tested.configs) for w in walked.windows)
    found = count_looks(root, fingerprint)
    assert found.trials == 3 * 4 + tested and found.studies == 3 and found.openings == 0
    inside = count_looks(walked.folder, fingerprint, walked.folder / "window-01")
    assert inside.trials == found.trials and inside.own == 4 + len(walked.windows[0].tested.configs)


@pytest.mark.ray
def test_the_stitched_days_are_those_of_the_winners(walked: WalkResult) -> None:
    daily = walked.daily()
    assert len(daily) == 36 and daily.index.is_unique and daily.index.is_monotonic_increasing
    assert str(daily.index[-1].date()) == walked.windows[-1].test[1] == "2024-03-11"  # 90 days, less a fifth and the embargo
    assert np.array_equal(daily[WALKED].to_numpy(), np.concatenate([w.returns for w in walked.windows]).astype(float))
    for w in walked.windows:
        gain = np.prod(1.0 + w.returns) - 1.0
        assert gain == pytest.approx(w.metrics["total_return"], abs=1e-5)
        assert walked.outside(w) == w.metrics["sharpe"]
    assert {WALKED, FIRST, DEFAULT, "flat", "buy and hold"} <= set(daily)
    first = walked.windows[0]
    assert np.array_equal(daily[FIRST].to_numpy()[:12], first.returns)
    kept = walked.windows[2].tested.of(first.tested.config)[1]
    assert np.array_equal(daily[FIRST].to_numpy()[24:], kept)


@pytest.mark.ray
def test_other_settings_are_not_mixed_in_and_a_walk_set_aside_still_counts(walked: WalkResult, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(walked.folder, tmp_path / "edge.walk")
    with pytest.raises(StudyError, match=r"a walk with other settings lies there \(test was 12d, is 10d\)"):
        walk_forward(study(), replace(WALK, test="10d"), tmp_path)
    with pytest.raises(StudyError, match=r"space.min_edge was \[0.0, 0.001\], is \[0.0\]"):
        walk_forward(study(space={"min_edge": [0.0], "risk_weight": [0.25, 0.75]}), WALK, tmp_path)
    before = count_looks(tmp_path, fingerprint_of(walked)).trials
    walk_record.set_aside(tmp_path / "edge.walk")
    assert not (tmp_path / "edge.walk").exists()
    assert count_looks(tmp_path, fingerprint_of(walked)).trials == before
    assert walk_record.others(tmp_path, fingerprint_of(walked), tmp_path / "edge.walk") == 1


def fingerprint_of(made: WalkResult) -> str:
    kept = walk_record.read_walk(made.folder)
    assert kept is not None
    return str(kept["made"]["fingerprint"])


@pytest.mark.ray
def test_the_command_shows_a_walk_and_status_names_it(walked: WalkResult, tmp_path: Path, command: Callable[..., Any]) -> None:
    import yaml

    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(study().model_dump(exclude_defaults=True)))
    root = walked.folder.parent
    flags = ("--windows", 3, "--train", "20d", "--test", "12d", "--dir", root)
    done = command("walkforward", file, *flags, "--csv", tmp_path / "w.csv", "--daily", tmp_path / "d.csv")
    assert done.code == 0, done.err
    for words in (
        "edge  3 windows, each searched on 20 days, tested on 12; embargo 24 hours",
        "out of sample, 36 days stitched",
        "re-optimi",
    ):
        assert words in done.out
    assert len((tmp_path / "w.csv").read_text().splitlines()) == 4 and len((tmp_path / "d.csv").read_text().splitlines()) == 37
    assert "edge.walk: 3 of 3 windows tested" in command("status", "--dir", root).out
    assert "window-02: top 1" in command("leaderboard", "edge.walk/window-02", "--top", 1, "--dir", root).out
    assert command("verify", "edge.walk/window-03", "--dir", root).code == 0


@pytest.mark.ray
def test_a_window_can_be_promoted_and_that_opens_the_holdout_of_all(walked: WalkResult, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(walked.folder, tmp_path / "edge.walk")
    made = promote(tmp_path / "edge.walk" / "window-03")
    assert made.window[0] == "2024-03-13" and made.opening == 1
    with pytest.raises(StudyError, match="the holdout of these data has been opened"):
        promote(tmp_path / "edge.walk" / "window-02")


@pytest.mark.parametrize("k", [0, 2])
def test_no_test_bar_has_a_part_in_what_a_window_chooses(k: int, tmp_path: Path) -> None:
    panel = sample_panel(SYMBOLS, 2160, 7, 0.25)
    plain = Search(study())
    timeline = WALK.cut(plain.protocol, panel.times, 1.0)
    behind = panel.times >= panel.times[timeline.folds[k].train.stop]
    found = []
    for name, factor in (("as they are", 1.0), ("perturbed", 1.5)):
        folder = tmp_path / name
        folder.mkdir()
        for symbol, bars in panel.frame().groupby("symbol"):
            late = behind[np.searchsorted(panel.times, bars["timestamp"].dt.tz_localize(None).to_numpy())]
            scale = np.where(late, factor * (1.0 + 0.1 * np.sin(np.arange(len(bars)))) if factor != 1.0 else 1.0, 1.0)
            for column in ("open", "high", "low", "close"):
                bars[column] = bars[column] * scale
            bars.drop(columns="symbol").to_csv(folder / f"{symbol}.csv", index=False)
        asked = study(data={"source": str(folder)})
        values = {}
        for what, section in (("search", searched_on), ("test", scored_on)):
            cut = asked.model_copy(update={"protocol": section(plain.protocol, timeline, k)})
            prepared = Search(cut).prepare()
            values[what] = Evaluator(cut, prepared.defaults, len(prepared.days))(range(4), prepared.inputs)
        found.append(values)
    assert np.array_equal(found[0]["search"], found[1]["search"], equal_nan=True)  # every trial, so the winner
    assert not np.array_equal(found[0]["test"], found[1]["test"], equal_nan=True)


def test_what_cannot_be_walked_is_said_before_anything_runs(toys: Path, tmp_path: Path) -> None:
    space = {"x": [0.0, 1.0]}
    with pytest.raises(StudyError, match="does not cut time"):
        walk_forward(Study.parse({"name": "toy", "trainable": "alphasweep_toys:Parabola", "space": space}), WALK, tmp_path)
    with pytest.raises(StudyError, match="legacy results contain look-ahead"):
        walk_forward(study(settings={"profile": "legacy"}), WALK, tmp_path)
    with pytest.raises(StudyError, match="reports as it goes"):
        walk_forward(Study.load("policy_loss"), WALK, tmp_path)
    with pytest.raises(StudyError, match=r"search.warm_start: those results may know the test windows"):
        walk_forward(study(search={"sampler": "tpe", "trials": 4, "warm_start": ["edge"]}), WALK, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_without_a_trial_that_meets_the_constraints_cash_is_held(tmp_path: Path) -> None:
    made = walk_forward(study(constraints=["trades >= 100000"]), replace(WALK, windows=2), tmp_path, slots=2)
    assert [w.tested.why for w in made.windows] == ["no trial meets the constraints"] * 2
    assert not made.daily()[WALKED].any() and not made.daily()[FIRST].any() and made.daily()[DEFAULT].any()
    assert math.isnan(made.overall) and made.paid()[0] == "n/a"


@pytest.mark.ray
@pytest.mark.slow
def test_on_a_null_market_the_choice_looks_good_in_sample_only_and_a_planted_edge_is_found_again(tmp_path: Path) -> None:
    walk = Walk(train="40d", test="20d")
    free = {"cost_multiplier": 0.0, "fill_buffer": 0.0}
    space = {"min_edge": [0.0, 0.001, 0.002], "risk_weight": [0.25, 0.75], "intensity": [1.0, 1.2], "lag": [1, 2]}
    made = {}
    with ray_session(None, 2):
        for name, signal in (("null", 0.0), ("planted", 0.25)):
            data = {"source": "sample", "bars": 5040, "signal": signal, "seed": 11}
            made[name] = walk_forward(study(name=name, data=data, space=space, fixed=free), walk, tmp_path, slots=2)
    inside = np.mean([w.inside for w in made["null"].windows])
    null, planted = (made[name].lines[0] for name in ("null", "planted"))
    assert inside > 0.0 and null.low < 0.0 < null.high
    assert planted.low > 0.0


def windows(returns: list[np.ndarray], configs: list[dict[str, Any] | None], others: list[list[np.ndarray]] | None = None) -> WalkResult:
    """Makes a walk from what each window's winner earned; `others` are returns of earlier winners there, by window."""
    made, day = [], np.datetime64("2024-01-01")
    for k, (values, config) in enumerate(zip(returns, configs, strict=True)):
        known = [config] if config is not None else []
        rows = [values] if config is not None else []
        for other, earned in zip(
            [c for c in configs[:1] if c != config and c is not None], (others or [[]] * len(returns))[k], strict=False
        ):
            known.append(other)
            rows.append(earned)
        days = day + np.arange(len(values))
        day = days[-1] + 1
        tested = walk_record.OutOfSample(
            True,
            None if config is None else k,
            "",
            config,
            (),
            tuple(known),
            tuple({"sharpe": 1.0} for _ in known),
            tuple(rows),
            days,
            {},
            True,
        )
        span = str(days[0]), str(days[-1])
        made.append(Windowed(k, ("2023-01-01", "2023-06-30"), span, 10, config or {}, 2.0, tested))
    timeline = Timeline(np.empty(0, "datetime64[ns]"), 1.0, (), Window(0, 0), 24.0)
    return WalkResult(study(), Path("."), Metric("sharpe", "max", "ratio"), ("a",), timeline, tuple(made), None)


def test_under_thirty_days_nothing_but_the_return_is_given() -> None:
    rng = np.random.default_rng(1)
    made = windows([rng.normal(0.01, 0.01, 14), rng.normal(0.01, 0.01, 14)], [{"a": 1}, {"a": 1}])
    assert made.paid() == ("n/a", "n/a: 28 test days; at least 30 are needed to say whether re-optimising paid")
    assert math.isnan(made.lines[0].sharpe) and made.lines[0].gain > 0.0


def test_whether_re_optimising_paid_is_judged_by_the_paired_difference() -> None:
    rng = np.random.default_rng(2)
    noise = [rng.normal(0.0, 0.02, 30) for _ in range(4)]
    configs = [{"a": k} for k in range(4)]
    better = windows([0.01 + x for x in noise], configs, [[x - 0.005] for x in noise])
    assert better.paid()[0] == "paid" and "re-optimising paid: +1.1" in better.paid()[1]
    worse = windows([x - 0.005 for x in noise], configs, [[0.01 + x] for x in noise])
    assert worse.paid()[0] == "cost"
    same = windows(noise, configs, [[rng.normal(0.0, 0.02, 30)] for _ in noise])
    assert same.paid()[0] == "not shown"
    never = windows(noise, [{"a": 1}] * 4)
    assert never.paid()[1].startswith("n/a: every window chose the same winner") and never.changes == (0, 3)


def test_efficiency_compares_like_with_like() -> None:
    made = windows([np.full(30, 0.001), np.full(30, 0.001)], [{"a": 1}, {"a": 3}], [[], [np.zeros(30)]])
    assert made.efficiency(made.windows[0]) == 0.5 == made.overall
    lost = replace(made.windows[0], inside=-1.0)
    assert math.isnan(made.efficiency(lost))
    total = replace(made, objective=Metric("total_return", "max", "fraction"))
    tested = replace(made.windows[0].tested, metrics=({"total_return": 1.01**30 - 1.0},))
    grown = replace(made.windows[0], inside=1.02**181 - 1.0, tested=tested)  # 181 days of 2 %, then 30 of 1 %
    assert total.efficiency(grown) == pytest.approx(0.5)
    [moved] = made.stability()
    assert (moved.values, moved.low, moved.high, moved.share) == (2, 1.0, 3.0, 0.5)
    assert MODAL not in made.daily()  # nothing won twice


def test_a_walk_says_that_it_is_kept_in_files_where_a_database_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["walkforward", "selector_grid", "--dir", str(tmp_path), "--set", "settings.profile=legacy"]
    url = "postgresql://me@127.0.0.1:9/db"
    asked = CliRunner().invoke(app, [*given, "--ledger", url])
    assert isinstance(asked.exception, StudyError) and "its ledgers are files in" in str(asked.exception)
    monkeypatch.setenv("ALPHASWEEP_LEDGER", url)
    by_default = CliRunner().invoke(app, given)
    assert "ALPHASWEEP_LEDGER is not used: a walk's windows" in by_default.output
    assert "legacy results contain look-ahead" in str(by_default.exception), "and it goes on"
