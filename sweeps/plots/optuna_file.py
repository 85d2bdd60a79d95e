"""A study as a database of Optuna's, which optuna-dashboard and `optuna.load_study` open.

Optuna itself creates the file and its tables; the rows are put in all at once, because its own way takes 30 ms a trial.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from search_spaces.adaptive.bayesian import quiet
from sweeps.plots.projection import Projection, ProjectionError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

OURS: Final = "alphasweep:study"  # the attribute that marks a file as one of these
_CHUNK: Final = 500
_NEEDED: Final = {
    "trials": {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"},
    "trial_values": {"trial_id", "objective", "value", "value_type"},
    "trial_params": {"trial_id", "param_name", "param_value", "distribution_json"},
    "trial_intermediate_values": {"trial_id", "step", "intermediate_value", "intermediate_value_type"},
    "trial_user_attributes": {"trial_id", "key", "value_json"},
    "trial_system_attributes": {"trial_id", "key", "value_json"},
}


def write(projection: Projection, path: Path) -> int:
    """Writes trials to an SQLite file of Optuna's; the file appears only when it is whole.

    Args:
        projection: The trials, with attributes and reports.
        path: The file; one that is there already is replaced if it is an earlier export.

    Returns:
        Number of trials written.

    Raises:
        ProjectionError: The file is something else, or Optuna's tables are not those this was written for.
    """
    check(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        trials = projection.study.get_trials(deepcopy=False)
        study_id = _create(projection, partial)
        engine = sa.create_engine(f"sqlite:///{partial}")
        try:
            _insert(engine, study_id, trials)
        finally:
            engine.dispose()
        os.replace(partial, path)
    finally:
        for left in partial.parent.glob(f"{partial.name}*"):  # SQLite's journal too
            left.unlink(missing_ok=True)
    return len(trials)


def check(path: Path) -> None:
    """Refuses to write over a file that is not an earlier export."""
    if path.exists() and not _is_ours(path):
        raise ProjectionError(f"{path}: there is a file of this name that no export has written; name another one, or move it away")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    engine = sa.create_engine(f"sqlite:///file:{path.absolute()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT count(*) FROM study_user_attributes WHERE key = :key"), {"key": OURS})
            return bool(found.scalar_one())
    except sa.exc.DatabaseError:
        return False
    finally:
        engine.dispose()


def _create(projection: Projection, path: Path) -> int:
    """Has Optuna make an empty database with the study in it."""
    import optuna

    with quiet():
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
        study = optuna.create_study(storage=storage, study_name=projection.header.name, directions=projection.study.directions)
        study.set_metric_names([metric.name for metric in projection.metrics])
        study.set_user_attr(OURS, projection.header.name)
        study.set_user_attr("trials", projection.words())
        study.set_user_attr("context_id", projection.header.context_id)
        study_id = int(storage.get_study_id_from_name(study.study_name))
        storage.remove_session()
        storage.engine.dispose()
    return study_id


def _insert(engine: sa.Engine, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    """Puts trials into Optuna's tables, numbered from 0 as it numbers them."""
    metadata = sa.MetaData()
    metadata.reflect(engine)
    for name, columns in _NEEDED.items():
        if name not in metadata.tables or not columns <= set(metadata.tables[name].columns.keys()):
            import optuna

            raise ProjectionError(f"Optuna {optuna.__version__} keeps its tables another way (no {name} as it was); install optuna 5.0")
    with engine.begin() as connection:
        for at in range(0, len(trials), _CHUNK):
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _NEEDED}
            for number, trial in enumerate(trials[at : at + _CHUNK], at):
                for table, row in _table_rows(trial, number, study_id):
                    rows[table].append(row)
            for table, found in rows.items():
                if found:
                    connection.execute(sa.insert(metadata.tables[table]), found)


def _table_rows(trial: FrozenTrial, number: int, study_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    from optuna.distributions import distribution_to_json

    key = {"trial_id": number + 1}
    when = {"datetime_start": trial.datetime_start, "datetime_complete": trial.datetime_complete}
    yield "trials", {**key, "number": number, "study_id": study_id, "state": trial.state.name, **when}
    for objective, value in enumerate(trial.values or ()):
        yield "trial_values", {**key, "objective": objective, "value": value, "value_type": "FINITE"}
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        inner = distribution.to_internal_repr(value)
        yield "trial_params", {**key, "param_name": name, "param_value": inner, "distribution_json": distribution_to_json(distribution)}
    for step, value in trial.intermediate_values.items():
        known = math.isfinite(value)
        said = {"intermediate_value": value if known else None, "intermediate_value_type": "FINITE" if known else "NAN"}
        yield "trial_intermediate_values", {**key, "step": step, **said}
    for table, attributes in (("trial_user_attributes", trial.user_attrs), ("trial_system_attributes", trial.system_attrs)):
        for name, value in attributes.items():
            yield table, {**key, "key": name, "value_json": json.dumps(value)}
