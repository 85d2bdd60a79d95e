"""The fine-tune studies of the library, and what is wrong with a study of one's own, said before anything is trained."""

import json
import shutil

import pytest
import yaml

from sweeps import Study
from sweeps.cli import main
from sweeps.search import Search
from sweeps.study import StudyError
from trainables.chronos2.model import SMALL
from trainables.chronos2.preaug import PREAUGS
from trainables.chronos2.tasks import GROUPINGS

POINTS = {"lora_ranks": 16, "lora_preaug": 10, "lora_groups": 8, "lora_full": 48}


@pytest.mark.parametrize("name", POINTS)
def test_each_study_of_the_library_is_valid_and_has_the_points_it_says(name):
    search = Search(Study.load(name))
    search.check()
    assert search.sampler.size == POINTS[name]
    assert search.study.scheduler["kind"] == "asha" and search.study.settings["model"] == "small" and search.objective == "skill"
    steps = int(search.study.fixed["steps"])
    assert steps % search.study.settings["eval_every"] == 0 and search.study.scheduler["grace"] % search.study.settings["eval_every"] == 0
    made = search.prepare()
    assert len(made.inputs.folds) == 2 and not made.warnings


def test_a_training_loss_ranks_nothing_and_what_does_is_named():
    with pytest.raises(StudyError, match=r"objective: 'train_loss': .* metrics with a direction are .*skill"):
        Search(Study.load("lora_ranks", ["objective=train_loss"])).check()


def test_the_studies_cover_what_the_domain_asks_for():
    def values(name, key):
        search = Search(Study.load(name))
        return {config[key] for config in search.sampler.configs(0, search.sampler.size)}

    assert values("lora_ranks", "rank") == {8, 16, 32, 64}
    assert values("lora_preaug", "preaug") == set(PREAUGS)
    assert values("lora_groups", "grouping") == {"none", "majors", "correlation"} < set(GROUPINGS)
    # A transform Chronos-2 cannot see is the baseline under another name.
    assert values("lora_full", "preaug") == {name for name, made in PREAUGS.items() if name == "baseline" or not made.affine}
    axes = {"rank", "alpha_ratio", "dropout", "targets", "learning_rate", "context", "covariates", "grouping"}
    assert axes <= set(Search(Study.load("lora_full")).space.names)


STUDY = {
    "name": "own",
    "trainable": "chronos_lora",
    "data": {"source": "sample", "bars": 1000, "symbols": ["BTCUSD", "ETHUSD"]},
    "settings": {"model": "small"},
    "protocol": {"folds": 1},
    "space": {"rank": [4, 8]},
}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def ask(**changes):
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(STUDY | changes))
        with pytest.raises(SystemExit) as ended:
            main(["run", "own.yaml", "--dir", str(tmp_path / "runs")])
        assert ended.value.code == 2
        assert not (tmp_path / "runs").exists(), "something was begun"
        return " ".join(capsys.readouterr().err.split())

    return ask


def test_an_adapter_for_a_model_is_refused_with_the_base_it_needs(refused, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "amazon/chronos-2"}))
    said = refused(settings={"model": str(adapter)})
    assert "own.yaml, line" in said and "is a LoRA adapter, not a base model: it needs the base amazon/chronos-2" in said


def test_a_model_id_that_cannot_be_had_is_refused(refused):
    assert "amazon/chronos-3 is no directory here and not in the Hugging Face cache" in refused(settings={"model": "amazon/chronos-3"})
    assert "'smal' is neither small, a directory nor a hub id" in refused(settings={"model": "smal"})


def test_a_model_without_weights_or_with_damaged_ones_is_refused(refused, tmp_path):
    shutil.copytree(SMALL, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    said = refused(settings={"model": str(tmp_path / "model")})
    assert "has no model.safetensors; the directory holds config.json" in said
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged" in refused(settings={"model": str(tmp_path / "model")})


def test_what_is_no_chronos_is_refused(refused, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    assert "is not a Chronos-2 but BertModel" in refused(settings={"model": str(tmp_path / "bert")})


def test_weights_that_do_not_fit_their_config_are_refused(refused, tmp_path):
    shutil.copytree(SMALL, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for change in ({"d_model": 128}, {"d_ff": 8}, {"num_layers": 12}):
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | change))
        assert "do not fit its config.json: encoder.block" in refused(settings={"model": str(tmp_path / "model")})


def test_a_history_too_short_for_the_horizon_is_refused(refused):
    short = {"data": {"source": "sample", "bars": 200, "symbols": ["BTCUSD"]}, "protocol": {"folds": 1, "train": "40h", "holdout": "0%"}}
    said = refused(**short)
    assert (
        "own.yaml, line" in said
        and "a symbol needs 48 bars in the train window for a horizon of 24; the most a symbol has there is 40" in said
    )
    score = {"settings": {"score": [1, 30]}}
    assert "needs 60 bars in the train window for a horizon of 30" in refused(**short, **score, fixed={"horizon": 30})
    far = {"data": {"source": "sample", "bars": 400, "symbols": ["BTCUSD"]}, "protocol": {"folds": 2, "tune": "30h", "holdout": "0%"}}
    said = refused(**far, settings={"score": [40]}, fixed={"horizon": 40})
    assert "needs 40 bars in the tune window of fold 1 for a horizon of 40" in said
    assert "protocol: the data cover" in refused(data={"source": "sample", "bars": 100})


def test_a_short_history_is_enough_for_a_short_horizon():
    data = {"source": "sample", "bars": 200, "symbols": ["BTCUSD"]}
    study = STUDY | {"data": data, "protocol": {"folds": 1, "train": "40h", "holdout": "0%"}}
    search = Search(Study.parse(study | {"settings": {"score": [1, 4]}, "fixed": {"horizon": 4}}))
    search.check()
    search.prepare()
