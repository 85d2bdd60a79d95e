"""A trial's adapters, exported: what plain peft loads forecasts like the trial, and is not used on what it was trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("chronos")

from trainables.checkpoint import CheckpointError  # noqa: E402
from trainables.chronos2.export import check_train_end, read_metadata  # noqa: E402
from trainables.chronos2.forecast import forecast, spread_origins  # noqa: E402
from trainables.chronos2.model import SMALL, load_base  # noqa: E402
from trainables.chronos2.trainable import ChronosLora  # noqa: E402
from trainables.chronos2.trial import LEVELS, fold_folder, make_runs  # noqa: E402
from trainables.contract import TrainableError  # noqa: E402
from trainables.exported import ExportError  # noqa: E402
from trainables.stepping import Exports, Prunes, StepContext  # noqa: E402
from trainables.timeline import Protocol  # noqa: E402

DATA = {"source": "sample", "bars": 1000, "signal": 0.25, "seed": 3, "symbols": ["BTCUSD", "ETHUSD"]}
SMALL_RUN = {"steps": 4, "context": 64, "horizon": 4, "batch_rows": 8, "rank": 4, "learning_rate": 1e-2, "preaug": "log_diff"}


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A trial stopped after its first report, in two folds: inputs, configuration, context."""
    prepared = ChronosLora().prepare(DATA, {"eval_every": 2, "origins": 12}, Protocol(folds=2))
    config = {**prepared.defaults, **SMALL_RUN}
    ctx = StepContext(prepared.inputs, tmp_path_factory.mktemp("trial"), seed=5)
    reports = ChronosLora().evaluate(config, ctx)
    first = next(reports)
    reports.close()
    return config, replace(ctx, reached=first.step), {"step": first.step, **first.metrics}


@pytest.fixture(scope="module")
def exported(trial, tmp_path_factory):
    config, ctx, said = trial
    return ChronosLora().export(config, ctx, tmp_path_factory.mktemp("out") / "best", True, "lora_ranks/7", [said])


def ask(model, run, window):
    return forecast(model, run.tasks, spread_origins(run.tasks, window, 4, 3), 4, LEVELS, context=64)


def test_each_fold_has_a_folder_whose_adapter_forecasts_like_the_trial_in_plain_peft(trial, exported):
    from peft import PeftModel

    config, ctx, _ = trial
    assert isinstance(ChronosLora(), Exports)
    assert [path.name for path in exported] == ["fold-1", "fold-2"]
    runs = make_runs(config, ctx.inputs, ctx.seed, "cpu")
    for k, (run, fold, place) in enumerate(zip(runs, ctx.inputs.folds, exported, strict=True)):
        before = ask(run.model, run, fold.tune)  # fresh adapters change nothing
        run.load(fold_folder(ctx.folder, k))
        base = load_base("small", device="cpu", dtype="float32").model
        loaded = PeftModel.from_pretrained(base, str(place / "lora-adapter")).eval()
        np.testing.assert_array_equal(ask(loaded, run, fold.tune), ask(run.model, run, fold.tune))
        assert not np.allclose(ask(loaded, run, fold.tune), before, rtol=1e-5)


