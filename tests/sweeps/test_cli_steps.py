"""Studies of trials that report, at the command line: why trials ended, what they said, and the holdout they are trained anew for."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster.session import ray_session
from results import Ledger, config_ids
from results.metrics import Metric
from results.reports import ReportRow
from results.reports import read as read_reports
from sweeps import Study, open_study, run
from sweeps.commands.export import export_trial
from sweeps.commands.steps import TrainingLine, sparkline
from sweeps.endings import stop_words, why
from sweeps.promote import promote
from sweeps.runner import LEDGER
from sweeps.search import Search
from sweeps.study import StudyError
from trainables.contract import Registry, TrainableError

Command = Callable[..., Any]
GOALS = [0.8, 0.1, 1.2, 0.3, 0.0, 1.4, 0.9, 0.2, 1.5, 0.6, 1.1, 0.4]
SKILL = Metric("skill", "max", "fraction")


def study(**changes: Any) -> Study:
    base = {
        "name": "walks",
        "trainable": "tests.sweeps.toy_steps:Forecast",
        "fixed": {"paces": 12},
        "space": {"goal": GOALS},
        "scheduler": {"kind": "asha", "grace": 2, "factor": 4},
        "seed": 3,
    }
    return Study.parse({**base, **changes})


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    with ray_session(None, 1):
        yield


@pytest.fixture(scope="module")
def ran(one_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches of one study, by one worker, so that everything about them is known: 12 points, and 2 that come to grief."""
    folder = tmp_path_factory.mktemp("runs")
    trap = {"trap": str(folder / "trap")}
    assert run(study(settings=trap), folder, slots=1).tally.done == 12
    grief = {"goal": [2.0], "trouble": ["raises", "diverges"]}
    assert run(study(settings=trap, space=grief), folder, slots=1).tally.done == 2
    return folder


@pytest.fixture
def runs(ran: Path, tmp_path: Path) -> Path:
    return shutil.copytree(ran, tmp_path / "runs")


@pytest.mark.ray
def test_why_names_rung_cut_off_rank_and_the_trials_that_were_ahead(command: Command, runs: Path) -> None:
    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        event = max(ledger.events("stopped")[:-1], key=lambda e: e["detail"]["rank"])
        known = {(row.trial, row.step): row.metrics[0] for row in read_reports(ledger)}
        frame = ledger.frame().set_index("trial")
    trial, detail = event["trial"], event["detail"]
    found = why(runs / "walks", trial)
    assert (found.status, found.step, found.decision["rung"]) == ("stopped", detail["rung"], detail["rung"]) and found.replayed
    assert [rival.trial for rival in found.ahead] == detail["ahead"] and len(found.ahead) == min(10, detail["rank"] - 1)
    for rival in found.ahead:
        assert rival.value == known[rival.trial, detail["rung"]] > detail["value"] and rival.swept == {"goal": GOALS[rival.trial]}
        assert rival.ended.startswith({"completed": "completed: ", "stopped": "stopped at"}[frame.loc[rival.trial, "status"]])
    done = command("why", "walks", trial, "--dir", runs)
    told = f"{SKILL.name} {detail['value']:.2%} below {detail['cutoff']:.2%}"
    first = f"walks, trial {trial}: stopped at step {detail['rung']}: place {detail['rank']} of {detail['of']}, {told}"
    assert (done.code, done.out.splitlines()[0]) == (0, first)
    assert f"  parameters   goal={GOALS[trial]:g}\n" in done.out and "  reached      step 2 of 12\n" in done.out
    for rival in found.ahead:
        assert re.search(rf"^ +{rival.trial} +{re.escape(f'{rival.value:.2%}')} +{GOALS[rival.trial]:g} +\S", done.out, re.M), done.out


