"""A study's winner in MLflow's model registry: a version of a registered model, its stage, and what it takes to get there.

MLflow 3 has aliases in place of stages: `models:/STUDY@production` is whichever version is in production. A stage is given only to what
has earned it (`refusals`), and the version carries the evidence as tags.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results.digits import probability
from results.secrets import redacted
from results.tracking.mlflow import _json
from results.tracking.mlflow_store import Place, connect, ensure_run, experiment_of, place_of, run_of, shortened, told
from results.tracking.tracker import About, TrackerError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

STAGES: Final = ("candidate", "staging", "production")  # each needs what the ones before need
ARCHIVED: Final = "archived"
TRIAL: Final = "alphasweep.trial"
WHAT: Final = "alphasweep.what"
STAGE: Final = "alphasweep.stage"
RUN: Final = "alphasweep.run_id"
CONFIG: Final = "config.json"


@dataclass(frozen=True)
class Standing:
    """What is known about a trial when a stage is asked for it.

    Attributes:
        trial: Its number.
        config_id: Its identity, hexadecimal.
        config: Its parameters, defaults included.
        status: completed, stopped or failed.
        legacy: Whether the study's profile is the one with look-ahead.
        survives: Whether its evidence survives all looks at the data: the verdict "survives", with or without a "but"; of a study with a
            p-value against no model in place of daily returns, whether that is shown to be better.
        verdict: In words.
        dsr: Deflated Sharpe ratio; None or NaN where there is none.
        unmet: Constraints of the study that it does not meet, in words.
        holdout: Its metrics on the holdout; None if that was not opened for it, or not to its end.
        opening: Which opening of the holdout that was; 0 if none.
        fails: Why the holdout does not confirm it, or cannot; empty where it does, or was not opened.
    """

    trial: int
    config_id: str
    config: Mapping[str, Any]
    status: str
    legacy: bool
    survives: bool
    verdict: str
    dsr: float | None = None
    unmet: tuple[str, ...] = ()
    holdout: Mapping[str, float] | None = None
    opening: int = 0
    fails: str = ""


@dataclass(frozen=True)
class Registered:
    """What was done.

    Attributes:
        model: Name of the registered model.
        version: Of it.
        stage: It is in now; `ARCHIVED` for none.
        new: Whether the version was made just now.
        replaced: Version that was in this stage before; empty if none.
        uri: By which MLflow finds its files.
        where: The registry's address, without a password.
    """

    model: str
    version: str
    stage: str
    new: bool
    replaced: str
    uri: str
    where: str


def refusals(standing: Standing, stage: str) -> tuple[str, ...]:
    """Returns why a trial may not be in a stage, in words; empty if it may.

    candidate: completed, and not of a legacy study. staging: also survives deflation, and meets the study's constraints. production: also
    confirmed on the holdout, opened for this very trial.
    """
    if stage not in STAGES:
        raise TrackerError(f"there is no stage {stage!r}; there are {', '.join(STAGES)}")
    level, found = STAGES.index(stage), []
    if standing.legacy:
        found.append("legacy results contain look-ahead")
    if standing.status != "completed":
        found.append(f"it was {standing.status}, not completed" if standing.status == "stopped" else "it failed")
    if level >= 1 and not standing.survives:
        found.append(f"its verdict is {standing.verdict}")
    if level >= 1 and standing.unmet:
        found.append(f"it does not meet {', '.join(standing.unmet)}")
    if level >= 2 and standing.holdout is None:
        found.append(standing.fails or "there is no result on the holdout (alphasweep promote opens it, once)")
    elif level >= 2 and standing.fails:
        found.append(standing.fails)
    return tuple(found)


def evidence(standing: Standing) -> dict[str, str]:
    """Returns what a version's tags say about it."""
    found = {"alphasweep.verdict": standing.verdict, "alphasweep.config_id": standing.config_id}
    if standing.dsr is not None and not math.isnan(standing.dsr):
        found["alphasweep.dsr"] = probability(standing.dsr)
    if standing.holdout is not None:
        found["alphasweep.holdout_opening"] = str(standing.opening)
        found |= {f"alphasweep.holdout.{name}": f"{value:.6g}" for name, value in standing.holdout.items()}
    return found


def version_of(about: About, settings: Mapping[str, Any], trial: int, what: str) -> str | None:
    """Returns the version that is registered of a trial's files already; None if there is none.

    Args:
        about: The study.
        settings: As of `MlflowTracker`.
        trial: Its number.
        what: Which files of it, as of `register`.
    """
    place = place_of(settings, about.home)
    found = _same(connect(place), place, about, trial, what)
    return None if found is None else str(found.version)


