"""What only going on needs is dropped once a trial's result is in the ledger, whatever kills the study in between."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.session import ray_session
from results import Ledger
from sweeps import Study, run
from sweeps.commands.export import export_trial
from sweeps.pruning import FAILED
from sweeps.runner import LEDGER
from tests.sweeps.test_steps import outcome
from tests.sweeps.toy_steps import Thrifty

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    with ray_session(None, 1):
        yield


def study(**changes) -> Study:
    base = {
        "name": "walks",
        "trainable": "tests.sweeps.toy_steps:Thrifty",
        "fixed": {"paces": 12},
        "space": {"goal": [0.8, 0.1, 1.2, 0.3, 0.0, 1.4]},
        "scheduler": {"kind": "asha", "grace": 2, "factor": 4},
        "seed": 3,
    }
    return Study.parse({**base, **changes})


def ended(home: Path) -> dict[int, tuple[str, set[str]]]:
    """How each trial ended, and what is in its folder."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        frame = ledger.frame()
    found = {}
    for trial, status, key in zip(frame["trial"], frame["status"], frame["config_id"], strict=True):
        found[int(trial)] = status, {path.name for path in (home / "trials" / key).iterdir()}
    return found


def test_completed_and_stopped_trials_keep_what_export_needs_and_failed_ones_all(tmp_path):
    space = {"goal": [0.8, 0.1, 1.2, 0.3, 0.0], "trouble": ["none", "raises", "diverges"]}
    run(study(space=space), tmp_path, slots=1)
    found = ended(tmp_path / "walks")
    assert {status for status, _ in found.values()} == {"completed", "stopped", "failed"} and len(found) == 15
    for status, left in found.values():
        assert left == ({"state.json", "moments.bin"} if status == "failed" else {"state.json"})
    # Room of what is left of those that have their result.
    done = [path for path in (tmp_path / "walks" / "trials").rglob("*") if path.is_file() and path.name != "moments.bin"]
    assert sum(path.stat().st_size for path in done) < 15 * 1000 < Thrifty.size
    name, [folder] = export_trial(tmp_path / "walks", None, tmp_path / "out")
    best = int(name.rpartition("/")[2])
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        state = tmp_path / "walks" / "trials" / ledger.trial(best)["config_id"] / "state.json"
    assert (folder / "level.json").read_bytes() == state.read_bytes() and found[best][0] == "completed"


def test_a_failed_trial_goes_on_from_its_whole_checkpoint_when_it_is_retried(tmp_path):
    asked = study(space={"goal": [0.8], "trouble": ["raises"]})
    run(asked, tmp_path, slots=1)
    again = run(asked, tmp_path, slots=1, retry_failed=True)
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        assert not ledger.events("repeated")  # it did not start over
    assert again.tally.failed == 1 and ended(tmp_path / "walks")[0] == ("failed", {"state.json", "moments.bin"})


@pytest.mark.slow
@pytest.mark.parametrize(("first", "status"), [("diverges", "stopped"), ("none", "completed")])
def test_a_study_killed_between_a_result_and_its_pruning_prunes_when_it_goes_on(first, status, tmp_path):
    asked = study(space={"goal": [0.8, 0.1]}, fixed={"paces": 12, "trouble": first})
    file, trap = tmp_path / "walks.yaml", tmp_path / "trap"
    file.write_text(yaml.safe_dump(asked.model_dump(exclude={"resources"})))
    trap.touch()
    command = [sys.executable, "-m", "sweeps.cli", "run", str(file), "--dir", str(tmp_path / "killed"), "--slots", "1"]
    environment = {**os.environ, "WALK_TRAP": str(trap)}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    assert driver.wait(timeout=120) == -signal.SIGKILL
    home = tmp_path / "killed" / "walks"
    # It has its result and was not pruned.
    assert ended(home) == {0: (status, {"state.json", "moments.bin"})}
    run(asked, tmp_path / "killed", slots=1)
    assert {trial: left for trial, (_, left) in ended(home).items()} == {0: {"state.json"}, 1: {"state.json"}}
    run(asked, tmp_path / "whole", slots=1)
    assert repr(outcome(home)) == repr(outcome(tmp_path / "whole" / "walks"))  # as text, since NaN is not NaN


@pytest.mark.slow
def test_a_pruning_that_fails_harms_no_trial_is_on_record_and_done_later(tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    trap.write_text("read-only file\nsystem")
    monkeypatch.setenv("WALK_TRAP", str(trap))
    told = []
    first = run(study(space={"goal": [0.8, 1.2]}), tmp_path, slots=1, on_progress=lambda tally: told.append(tally.news))
    assert first.tally.done == 2 and not first.tally.failed
    with Ledger.open(tmp_path / "walks" / LEDGER, readonly=True) as ledger:
        [event] = ledger.events(FAILED)
    assert event["detail"]["error"] == "OSError: read-only file system"
    words = f"trial {event['trial']} .*; its checkpoint could not be made smaller \\(OSError: read-only file system\\)"
    assert any(re.match(words, line) for line in told), told
    left = {trial: names for trial, (_, names) in ended(tmp_path / "walks").items()}
    assert "moments.bin" in left[event["trial"]] and sum("moments.bin" in names for names in left.values()) == 1
    run(study(space={"goal": [0.8, 1.2, 1.4]}), tmp_path, slots=1)
    assert all("moments.bin" not in names for _, names in ended(tmp_path / "walks").values())