@pytest.mark.ray
def test_why_of_a_completed_trial_shows_each_rung_it_passed_with_its_rank(command: Command, runs: Path) -> None:
    found = open_study("walks", runs).why(8)
    assert (found.status, found.step, found.last) == ("completed", 12, 12)
    assert [item.decision.rung for item in found.judged] == [2, 8]
    assert (found.judged[0].decision.rank, found.judged[0].decision.of) == (1, 9)
    done = command("why", "walks", 8, "--dir", runs)
    assert done.out.startswith("walks, trial 8: completed at step 12: skill 1.49%\n")
    assert re.search(r"^ +2 +2 +0\.76% +1 of 9 +0\.\d\d% ", done.out, re.M), done.out
    assert "  note         step 3: a batch was halved\n" in done.out
    assert re.search(
        r"^  judged       at steps 2, 8: it stayed; at step 8 skill \d\.\d\d% and the cut-off \d\.\d\d%, place ", done.out, re.M
    )


@pytest.mark.ray
def test_why_of_a_trial_that_the_median_rule_let_go_on_says_what_it_was_compared_with(
    command: Command, tmp_path: Path, one_ray: None
) -> None:
    assert run(study(scheduler={"kind": "median", "grace": 3}, space={"goal": GOALS[:6]}), tmp_path, slots=1).tally.done == 6
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        means: dict[int, list[float]] = {}
        for row in read_reports(ledger):
            means.setdefault(row.trial, []).append(row.metrics[0])
    whole = sorted(sum(values) / 12 for trial, values in means.items() if trial != 5 and len(values) == 12)
    assert len(whole) == 3
    found = why(tmp_path / "walks", 5)
    assert (found.status, found.judged[0].step, found.judged[-1].step, found.alone) == ("completed", 3, 12, ())
    assert found.judged[-1].value == max(means[5]) and found.judged[-1].decision.cutoff == pytest.approx(whole[1])
    done = command("why", "walks", 5, "--dir", tmp_path)
    told = f"at step 12 its best skill so far {max(means[5]):.2%} and the median {whole[1]:.2%}, place 1 of 4"
    assert f"  judged       at 10 steps, 3 to 12: it stayed; {told}\n" in done.out, done.out
    assert re.search(rf"^ +12 +{max(means[5]):.2%} +1 of 4 +{whole[1]:.2%} *$", done.out, re.M), done.out
    first = command("why", "walks", 0, "--dir", tmp_path).out
    assert "  judged       not at 10 steps, 3 to 12: that takes 3 other trials that have come as far; none had\n" in first
    assert "at most 1 had" in command("why", "walks", 1, "--dir", tmp_path).out


@pytest.mark.ray
def test_why_of_a_trial_that_diverged_or_failed_says_where_and_what(command: Command, runs: Path) -> None:
    assert command("why", "walks", 12, "--dir", runs).out.startswith(
        "walks, trial 12: failed after step 4: ZeroDivisionError: at the fifth pace\n"
    )
    done = command("why", "walks", 13, "--dir", runs)
    assert done.out.startswith("walks, trial 13: diverged at step 5: skill is not a number\n")
    assert "  note         step 3: a batch was halved\n" in done.out and "goal=2, trouble=diverges" in done.out


@contextmanager
def asking_for_more(home: Path) -> Iterator[None]:
    """A session at work on a third search: one trial of it has reported, one has not begun, and one is trial 0 again."""
    more = study(space={"goal": [9.0, 8.0, 0.8]})
    search = Search(more)
    with Ledger.open(home / LEDGER) as ledger:
        ledger.begin_session({})
        plan = ledger.add_plan(search.space.to_dict(), search.plan_spec, 3)
        attempt = ledger.open_attempt(plan.plan_id, 1)
        [identity] = config_ids(ledger.header.context_id, [search.config({"goal": 9.0})], ledger.header.defaults)
        ledger.report(attempt, ReportRow(14, identity, 1, [0.027, 0.1, 2.7, 1.0, 5.0], 0.1))
        yield


