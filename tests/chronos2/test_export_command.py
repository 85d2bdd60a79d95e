"""Exporting from studies that have nothing to export."""

import pytest

from sweeps import Study, run
from sweeps.cli_export import export_trial
from sweeps.study import StudyError


@pytest.mark.ray
def test_a_trainable_that_leaves_nothing_says_so(tmp_path):
    study = Study.parse({"name": "toy", "trainable": "tests.sweeps.toy:Toy", "space": {"x": [1, 2]}})
    run(study, tmp_path, slots=1)
    with pytest.raises(StudyError, match=r"toy: tests\.sweeps\.toy:Toy leaves nothing to export; studies of chronos_lora do"):
        export_trial(tmp_path / "toy", None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
