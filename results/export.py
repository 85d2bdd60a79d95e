"""Trials as tables: data frames and files, configurations expanded to columns."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results.records import LedgerError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from results.reader import LedgerReader

CHUNK: Final = 20_000
FORMATS: Final = ("csv", "json", "parquet")
BASE: Final = ("trial", "config_id", "status", "attempt", "seconds", "error", "source")

# Trials as columns: table column name to one value per trial.
Batch = Mapping[str, Sequence[Any]]


def to_frame(batch: Batch, ledger: LedgerReader) -> pd.DataFrame:
    """Return a batch of trials as a data frame (see `LedgerReader.frame`); an empty mapping gives an empty frame."""
    import pandas as pd

    return pd.DataFrame(_columns(batch, ledger))


def frame(ledger: LedgerReader, columns: Sequence[str] | None) -> pd.DataFrame:
    """Return all trials as a data frame, chunk by chunk."""
    import pandas as pd

    parts = []
    for batch in ledger.stream():
        part = to_frame(batch, ledger)
        parts.append(part if columns is None else part[[name for name in columns if name in part]])
    names, blank = dict.fromkeys(name for part in parts for name in part), _defaults(ledger)
    parts = [part.assign(**{name: blank[name] for name in names if name in blank and name not in part}) for part in parts]
    whole = pd.concat(parts, ignore_index=True) if parts else to_frame({}, ledger)
    if columns is None:
        return whole
    unknown = [name for name in columns if name not in whole]
    if unknown:
        raise LedgerError(f"study {ledger.header.name!r} has no column {', '.join(map(repr, unknown))}")
    return whole[list(columns)]


def export(ledger: LedgerReader, path: Path, fmt: str | None, evidence: pd.DataFrame | None = None) -> int:
    """Write all trials to a file (see `LedgerReader.export`)."""
    fmt = fmt or path.suffix.lstrip(".").lower()
    if fmt not in FORMATS:
        raise LedgerError(f"cannot export as {fmt!r}; choose one of {', '.join(FORMATS)}")
    write = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[fmt]
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        count = write(ledger, partial, evidence)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def config_columns(configs: Sequence[Mapping[str, Any]], ledger: LedgerReader) -> dict[str, list[Any]]:
    """Return configurations as columns; nested mappings become `outer.inner`.

    What a configuration lacks and others have is the default it was evaluated with, None without one.
    """
    blank = dict(_flat(ledger.header.defaults))
    out: dict[str, list[Any]] = {}
    for i, config in enumerate(configs):
        for key, value in _flat(config):
            if key not in out:
                out[key] = [blank.get(key)] * len(configs)
            out[key][i] = value
    return {_label(key, ledger): values for key, values in out.items()}


def _defaults(ledger: LedgerReader) -> dict[str, Any]:
    """Column name to the value of a configuration that lacks it."""
    return {_label(key, ledger): value for key, value in _flat(ledger.header.defaults)}


def _label(key: str, ledger: LedgerReader) -> str:
    return f"config.{key}" if key.removeprefix("metric.") in {*BASE, *ledger.tables.metric_names} else key


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _columns(batch: Batch, ledger: LedgerReader) -> dict[str, Any]:
    """Columns as shown: bookkeeping, metrics as float64, parameters."""
    import numpy as np

    tables = ledger.tables
    columns: dict[str, Any] = {name: list(batch.get(name, ())) for name in BASE}
    columns["config_id"] = [value.hex() for value in columns["config_id"]]
    for name, column in zip(tables.metric_names, tables.metric_columns, strict=True):
        columns[f"metric.{name}" if name in BASE else name] = np.array(batch.get(column, ()), dtype=np.float64)
    return columns | config_columns(_configs(batch), ledger)


def _configs(batch: Batch) -> list[dict[str, Any]]:
    return list(json.loads("[" + ",".join(batch.get("config", ())) + "]"))


def _parameter_types(ledger: LedgerReader) -> dict[str, set[type]]:
    """First pass over the configurations: which columns there are and what they hold."""
    blank, found = _defaults(ledger), dict[str, set[type]]()
    for batch in ledger.stream(["config"]):
        for key, values in config_columns(_configs(batch), ledger).items():
            found.setdefault(key, {_kind(blank.get(key))}).update(map(_kind, values))
    return found


def _kind(value: Any) -> type:
    return str if isinstance(value, int) and not -(2**63) <= value < 2**63 else type(value)  # 64-bit seeds do not fit a column


class _Evidence:
    """What is known about some trials, joined to a batch of all of them by number."""

    def __init__(self, table: pd.DataFrame | None, taken: Iterable[str] = ()) -> None:
        self.table, used = table, frozenset(taken)
        self.names = [] if table is None else [f"judged.{name}" if name in used else str(name) for name in table.columns]
        # Plain values, null where there is none: most trials of a large study have none at all.
        self._values = [] if table is None else [table[name].astype(object).where(table[name].notna(), None).tolist() for name in table]

    def columns(self, trials: Sequence[int]) -> dict[str, list[Any]]:
        """Return one list of values per column, None for trials nothing is known about."""
        import pandas as pd

        if self.table is None:
            return {}
        place = self.table.index.get_indexer(pd.Index(trials)).tolist()
        if max(place, default=-1) < 0:
            return {name: [None] * len(place) for name in self.names}
        return {name: [values[i] if i >= 0 else None for i in place] for name, values in zip(self.names, self._values, strict=True)}


def _write_csv(ledger: LedgerReader, path: Path, evidence: pd.DataFrame | None) -> int:
    names, blank = [*_columns({}, ledger), *_parameter_types(ledger)], _defaults(ledger)
    judged = _Evidence(evidence, names)
    names += judged.names
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for batch in ledger.stream():
            size = len(batch["trial"])
            columns = _columns(batch, ledger) | judged.columns(batch["trial"])
            cells = [[_cell(value) for value in columns.get(name, [blank.get(name)] * size)] for name in names]
            writer.writerows(zip(*cells, strict=True))
            count += size
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else repr(float(value))  # NaN is an empty cell; repr keeps every digit
    return json.dumps(value) if isinstance(value, (list, dict, bool)) else value


def _write_json(ledger: LedgerReader, path: Path, evidence: pd.DataFrame | None) -> int:
    """One JSON array, one trial per line; configuration, metrics and what is known about the trial as objects."""
    tables, judged = ledger.tables, _Evidence(evidence)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for batch in ledger.stream():
            base = [batch[name] for name in BASE]
            metrics = [batch[column] for column in tables.metric_columns]
            known = judged.columns(batch["trial"])
            rows = zip(zip(*base, strict=True), batch["config"], zip(*metrics, strict=True), strict=True)
            for i, (row, config, values) in enumerate(rows):
                record = dict(zip(BASE, row, strict=True))
                record |= {"config_id": record["config_id"].hex(), "config": json.loads(config)}
                record["metrics"] = dict(zip(tables.metric_names, values, strict=True))
                if known:
                    record["evidence"] = {name: column[i] for name, column in known.items()} if known["verdict"][i] else None
                file.write(("\n" if count == 0 else ",\n") + json.dumps(record, allow_nan=False))
                count += 1
        file.write("\n]\n")
    return count


def _write_parquet(ledger: LedgerReader, path: Path, evidence: pd.DataFrame | None) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, integer = pa.string(), pa.float64(), pa.int64()
    fixed = {"trial": integer, "attempt": integer, "seconds": number, "config_id": text, "status": text, "error": text, "source": text}
    types, blank = {name: fixed.get(name, number) for name in _columns({}, ledger)}, _defaults(ledger)
    types |= {name: _arrow_type(found) for name, found in _parameter_types(ledger).items()}
    judged = _Evidence(evidence, types)
    if evidence is not None:
        known = pa.Schema.from_pandas(evidence, preserve_index=False).types
        types |= dict(zip(judged.names, known, strict=True))
    schema = pa.schema(list(types.items()))
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for batch in ledger.stream():
            size = len(batch["trial"])
            columns = _columns(batch, ledger) | judged.columns(batch["trial"])
            arrays = [_arrow_array(columns.get(name, [blank.get(name)] * size), kind) for name, kind in types.items()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += size
    return count


def _arrow_type(found: set[type]) -> pa.DataType:
    import pyarrow as pa

    kinds = found - {type(None)}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.string()


def _arrow_array(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if kind == pa.string():
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(values, type=kind, from_pandas=True)  # NaN becomes null


def one_trial(ledger: LedgerReader, which: int | str) -> dict[str, Any]:
    """Return one trial in full (see `LedgerReader.trial`)."""
    import sqlalchemy as sa

    from results.rows import checksums, metric_matrix

    t = ledger.tables
    whence = [t.attempts.c[name] for name in ("session_id", "plan_id", "started", "ended", "worker")]
    statement = sa.select(t.trials, *whence).join(t.attempts)
    found: list[dict[str, Any]] = []
    text = str(which).strip().lower()
    if text.isdecimal() and len(text) <= 18:  # longer ones do not fit a key; a number wins over an identity that looks like one
        found = ledger.rows(statement.where(t.trials.c.trial == int(text)))
    if not found and not isinstance(which, int) and 4 <= len(text) <= 32 and all(c in "0123456789abcdef" for c in text):
        low, high = bytes.fromhex(text.ljust(32, "0")), bytes.fromhex(text.ljust(32, "f"))
        found = ledger.rows(statement.where(t.trials.c.config_id.between(low, high)).order_by(t.trials.c.trial).limit(4))
    if not found:
        raise LedgerError(f"study {ledger.header.name!r} has no trial {which!r}; give a trial number or 4 or more digits of a config_id")
    if len(found) > 1:
        several = ", ".join(str(row["trial"]) for row in found)
        raise LedgerError(f"{which!r} fits several trials ({several}, …); give more digits or the number")
    row = found[0]
    again = sa.select(t.events.c.detail).where(t.events.c.kind == "reopened", t.events.c.trial == row["trial"]).order_by(t.events.c.seq)
    row["failures"] = [json.loads(event["detail"])["error"] for event in ledger.rows(again)]
    values = [row.pop(column) for column in t.metric_columns]
    identity = bytes(row["config_id"])
    expected = checksums([identity], [row["status"]], metric_matrix([[value] for value in values]))[0]
    row |= {"config_id": identity.hex(), "config": json.loads(row["config"]), "intact": expected == bytes(row["checksum"])}
    return row | {"checksum": bytes(row["checksum"]).hex(), "metrics": dict(zip(t.metric_names, values, strict=True))}