@pytest.mark.ray
def test_why_of_a_trial_that_has_not_ended_says_how_far_it_is(command: Command, runs: Path) -> None:
    home = runs / "walks"
    with asking_for_more(home):
        assert why(home, 14).words == "not ended: at step 1 of 12, skill 2.70%; the study is running"
        assert why(home, 15).words == "not started, or not far enough for a report"
    assert why(home, 14).words == "interrupted at step 1 of 12, skill 2.70%; the next run goes on from there"
    assert command("why", "walks", 15, "--dir", runs).out == "walks, trial 15: not started\n  parameters   goal=8\n"
    assert why(home, 16).words == "the same configuration as trial 0, which has its result"
    done = command("why", "walks", 17, "--dir", runs)
    assert (done.code, "has no trial '17'" in done.err) == (2, True)


@pytest.mark.ray
def test_a_trial_that_has_not_ended_is_shown_as_far_as_it_is_and_export_says_so(command: Command, runs: Path, tmp_path: Path) -> None:
    home = runs / "walks"
    with asking_for_more(home):
        assert command("show", "walks", 14, "--dir", runs).out.startswith("walks, trial 14: not ended: at step 1 of 12, skill 2.70%; the")
        with pytest.raises(StudyError, match=r"walks/14: not ended: .* the study is running; it can be exported when it has ended"):
            export_trial(home, 14, tmp_path / "out")
    shown = command("show", "walks", 14, "--dir", runs)
    assert shown.code == 0 and "  parameters   goal=9\n  skill  ▄  2.70% to 2.70%, 1 report, steps 1 to 1\n" in shown.out
    assert command("show", "walks", 15, "--dir", runs).out == "walks, trial 15: not started\n  parameters   goal=8\n"
    told = "walks/14: interrupted at step 1 of 12, .* the next run goes on from there; it can be exported when it has ended"
    with pytest.raises(StudyError, match=told):
        export_trial(home, "14", tmp_path / "out")
    with pytest.raises(StudyError, match="walks/16: the same configuration as trial 0, which has its result; export that one"):
        export_trial(home, 16, tmp_path / "out")
    for reader in (("show", "walks", 17), ("export", "walks", 17, "--to", tmp_path / "out")):
        assert "has no trial '17'" in command(*reader, "--dir", runs).err
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_an_unfinished_study_says_so_on_its_leaderboard_and_before_its_holdout_is_opened(command: Command, runs: Path) -> None:
    with asking_for_more(runs / "walks"):
        assert "  trials       1 of 3 have a result (running)\n" in command("leaderboard", "walks", "--dir", runs).out
    board = command("leaderboard", "walks", "--dir", runs).out
    assert f"  trials       1 of 3 have a result (closed); the same run goes on\n{'':15}4 completed, 9 stopped early" in board
    told = command("promote", "walks", "--dir", runs)
    assert told.code == 0 and told.err == (
        "walks: 1 of 3 have a result (closed); what comes later is compared with a holdout that is no secret any more\n"
    )
    assert re.search(r"walks +closed +4 +9 +1 +3 \(search 3\) ", command("status", "walks", "--dir", runs).out)


