"""A secret of the environment is in no byte of a study's folder, whatever a trainable puts into its errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.session import ray_session
from results import Ledger
from results.reports import read
from sweeps import Study, StudyError, run
from sweeps.runner import LEDGER

SECRET = "k3y-that-nobody-may-see"
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKY_API_KEY", SECRET)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(sys, "argv", ["alphasweep", "run", f"--note={SECRET}"])


def study(kind: str, **given: object) -> Study:
    return Study.parse({"name": "leaky", "trainable": f"toy_leaky:{kind}", "space": {"x": [0, 1, 2]}, **given})


def found(folder: Path, *parts: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 0
    return [f"{path.name}: {part}" for path in files for part in parts if part.encode() in path.read_bytes()]


def test_no_byte_of_a_studys_folder_holds_what_an_error_quoted(tmp_path: Path) -> None:
    result = run(study("Leaky"), tmp_path, here=60.0)
    assert (result.tally.done, result.tally.failed) == (3, 2)
    with Ledger.open(tmp_path / "leaky" / LEDGER, readonly=True) as ledger:
        errors = [ledger.trial(trial)["error"] for trial in (1, 2)]
        assert errors[0] == "RuntimeError: 401 Unauthorized: '[LEAKY_API_KEY]'"
        assert "[LEAKY_A" in errors[1]
        assert ledger.sessions()[0]["provenance"]["command"] == ["alphasweep", "run", "--note=[LEAKY_API_KEY]"]
    assert found(tmp_path, SECRET, SECRET[:8]) == []


@pytest.mark.ray
def test_no_byte_of_a_studys_folder_holds_what_workers_said(tmp_path: Path) -> None:
    with ray_session(None, 1):
        result = run(study("LeakySteps"), tmp_path, slots=1)
    assert result.tally.failed == 2
    with Ledger.open(tmp_path / "leaky" / LEDGER, readonly=True) as ledger:
        assert ledger.trial(1)["error"] == "RuntimeError: 401 Unauthorized: '[LEAKY_API_KEY]'"
        assert "signed in with [LEAKY_API_KEY]" in [row.note for row in read(ledger)]
    assert found(tmp_path, SECRET, SECRET[:8]) == []


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"data": {"source": {"login": [SECRET]}}}, "data.source.login"),
        ({"description": f"with {SECRET}"}, "description"),
        ({"settings": {SECRET: 1}}, r"settings.\[LEAKY_API_KEY\]"),
    ],
)
def test_a_study_that_holds_a_secret_is_refused_by_key_and_variable(tmp_path: Path, given: dict, key: str) -> None:
    with pytest.raises(StudyError, match=rf"{key} holds the value of the environment variable LEAKY_API_KEY") as refused:
        run(study("Leaky", **given), tmp_path)
    assert SECRET not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_study_file_and_a_setting_with_a_secret_are_refused_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "leaky.yaml"
    file.write_text(f"trainable: selector\ndata:\n  token: {SECRET}\nspace: {{min_edge: [0.0]}}\n")
    with pytest.raises(StudyError, match=r"leaky.yaml, line 3: data.token holds .* LEAKY_API_KEY") as refused:
        Study.load(file)
    with pytest.raises(StudyError, match=r"--set settings.token=\[LEAKY_API_KEY\]: settings.token holds") as also:
        Study.load("selector_grid", [f"settings.token={SECRET}"])
    assert SECRET not in str(refused.value) + str(also.value)


def test_a_study_that_only_names_the_variable_is_taken() -> None:
    study("Leaky", data={"key_from": "LEAKY_API_KEY"}).check_secrets()
