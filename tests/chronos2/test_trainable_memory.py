"""A fine-tune study that runs out of memory: a trial halves its batch once, says so for good, and then fails with words."""

from __future__ import annotations

from functools import partial

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from results import Ledger, reports  # noqa: E402
from sweeps import Study, run  # noqa: E402
from sweeps.cli import main  # noqa: E402
from sweeps.runner import LEDGER  # noqa: E402
from trainables.chronos2.trainable import ChronosLora  # noqa: E402

ROOM = 10  # rows that fit


class Starved(ChronosLora):
    """Has memory to train on ten rows at once: the forward pass of a real step raises as torch does on a card that is full."""

    def evaluate(self, config, ctx):
        from chronos.chronos2.model import Chronos2Model

        forward = Chronos2Model.forward

        def full(model, *args, **kwargs):
            if model.training and len(kwargs["context"]) > ROOM:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(model, *args, **kwargs)

        Chronos2Model.forward = full
        try:
            yield from super().evaluate(config, ctx)
        finally:
            Chronos2Model.forward = forward


@pytest.mark.slow
@pytest.mark.ray
def test_a_trial_out_of_memory_halves_its_batch_once_which_show_says_and_fails_clearly_the_second_time(tmp_path, capsys):
    study = {
        "name": "starved",
        "trainable": "tests.chronos2.test_trainable_memory:Starved",
        "data": {"source": "sample", "bars": 1000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]},
        "settings": {"eval_every": 2, "origins": 5, "score": [1, 4]},
        "protocol": {"folds": 1},
        "fixed": {"steps": 4, "context": 64, "horizon": 4, "rank": 4},
        "space": {"batch_rows": [8, 16, 32]},
        "scheduler": {"kind": "none"},
    }
    run(Study.parse(study), tmp_path, slots=1)
    with Ledger.open(tmp_path / "starved" / LEDGER, readonly=True) as ledger:
        rows = [ledger.trial(k) for k in range(3)]
        notes = {k: {row.note for row in reports.read(ledger) if row.trial == k} for k in range(3)}
        seen = [(row.trial, row.step, tuple(row.metrics)) for row in reports.read(ledger)]
        assert not ledger.events("worker_died")
    assert [row["status"] for row in rows] == ["completed", "completed", "failed"]
    halved = "out of memory at step 0: batch_rows halved to 8"
    assert not any("memory" in note for note in notes[0]) and all(halved in note for note in notes[1]) and not notes[2]
    assert rows[2]["error"].startswith("TrainableError: chronos2: out of memory on cpu even with batch_rows 16; give less of them")
    # What it was told, it did: halved, it took the steps that eight rows take.
    assert [step for trial, step, _ in seen if trial == 1] == [2, 4]
    show = partial(_said, capsys, tmp_path)
    assert f"note at step 2: {halved}" in show("show", "starved", "1") and "halved" not in show("show", "starved", "0")
    assert f"step 2: {halved}" in show("why", "starved", "1")
    for command in ("show", "why"):
        assert "chronos2: out of memory on cpu even with batch_rows 16" in show(command, "starved", "2")


def _said(capsys, folder, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--dir", str(folder)])
    assert not ended.value.code
    return " ".join(capsys.readouterr().out.split())