def register(
    about: About, settings: Mapping[str, Any], standing: Standing, stage: str, *, what: str = "config", files: Path | None = None
) -> Registered:
    """Registers a trial and puts it into a stage; done twice, it is as if done once.

    Args:
        about: The study; its name is the registered model's.
        settings: As of `MlflowTracker`.
        standing: What is known about the trial.
        stage: One of `STAGES`, or `ARCHIVED`: then its versions lose theirs.
        what: Which files these are, such as "search" or "holdout-1": a version is made of each once.
        files: Folder to keep as the version; its configuration is kept in any case.

    Raises:
        TrackerError: It has not earned the stage, is in a higher one, or MLflow cannot be written to.
    """
    if stage != ARCHIVED and (reasons := refusals(standing, stage)):
        raise TrackerError(f"{about.header.name}: trial {standing.trial} cannot be in {stage}: {'; '.join(reasons)}")
    place, model = place_of(settings, about.home), about.header.name
    client = connect(place)
    own = [version for version in _versions(client, place, about) if version.tags.get(TRIAL) == str(standing.trial)]
    with told(place, "reading the registry"):
        held = {} if not own else {str(key): str(value) for key, value in client.get_registered_model(model).aliases.items()}
    numbers = {str(version.version) for version in own}
    above = [name for name in STAGES if stage in STAGES and STAGES.index(name) > STAGES.index(stage) and held.get(name) in numbers]
    if above:
        raise TrackerError(f"{model}: trial {standing.trial} is in {above[-1]}; --stage {ARCHIVED} takes it out, then it can be in {stage}")
    if stage == ARCHIVED:
        return _archive(client, place, about, standing, own, held)
    found = _same(client, place, about, standing.trial, what)
    version = found or _create(client, place, about, standing, what, files)
    number = str(version.version)
    with told(place, f"putting version {number} into {stage}"):
        for key, value in shortened({**evidence(standing), STAGE: stage}).items():
            client.set_model_version_tag(model, number, key, value)
        before = str(client.get_registered_model(model).aliases.get(stage, ""))
        client.set_registered_model_alias(model, stage, number)
        if before and before != number:
            client.set_model_version_tag(model, before, STAGE, ARCHIVED)
        for name in STAGES:
            if name != stage and held.get(name) in numbers | {number}:
                client.delete_registered_model_alias(model, name)
                if held[name] != number:
                    client.set_model_version_tag(model, held[name], STAGE, ARCHIVED)
    return Registered(model, number, stage, found is None, "" if before == number else before, f"models:/{model}@{stage}", place.shown)


def _create(client: MlflowClient, place: Place, about: About, standing: Standing, what: str, files: Path | None) -> ModelVersion:
    """Makes a version of a folder and the trial's configuration; they are kept with the study's run, so they are wherever that is."""
    header, tracked = about.header, run_of(client, place, experiment_of(client, place), about.run_id)
    run = tracked or ensure_run(client, place, about)
    folder = f"models/trial-{standing.trial}-{what}"
    config = {
        "study": header.name,
        "trial": standing.trial,
        "config_id": standing.config_id,
        "config": standing.config,
        **{key: header.context[key] for key in ("trainable", "version", "data_fingerprint", "seed")},
    }
    with told(place, f"registering trial {standing.trial}"):
        with tempfile.TemporaryDirectory() as made:
            (Path(made) / CONFIG).write_text(redacted(_json(config, indent=1)))
            client.log_artifacts(run.info.run_id, made, folder)
        if tracked is None:
            client.set_terminated(run.info.run_id)  # nobody writes curves to it
        if files is not None:
            client.log_artifacts(run.info.run_id, str(files), folder)
        if not client.search_registered_models(f"name = '{header.name}'"):
            client.create_registered_model(header.name, description="Winners of an alphasweep study; the tags say whether to believe them.")
        tags = {TRIAL: str(standing.trial), WHAT: what, RUN: about.run_id}
        return client.create_model_version(header.name, f"{run.info.artifact_uri}/{folder}", run.info.run_id, tags, await_creation_for=60)


def _archive(
    client: MlflowClient, place: Place, about: About, standing: Standing, own: list[ModelVersion], held: Mapping[str, str]
) -> Registered:
    """Takes all versions of a trial out of their stages."""
    model = about.header.name
    if not own:
        raise TrackerError(f"{model}: trial {standing.trial} is not in the registry at {place.shown}")
    with told(place, f"archiving trial {standing.trial}"):
        for version in own:
            for name in [name for name, number in held.items() if name in STAGES and number == str(version.version)]:
                client.delete_registered_model_alias(model, name)
            client.set_model_version_tag(model, str(version.version), STAGE, ARCHIVED)
    last = max(int(version.version) for version in own)
    return Registered(model, str(last), ARCHIVED, False, "", f"models:/{model}/{last}", place.shown)


def _versions(client: MlflowClient, place: Place, about: About) -> list[ModelVersion]:
    """Returns the versions of this very study: a shared registry may have another one of the same name."""
    with told(place, "reading the registry"):
        found = client.search_model_versions(f"name = '{about.header.name}'", max_results=1000)
        # Searches leave tags out on some servers; asked one by one they are there.
        whole = [version if version.tags else client.get_model_version(about.header.name, version.version) for version in found]
    return [version for version in whole if version.tags.get(RUN) == about.run_id]


def _same(client: MlflowClient, place: Place, about: About, trial: int, what: str) -> ModelVersion | None:
    wanted = {TRIAL: str(trial), WHAT: what}
    found = [version for version in _versions(client, place, about) if wanted.items() <= dict(version.tags).items()]
    return max(found, key=lambda version: int(version.version), default=None)
