"""A fine-tune study on Ray whose worker is killed: it goes on from its checkpoint, to the same bits; and what it learnt is exported."""

from __future__ import annotations

import contextlib
import os
import signal

import numpy as np
import psutil
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from cluster.session import ray_session  # noqa: E402
from results import Ledger, reports  # noqa: E402
from sweeps import Study, run  # noqa: E402
from sweeps.cli import main  # noqa: E402
from sweeps.runner import LEDGER, verify  # noqa: E402
from trainables.chronos2.export import read_metadata  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STUDY = {
    "name": "small_ranks",
    "trainable": "chronos_lora",
    "data": {"source": "sample", "bars": 1000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]},
    "settings": {"eval_every": 2, "origins": 12, "score": [1, 4]},
    "protocol": {"folds": 2},
    "fixed": {"steps": 8, "context": 64, "horizon": 4, "batch_rows": 8, "learning_rate": 1e-3},
    "space": {"rank": [4, 8]},
    "scheduler": {"kind": "none"},
    "seed": 2,
}


def workers() -> list[psutil.Process]:
    """This session's processes that run a trial: children of its raylet, named after what they do; its agents are too."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline()[:1])
            if title.startswith("ray::") and not title.endswith("Agent") and title != "ray::IDLE":
                found.append(process)
    return found


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """The same study twice: undisturbed, and with its worker killed after the second report of each trial."""
    folder = tmp_path_factory.mktemp("studies")
    heard, killed = [], []

    def kill(tally):
        with Ledger.open(folder / "killed" / "small_ranks" / LEDGER, readonly=True) as ledger:
            last = list(reports.read(ledger))[-1:]
        for row in last:
            if row.step == 4 and row.trial not in heard:
                heard.append(row.trial)
                for process in workers():
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)

    with ray_session(None, 2):
        run(Study.parse(STUDY), folder / "whole", slots=1)
        run(Study.parse(STUDY), folder / "killed", slots=1, on_progress=kill)
    assert heard == [0, 1] and len(killed) >= 2
    return folder / "whole" / "small_ranks", folder / "killed" / "small_ranks"


def test_a_trial_whose_worker_was_killed_ends_bit_identical_to_one_that_was_not(homes):
    said, died = [], []
    for home in homes:
        with Ledger.open(home / LEDGER, readonly=True) as ledger:
            said.append([(row.trial, row.config_id, row.step, tuple(row.metrics)) for row in reports.read(ledger)])
            died.append(len(ledger.events("worker_died")))
            assert ledger.counts()["completed"] == 2
            assert not ledger.events("repeated")
        assert verify(home).ok
    assert died == [0, 2]
    assert [row[:3] for row in said[0]] == [row[:3] for row in said[1]] and len(said[0]) == 8
    np.testing.assert_array_equal([row[3] for row in said[0]], [row[3] for row in said[1]])
    whole, killed = ({path.relative_to(home): path for path in (home / "trials").rglob("*.safetensors")} for home in homes)
    assert len(whole) == 4 and whole.keys() == killed.keys()  # their names hold the digests of their weights and moments
    assert all(whole[name].read_bytes() == killed[name].read_bytes() for name in whole)


def test_the_command_exports_the_best_or_a_named_trial_and_says_what_it_cannot(homes, tmp_path, capsys):
    home = homes[1]
    where = ["--dir", str(home.parent)]

    def ask(*words):
        code = 0
        try:
            main(["export", "small_ranks", *words, *where])
        except SystemExit as ended:
            code = ended.code or 0
        return code, " ".join(" ".join(capsys.readouterr()).split())

    code, said = ask("--to", str(tmp_path / "best"))
    assert code == 0 and f"written to {tmp_path / 'best' / 'fold-2'}" in said
    code, said = ask("1", "--to", str(tmp_path / "one"), "--merged")
    data = read_metadata(tmp_path / "one" / "fold-1")
    assert code == 0 and data["parent_run"] == "small_ranks/1" and data["lora"]["r"] == 8 and data["lora"]["alpha"] == 16
    assert [point["step"] for point in data["eval_curve"]] == [2, 4, 6, 8] and data["step"] == 8
    assert (tmp_path / "one" / "fold-2" / "finetuned" / "model.safetensors").is_file()
    code, said = ask("7", "--to", str(tmp_path / "seven"))
    assert code == 2 and "has no trial '7'" in said
    trials = home / "trials"
    trials.rename(home / "elsewhere")
    code, said = ask("1", "--to", str(tmp_path / "none"))
    (home / "elsewhere").rename(trials)
    assert code == 2 and "small_ranks/1: its checkpoint is not in" in said and not (tmp_path / "none").exists()
