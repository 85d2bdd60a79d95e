from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from results import Header
from results.tracking.tensorboard import TensorboardTracker, held
from results.tracking.tracker import FINISHED, RUNNING, About, Board, Place, Point, Rows, TrackerError, TrialRun

pytest.importorskip("tensorboardX")


@pytest.fixture
def about(tmp_path: Path, make_header: Callable[..., Header]) -> About:
    return About(make_header(), "0123456789abcdef", 12, True, ("x",), tmp_path)


def study(about: About) -> Path:
    return about.home / "tracking" / "tensorboard" / "grid"


def points(n: int) -> list[Point]:
    return [Point(i, 10 * (i + 1), {"best/sharpe": 1.0 + i, "speed": float("nan")}) for i in range(n)]


def run(trial: int, status: str = "completed") -> TrialRun:
    reports = [(10, {"sharpe": 0.25}), (20, {"sharpe": 0.5})]
    config = {"x": trial, "mode": "high_low", "layers": [1, 2]} | ({"momentum": 0.9} if trial else {})
    return TrialRun(trial, f"{trial:032x}", config, status, {"sharpe": 0.5, "total_return": 0.125}, 2.5, reports)


def write(tracker: TensorboardTracker, n: int = 12, trials: int = 3) -> None:
    for point in points(n):
        tracker.point(point)
    tracker.rows(Rows(0, pd.DataFrame({"trial": [0]})))
    for trial in range(trials):
        tracker.trial(run(trial, "stopped" if trial == 2 else "completed"))
    tracker.board(Board(10 * n, pd.DataFrame({"rank": [1], "trial": [3], "mode": ["a|b"]})))


def written(about: About, n: int = 12, trials: int = 3) -> TensorboardTracker:
    tracker = TensorboardTracker(about, {"trials": "auto"})
    assert tracker.open() == Place()
    write(tracker, n, trials)
    tracker.close(FINISHED, {"verdict": "survives"})
    return tracker


def test_tensorboard_reads_curves_trials_and_texts(about: About) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = written(about)
    found = reading.EventAccumulator(str(study(about)), size_guidance={"scalars": 0}).Reload()
    assert found.Tags()["scalars"] == ["best/sharpe"]
    assert [(e.step, e.value) for e in found.Scalars("best/sharpe")] == [(p.done, p.values["best/sharpe"]) for p in points(12)]
    assert b"a\\|b" in found.Tensors("leaderboard/text_summary")[0].tensor_proto.string_val[0]
    assert b"survives" in found.Tensors("summary/text_summary")[0].tensor_proto.string_val[0]
    trial = reading.EventAccumulator(str(study(about) / "trial-00001")).Reload()
    assert [(e.step, e.value) for e in trial.Scalars("sharpe")] == [(10, 0.25), (20, 0.5)]
    assert [(e.step, e.value) for e in trial.Scalars("total_return")] == [(20, 0.125)]
    assert tracker.check(12, 12, {0, 1, 2}) == []


def test_completed_trials_are_lines_of_the_hparams_table_and_stopped_ones_are_not(about: About) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    written(about)
    for trial in (0, 1):
        found = reading.EventAccumulator(str(study(about) / f"trial-{trial:05d}")).Reload()
        tags = found.PluginTagToContent("hparams")
        assert set(tags) == {metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
        values = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG]).hparams
        assert values["x"].number_value == trial and values["mode"].string_value == "high_low" and values["layers"].string_value == "[1, 2]"
        assert ("momentum" in values) == bool(trial)
    stopped = reading.EventAccumulator(str(study(about) / "trial-00002")).Reload()
    assert "hparams" not in stopped.summary_metadata and stopped.Tags()["scalars"] == ["sharpe", "total_return"]


def test_twice_is_once(about: About) -> None:
    written(about)
    written(about)
    assert held(study(about)) == (12, 3)
    assert len(list(study(about).glob("events*"))) == 1
    assert sorted(path.name for path in (about.home / "tracking").iterdir()) == ["tensorboard"]


def test_a_killed_writer_leaves_the_files_there_were_and_the_next_one_begins_anew(about: About) -> None:
    written(about)
    killed = TensorboardTracker(about, {})
    killed.open()
    for point in points(8):
        killed.point(point)
    assert held(study(about)) == (12, 3)
    after = TensorboardTracker(about, {})
    after.open()
    assert after.check(12, 0, {0, 1, 2}) == []
    write(after, 14, 4)
    after.close(FINISHED, {})
    assert held(study(about)) == (14, 4)


def test_new_files_take_the_place_of_the_old_while_the_study_runs_as_soon_as_they_hold_as_much(about: About) -> None:
    written(about, 6, 1)
    tracker = TensorboardTracker(about, {})
    tracker.open()
    old = next(study(about).glob("events*"))
    for point in points(6):
        tracker.point(point)
    assert old.exists()  # the trial is not there yet
    tracker.trial(run(0))
    assert held(study(about)) == (6, 1)
    for point in points(9)[6:]:
        tracker.point(point)
    tracker.trial(run(1))
    tracker.close(RUNNING, {})
    assert held(study(about)) == (9, 2) and not (about.home / "tracking" / ".tensorboard-new").exists()


def test_a_writer_that_ended_between_the_two_renames_loses_nothing(about: About) -> None:
    written(about)
    place = about.home / "tracking"
    (place / "tensorboard").rename(place / ".tensorboard-old")
    tracker = TensorboardTracker(about, {})
    tracker.open()
    assert tracker.check(12, 0, {0, 1, 2}) == []


def test_what_is_missing_is_said(about: About) -> None:
    tracker = written(about)
    assert tracker.check(13, 0, {0, 9}) == ["12 points of the curves in place of 13", "no values of 1 trials, the first is 9"]


@pytest.mark.parametrize("at", [0, 9, 14, 200, 201, 202, 203, 204, -1])
def test_a_damaged_file_is_said_whichever_byte_it_is_and_written_anew(about: About, at: int) -> None:
    tracker = written(about)
    path = next(study(about).glob("events*"))
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(TrackerError, match=r"is damaged at byte .* alphasweep track sync writes it anew"):
        tracker.check(12, 0, ())
    written(about)
    assert held(study(about)) == (12, 3)


def test_a_record_that_is_cut_short_is_no_damage(about: About) -> None:
    written(about)
    path = next(study(about).glob("events*"))
    path.write_bytes(path.read_bytes()[:-5])
    assert held(study(about)) == (12, 3)


def test_a_setting_and_a_folder_that_cannot_be_written_are_said(about: About) -> None:
    with pytest.raises(TrackerError, match=r"tracking\.tensorboard: unknown 'logdir'; there is trials"):
        TensorboardTracker(about, {"logdir": "x"})
    (about.home / "tracking").write_text("in the way")
    with pytest.raises(TrackerError, match=r"TensorBoard: .*tracking"):
        TensorboardTracker(about, {}).open()
        TensorboardTracker(about, {}).point(points(1)[0])