def test_the_pipeline_of_chronos_finds_the_embedded_base_of_an_adapter_and_takes_merged_weights_alone(trial, exported):
    from chronos import Chronos2Pipeline

    config, ctx, _ = trial
    [*_, run] = make_runs(config, ctx.inputs, ctx.seed, "cpu")
    run.load(fold_folder(ctx.folder, 1))
    assert json.loads((exported[1] / "lora-adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(SMALL)
    for part in ("lora-adapter", "finetuned"):
        model = Chronos2Pipeline.from_pretrained(str(exported[1] / part)).model
        window = ctx.inputs.folds[1].tune
        np.testing.assert_allclose(ask(model, run, window), ask(run.model, run, window), rtol=1e-4)


def test_metadata_say_which_trial_and_fold_it_is_and_how_it_went(trial, exported):
    _, ctx, said = trial
    for k, (fold, place) in enumerate(zip(ctx.inputs.folds, exported, strict=True), 1):
        data = read_metadata(place)
        assert data["run_name"] == f"lora_ranks/7/fold-{k}" and data["parent_run"] == "lora_ranks/7"
        assert data["base_model"] == "small" and data["base_digest"] == ctx.inputs.digest and data["step"] == 2
        assert data["lora"]["r"] == 4 and data["lora"]["merge"] is True and data["preaug"] == "log_diff"
        assert data["eval_curve"][0]["skill"] == pytest.approx(said["skill"]) and data["eval_curve"][0]["step"] == 2
        times = ctx.inputs.panel.times
        assert np.datetime64(data["train_end"].rstrip("Z")) == times[fold.train.stop - 1]
        # Its own tune window is after the embargo; the bars it was trained on are refused.
        check_train_end(data, times[fold.tune.start])
        with pytest.raises(ExportError, match=f"lora_ranks/7/fold-{k}: was trained on bars until"):
            check_train_end(data, times[fold.train.stop - 1])
    with pytest.raises(ExportError):  # the second fold's adapter has seen the first's tune window
        check_train_end(read_metadata(exported[1]), ctx.inputs.panel.times[ctx.inputs.folds[0].tune.start])


def test_pruned_a_trial_takes_a_third_of_the_room_and_exports_the_same_bytes(trial, tmp_path):
    config, ctx, said = trial
    ctx = replace(ctx, folder=shutil.copytree(ctx.folder, tmp_path / "trial"))

    def room():
        return sum(path.stat().st_size for path in ctx.folder.rglob("*.safetensors"))

    def export(name):
        folder = tmp_path / name
        ChronosLora().export(config, ctx, folder, True, "lora_ranks/7", [said])
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert isinstance(ChronosLora(), Prunes)
    whole, before = room(), export("before")
    for _ in range(2):
        ChronosLora().prune(ctx.folder)
    assert 0.30 * whole < room() < 0.37 * whole
    after = export("after")
    assert len(before) >= 8 and before == after
    # Done or not, a checkpoint of which something is missing is not gone on from: it starts over, to the same reports.
    [last] = ChronosLora().evaluate(config, ctx)
    [undisturbed] = ChronosLora().evaluate(config, replace(ctx, folder=shutil.copytree(trial[1].folder, tmp_path / "whole")))
    assert last.metrics == undisturbed.metrics and last.step == undisturbed.step == 4
    assert "its moments were dropped when its trial had ended" in last.note and not undisturbed.note.count("dropped")


def test_a_folder_that_holds_something_else_is_never_replaced(trial, tmp_path):
    config, ctx, _ = trial
    mine = tmp_path / "out" / "fold-2"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"fold-2: the folder holds thesis\.txt, which no export wrote"):
        ChronosLora().export(config, ctx, tmp_path / "out", False, "a/1")
    assert (mine / "thesis.txt").read_text() == "years of work" and not (tmp_path / "out" / "fold-1").exists()
    (mine / "thesis.txt").unlink()
    for _ in range(2):  # over an empty folder, and over an earlier export
        assert len(ChronosLora().export(config, ctx, tmp_path / "out", False, "a/1")) == 2


def test_a_trial_of_one_fold_is_written_to_the_folder_itself(tmp_path):
    prepared = ChronosLora().prepare(DATA, {"eval_every": 2, "origins": 5}, Protocol(folds=1))
    config = {**prepared.defaults, **SMALL_RUN, "steps": 2}
    ctx = StepContext(prepared.inputs, tmp_path / "trial", seed=1)
    ctx.folder.mkdir()
    list(ChronosLora().evaluate(config, ctx))
    assert ChronosLora().export(config, ctx, tmp_path / "out", False, "a/1") == [tmp_path / "out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lora-adapter", "run_metadata.json"}


def test_a_trial_without_its_checkpoint_or_with_that_of_another_is_refused(trial, tmp_path):
    config, ctx, _ = trial
    with pytest.raises(CheckpointError, match="there is none"):
        ChronosLora().export(config, replace(ctx, folder=tmp_path), tmp_path / "out", False, "a/1")
    with pytest.raises(CheckpointError, match="settings is"):
        ChronosLora().export({**config, "learning_rate": 1e-3}, ctx, tmp_path / "out", False, "a/1")
    assert issubclass(CheckpointError, TrainableError) and not (tmp_path / "out").exists()