@pytest.mark.ray
def test_a_study_is_read_where_its_trainable_is_not(command: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(registry: Registry, name: str) -> None:
        raise TrainableError(f"trainable: cannot load {name!r}")

    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        trial = ledger.events("stopped")[0]["trial"]
    asked = [("why", "walks", trial), ("why", "walks", 8), ("show", "walks", 8)]
    asked += [(name, "walks") for name in ("status", "verify", "leaderboard")]
    before = [command(*args, "--dir", runs) for args in asked]
    monkeypatch.setattr(Registry, "load", absent)
    after = [command(*args, "--dir", runs) for args in asked]
    assert "  reached      step 2 of 12\n" in before[0].out
    assert after[0].out == before[0].out.replace("step 2 of 12", "step 2") and after[0].code == 0
    assert after[1:] == before[1:]


@pytest.mark.ray
def test_what_was_trained_for_the_holdout_is_exported_apart(command: Command, runs: Path, tmp_path: Path) -> None:
    export = ("export", "walks", "--to", tmp_path / "out", "--dir", runs)
    told = command(*export, "--holdout")
    assert told.code == 2 and "walks: the holdout has not been opened for any trial; alphasweep promote trains up to it, once" in told.err
    assert command("promote", "walks", 5, "--dir", runs).code == 0
    assert command(*export).out == f"walks/8 written to {tmp_path / 'out'}\n"
    assert command(*export).out == f"walks/8 written to {tmp_path / 'out'}\n"
    done = command(*export, "--holdout")
    assert done.out == f"walks/5/holdout written to {tmp_path / 'out'}, in place of walks/8\n"
    made = json.loads((tmp_path / "out" / "run_metadata.json").read_text())
    assert (made["train_end"], made["pace"], made["reached"]) == ("holdout", 12, 12)
    assert [point["step"] for point in made["curve"]] == [12] and made["curve"][0]["skill"] < 0.0137
    told = command(*export[:2], 8, *export[2:], "--holdout")
    assert told.code == 2 and "walks: the holdout has not been opened for trial 8;" in told.err


@pytest.mark.ray
def test_places_are_not_told_where_judging_again_does_not_give_what_is_on_record(command: Command, runs: Path) -> None:
    from contextlib import closing
    from sqlite3 import connect

    with closing(connect(runs / "walks" / LEDGER)) as database:
        database.execute("""UPDATE events SET detail = replace(detail, '"grace":2', '"grace":3') WHERE kind = 'scheduler'""")
        assert database.total_changes == 1
        database.commit()
    found = why(runs / "walks", 8)
    assert not found.replayed and not found.judged
    assert "Places at rungs n/a: the study ran under another scheduler" in command("why", "walks", 8, "--dir", runs).out


@pytest.mark.ray
def test_stopped_trials_are_counted_and_worded_wherever_trials_are(command: Command, runs: Path, tmp_path: Path) -> None:
    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        counts = ledger.counts()
    completed, stopped = counts["completed"], counts["stopped"]
    assert completed + stopped == 13 and counts["failed"] == 1 and stopped > 4
    files = {name: tmp_path / f"all.{name}" for name in ("csv", "json", "parquet")}
    done = command("leaderboard", "walks", "--dir", runs, *(part for name, file in files.items() for part in (f"--{name}", file)))
    ended = f"{completed} completed, {stopped} stopped early, 1 failed"
    assert f"  trials       {ended}; alphasweep why walks TRIAL --dir {runs} says why\n" in done.out
    assert f"top {completed} of {completed} by skill" in done.out
    tables = [pd.read_csv(files["csv"]), pd.DataFrame(json.loads(files["json"].read_text())), pd.read_parquet(files["parquet"])]
    for frame in tables:
        assert frame["status"].value_counts().to_dict() == {"completed": completed, "stopped": stopped, "failed": 1}
    pareto = command("leaderboard", "walks", "--dir", runs, "--pareto", "skill,dm_p", "--where", "skill > 0").out
    assert f"1 of {completed} trials not dominated" in pareto and ended in pareto
    status = command("status", "walks", "--dir", runs).out
    assert re.search(rf"study +state +done +stopped +failed.* walks +finished +{completed} +{stopped} +1 ", status, re.S), status
    found = command("verify", "walks", "--dir", runs)
    assert found.code == 0 and re.search(rf"completed +{completed} .*stopped +{stopped} .*failed +1 ", found.out, re.S)
    assert f"  {stopped} points were stopped early" in found.out
    again = command("run", file_of(runs), "--dir", runs)
    assert "Nothing to do: all 12 points have a result.\n" in again.out and ended in again.out


def file_of(runs: Path) -> Path:
    import yaml

    file = runs / "walks.yaml"
    file.write_text(yaml.safe_dump(study().model_dump(exclude={"resources"})))
    return file


@pytest.mark.ray
def test_show_draws_what_a_trial_said_on_the_way(command: Command, runs: Path) -> None:
    done = command("show", "walks", 8, "--dir", runs)
    assert re.search(r"^  skill  ▁[▁▂▃▄▅▆▇█]{10}█  0\.44% to 1\.49%, 12 reports, steps 1 to 12$", done.out, re.M), done.out
    assert re.search(r"^ +12 +1\.49% +\S+ ", done.out, re.M) and "  note at step 3: a batch was halved\n" in done.out
    assert f"  alphasweep why walks 8 --dir {runs} says why it ended\n" in done.out
    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        trial = ledger.events("stopped")[0]["trial"]
    assert re.search(r"status +stopped early", command("show", "walks", trial, "--dir", runs).out)


@pytest.mark.ray
def test_without_daily_returns_the_verdict_is_the_p_value_times_all_looks(command: Command, runs: Path) -> None:
    done = command("leaderboard", "walks", "--dir", runs)
    assert re.search(
        r"^  verdict      skill 1\.49% over the last close; DM p 0\.0002, times 14 looks 0\.0027: better than no model$", done.out, re.M
    ), done.out
    worst = command("leaderboard", "walks", "--dir", runs, "--where", "skill < 1%").out
    assert re.search(r"DM p 0\.0099, times 14 looks 0\.14: not shown to be better than no model$", worst, re.M), worst


@pytest.mark.ray
def test_promote_trains_anew_on_the_holdout_and_goes_on_where_it_was_cut_short(command: Command, runs: Path, ran: Path) -> None:
    whole = shutil.copytree(runs, runs.parent / "whole")
    undisturbed = promote(whole / "walks")
    home, trap, steps = runs / "walks", ran / "trap", list[tuple[int, int]]()
    trap.touch()
    done = command("promote", "walks", "--dir", runs)
    assert done.code == 130 and "the same command goes on with it, without --again" in done.err
    with pytest.raises(StudyError, match="has been opened"):
        promote(home, 5)  # another trial is another opening
    trap.unlink()
    made = promote(home, on_report=lambda step, last: steps.append((step, last)))
    assert steps == [(6, 12), *((step, 12) for step in range(7, 13))]
    assert (made.trial, made.opening, made.holdout) == (8, 1, undisturbed.holdout)
    assert made.holdout["skill"] == pytest.approx(made.search["skill"] - 0.005) and made.note == "a batch was halved"
    assert made.reference is not None and made.reference.looks == 1 and made.reference.better
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        assert len(ledger.events("holdout_opened")) == len(ledger.events("holdout_result")) == 1
    refused = command("promote", "walks", "--dir", runs)
    assert refused.code == 2 and "--again opens it once more" in refused.err
    assert re.search(r"^  holdout +opened 1×; trial 8: skill 0\.99%$", command("leaderboard", "walks", "--dir", runs).out, re.M)
    told = command("promote", "walks", 8, "--again", "--dir", runs)
    assert "opening 2" in told.out
    assert "  verdict      skill 0.99% over the last close; DM p 0.0002, times 2 looks 0.00039: better than no model\n" in told.out
    assert not told.err, "the study is finished"
    assert re.search(r"^  holdout +opened 2×; trial 8: skill 0\.99%$", command("leaderboard", "walks", "--dir", runs).out, re.M)


@pytest.mark.ray
def test_a_trial_that_was_stopped_early_cannot_be_promoted(runs: Path) -> None:
    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        trial = ledger.events("stopped")[0]["trial"]
    with pytest.raises(StudyError, match=f"trial {trial} was stopped early, before its last step; there is nothing to promote"):
        promote(runs / "walks", trial)
    with Ledger.open(runs / "walks" / LEDGER, readonly=True) as ledger:
        assert not ledger.events("holdout_opened")


@pytest.mark.ray
def test_a_study_of_packs_has_nothing_to_explain(command: Command, ran_once: Path) -> None:
    done = command("why", "toy", 0, "--dir", ran_once)
    assert done.code == 2
    assert done.err.startswith("error toy: alphasweep_toys:Parabola evaluates whole packs; nothing is stopped early")


def test_trials_that_report_are_not_audited_which_is_not_a_pass(command: Command, tmp_path: Path) -> None:
    done = command("audit", file_of(tmp_path))
    assert done.code == 3 and "NOT AUDITED" in done.out
    assert "docs/trainables.md" in done.out


def test_validate_says_where_trials_will_be_judged(command: Command, tmp_path: Path) -> None:
    file = file_of(tmp_path)
    done = command("validate", file)
    assert "  scheduler    asha: asynchronous successive halving" in done.out and "judged at 2, 8 of 12 paces\n" in done.out
    assert "judged from step 1 of 12 paces\n" in command("validate", file, "--set", "scheduler={kind: median}").out
    coarse = command("validate", file, "--set", "settings.every=5").out
    assert "judged at 5, 10 of 12 paces\n" in coarse
    assert "no report comes at step 2, 8; trials are judged there at their next, 5, 10" in coarse
    assert "judged nowhere before the last of 12 paces\n" in command("validate", file, "--set", "settings.every=12").out
    median = ("--set", "scheduler.kind=median", "--set", "settings.every=5")
    assert "judged from step 5 of 12 paces\n" in command("validate", file, *median).out
    assert "none: every trial runs to its end\n" in command("validate", file, "--set", "scheduler.kind=none").out
    assert "scheduler" not in command("validate", "selector_grid", "--set", "data.bars=400").out


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"rule": "asha", "rung": 40, "value": -0.12, "cutoff": 0.03, "rank": 5, "of": 6}, "place 5 of 6, skill -12.00% below 3.00%"),
        ({"rule": "asha", "rung": 40, "value": 0.3, "cutoff": 0.2, "rank": 5, "of": 6}, "place 5 of 6, skill 30.00% above 20.00%"),
        ({"rule": "asha", "rung": 40, "value": 0.2, "cutoff": 0.2, "rank": 2, "of": 2}, "level with the last to go on, 20.00%"),
        ({"rule": "median", "rung": 40, "value": 0.1, "cutoff": 0.2, "rank": 4, "of": 5}, "skill 10.00% below 20.00%, the median"),
    ],
)
def test_a_stop_is_put_into_words(decision: dict[str, Any], words: str) -> None:
    told = stop_words(decision, 40, SKILL)
    assert told.startswith("stopped at step 40: ") and told.endswith(words)
    assert stop_words(decision, 50, SKILL).startswith("stopped at step 50 (rung 40): ")


def test_a_trial_that_is_not_a_number_diverged() -> None:
    decision = {"rule": "diverged", "rung": 5, "value": "nan", "cutoff": None, "rank": None, "of": None}
    assert stop_words(decision, 5, SKILL) == "diverged at step 5: skill is not a number"


def test_training_alone_says_that_it_is_there_between_reports_far_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.commands.steps._QUIET", 0.2)
    with TrainingLine("on the holdout") as told:
        time.sleep(0.5)
        told(40, 160)
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"on the holdout: loading \(0:00:01 since the start\)", lines[0]), lines
    assert re.fullmatch(r"on the holdout: step 40 of 160 \(0:00:01 since the last report\)", lines[-1]), lines


def test_a_sparkline_goes_from_lowest_to_highest_with_gaps_and_a_width() -> None:
    assert sparkline([0.0, 7.0, float("nan"), 3.5]) in ("▁█·▄", "▁█·▅")
    assert sparkline([2.0, 2.0]) == "▄▄" and sparkline([float("nan")]) == "·"
    long = sparkline(list(range(1000)))
    assert len(long) == 40 and long[0] == "▁" and long[-1] == "█"
