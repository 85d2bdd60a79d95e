"""Exporting from studies that have nothing to export, and what was trained for the holdout."""

import numpy as np
import pytest

from sweeps import Study, run
from sweeps.commands.export import export_trial
from sweeps.study import StudyError


@pytest.mark.slow
@pytest.mark.ray
def test_a_trainable_that_leaves_nothing_says_so(tmp_path):
    study = Study.parse({"name": "toy", "trainable": "tests.sweeps.toy:Toy", "space": {"x": [1, 2]}})
    run(study, tmp_path, slots=1)
    with pytest.raises(StudyError, match=r"toy: tests\.sweeps\.toy:Toy leaves nothing to export; studies of chronos_lora do"):
        export_trial(tmp_path / "toy", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_trained_for_the_holdout_has_seen_all_bars_up_to_the_embargo_and_none_after(tmp_path):
    from trainables.chronos2.export import check_train_end, read_metadata
    from trainables.chronos2.trainable import ChronosLora
    from trainables.exported import ExportError
    from trainables.stepping import StepContext
    from trainables.timeline import Protocol

    data = {"source": "sample", "bars": 1000, "symbols": ["BTCUSD"]}
    prepared = ChronosLora().prepare(data, {"eval_every": 1, "origins": 3}, Protocol(folds=2), "holdout")
    config = {**prepared.defaults, "steps": 1, "context": 32, "horizon": 24, "batch_rows": 4}
    ctx = StepContext(prepared.inputs, tmp_path / "trial")
    ctx.folder.mkdir()
    list(ChronosLora().evaluate(config, ctx))
    assert ChronosLora().export(config, ctx, tmp_path / "out", False, "a/1/holdout") == [tmp_path / "out"]
    made, timeline = read_metadata(tmp_path / "out"), prepared.timeline
    assert made["parent_run"] == "a/1/holdout"
    assert np.datetime64(made["train_end"].rstrip("Z")) == timeline.times[timeline.visible.stop - 1]
    check_train_end(made, timeline.times[timeline.holdout.start])
    with pytest.raises(ExportError, match="was trained on bars until"):
        check_train_end(made, timeline.times[timeline.visible.stop - 1])
