"""Where a study's MLflow records are: settings, client, time limits, and the words for what went wrong."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from results.secrets import redacted
from results.tracking.tracker import About, TrackerError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT: Final = "alphasweep"
RUN_ID: Final = "alphasweep.run_id"
PARENT: Final = "mlflow.parentRunId"  # by this tag MLflow knows nested runs
FILE: Final = "mlflow.db"
ARTIFACTS: Final = "mlflow-artifacts"
KEYS: Final = ("uri", "experiment", "artifacts")
SHARED: Final = "trials"  # an option of every tracker, for whoever calls it
ENVIRONMENT: Final = "env"  # as uri: what MLFLOW_TRACKING_URI says

# A server that is away must not hold a writer for the minutes MLflow waits by default; who wants that sets them.
_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "120",  # seconds
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LONGEST: Final = 300  # characters of what a failure said: SQLAlchemy's quote whole statements


@dataclass(frozen=True)
class Place:
    """Where to write.

    Attributes:
        uri: Of the tracking server or database; the model registry is there too.
        experiment: Name.
        artifacts: URI of the folder of a new experiment's files; None where a server decides.
        own: Whether it is the database in the study's own folder.
    """

    uri: str
    experiment: str
    artifacts: str | None
    own: bool

    @property
    def shown(self) -> str:
        """The address, without a password."""
        return redacted(self.uri)


def place_of(settings: Mapping[str, Any], home: Path) -> Place:
    """Returns where to write, from the settings under `tracking: mlflow:` of a study file.

    Args:
        settings: uri (default a SQLite file in the study's folder), experiment, artifacts.
        home: The study's folder.

    Raises:
        TrackerError: A key or an address that cannot be; says what to give.
    """
    if unknown := sorted(set(settings) - {*KEYS, SHARED}):
        raise TrackerError(f"tracking.mlflow: unknown {', '.join(map(repr, unknown))}; there are {', '.join((*KEYS, SHARED))}")
    for key in KEYS:
        value = settings.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise TrackerError(f"tracking.mlflow.{key}: {value!r} is no text")
    experiment, uri, given = settings.get("experiment") or EXPERIMENT, settings.get("uri"), settings.get("artifacts")
    folder = home.resolve() / "tracking"
    if uri is None:
        return Place(f"sqlite:///{folder / FILE}", experiment, given or (folder / ARTIFACTS).as_uri(), True)
    if uri == ENVIRONMENT:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not uri:
            raise TrackerError("tracking.mlflow.uri is env, but MLFLOW_TRACKING_URI is not set")
    kind = urlsplit(uri).scheme.split("+")[0]
    if kind == "sqlite":
        file = Path(unquote(uri.partition("://")[2].removeprefix("/")))
        if not file.is_absolute():
            raise TrackerError(f"tracking.mlflow.uri: {uri} depends on the folder it is started in; give sqlite:////… with a whole path")
        return Place(uri, experiment, given or file.with_name(f"{file.stem}-artifacts").as_uri(), False)
    if kind in {"postgresql", "mysql", "mssql"} and not given:
        raise TrackerError(f"tracking.mlflow: a {kind} database keeps no files; say where they go with artifacts: (a folder or s3://…)")
    if kind in {"", "file"} and uri != "databricks":
        raise TrackerError(f"tracking.mlflow.uri: {uri!r} is a folder, which MLflow gives up; give sqlite:////… or http(s)://…")
    return Place(uri, experiment, given, False)


@contextmanager
def told(place: Place, doing: str) -> Iterator[None]:
    """Turns whatever fails inside into a TrackerError that says what was being done, and where."""
    try:
        yield
    except TrackerError:
        raise
    except Exception as error:
        words = " ".join(redacted(str(error)).split()) or "no reason given"
        short = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"
        raise TrackerError(f"MLflow at {place.shown}: {doing}: {type(error).__name__}: {short}") from error


def connect(place: Place) -> MlflowClient:
    """Returns a client that sends no telemetry and gives up in time.

    Raises:
        TrackerError: MLflow is not installed, or its store cannot be opened.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise TrackerError(f"MLflow is not installed ({error}); pip install 'alphasweep[mlflow]'") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with told(place, "opening"):
        if place.uri.startswith("sqlite:///"):
            Path(unquote(place.uri.removeprefix("sqlite:///"))).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)


def experiment_of(client: MlflowClient, place: Place) -> str:
    """Returns the id of the experiment; makes it if there is none.

    Raises:
        TrackerError: It was deleted, or the study's folder has been moved since.
    """
    with told(place, "opening the experiment"):
        found = client.get_experiment_by_name(place.experiment)
        if found is None:
            return str(client.create_experiment(place.experiment, artifact_location=place.artifacts))
    _check(found, place)
    return str(found.experiment_id)


def _check(found: Experiment, place: Place) -> None:
    if found.lifecycle_stage == "deleted":
        raise TrackerError(
            f"MLflow at {place.shown}: experiment {place.experiment!r} was deleted; restore it, "
            "or name another under tracking.mlflow.experiment"
        )
    if place.own and found.artifact_location != place.artifacts:
        file = place.uri.removeprefix("sqlite:///")
        raise TrackerError(
            f"MLflow's records in {file} name files in {found.artifact_location}: the study's folder was moved or copied. "
            "Remove that file; alphasweep track sync writes all of it again"
        )


def run_of(client: MlflowClient, place: Place, experiment: str, run_id: str) -> Run | None:
    """Returns the run of a study; None if there is none."""
    with told(place, "looking for the study's run"):
        found = client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run_id}'")
    # Two writers cannot be at work on one study; should there be two runs all the same, every session takes the same one.
    return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def ensure_run(client: MlflowClient, place: Place, about: About) -> Run:
    """Returns the run of a study; makes it if there is none."""
    experiment = experiment_of(client, place)
    if (found := run_of(client, place, experiment, about.run_id)) is not None:
        return found
    header = about.header
    tags = {
        RUN_ID: about.run_id,
        "alphasweep.study": header.name,
        "alphasweep.trainable": f"{header.context['trainable']} {header.context['version']}",
        "alphasweep.data": str(header.context["data_fingerprint"]),
        "alphasweep.seed": str(header.context["seed"]),
        "alphasweep.objective": header.objective,
    }
    with told(place, "making the study's run"):
        return client.create_run(experiment, start_time=created_ms(about), tags=shortened(tags), run_name=header.name)


def created_ms(about: About) -> int:
    """Returns when the study was created, milliseconds since 1970; 0 if its ledger does not say."""
    try:
        moment = datetime.fromisoformat(about.header.created)
    except ValueError:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def key_of(name: str) -> str:
    """Returns a name as MLflow takes it for metrics and parameters: what it refuses becomes `_` and its code."""
    made = re.sub(r"[^\w.\- /]", lambda found: f"_{ord(found[0]):x}", name)
    if posixpath.normpath(made) != made or made.startswith(("/", ".")):
        made = re.sub(r"[/.]", lambda found: f"_{ord(found[0]):x}", made)  # no path: "a//b", "..", "/a"
    return made[:250]


def shortened(tags: Mapping[str, str], most: int = 5000) -> dict[str, str]:
    """Returns tags with values as long as every MLflow server takes."""
    return {key: redacted(value if len(value) <= most else f"{value[:most]}…") for key, value in tags.items()}
