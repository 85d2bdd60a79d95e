"""What a walk-forward keeps on disk: the walk as it was asked for, and in each window's ledger what was tested, recorded before it was.

A walk of the study S lies in `S.walk` beside it, each window a study of its own with its ledger in there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results import Ledger, LedgerError
from results.reader import LedgerReader
from sweeps.home import LEDGER, move_aside

SUFFIX = ".walk"
WALK = "walk.json"
OPENED = "test_opened"
RESULT = "test_result"
_SAME = ("walk", "windows", "study", "made")


@dataclass(frozen=True)
class OutOfSample:
    """What a window's ledger knows of its test.

    Attributes:
        opened: Whether a test was begun, and so the winner is fixed.
        trial: The winner; None where there is none.
        why: Why there is none.
        config: Its complete configuration.
        pending: Configurations of a test that was cut short.
        configs: Complete configurations tested.
        metrics: Of each, by name.
        returns: Of each, float64 (days,).
        days: datetime64[D] (days,).
        benchmarks: Daily returns (days,) by name.
        ended: Whether a test came to its end.
    """

    opened: bool = False
    trial: int | None = None
    why: str = ""
    config: Mapping[str, Any] | None = None
    pending: tuple[Mapping[str, Any], ...] = ()
    configs: tuple[Mapping[str, Any], ...] = ()
    metrics: tuple[Mapping[str, float], ...] = ()
    returns: tuple[np.ndarray, ...] = ()
    days: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[D]"))
    benchmarks: Mapping[str, np.ndarray] = field(default_factory=dict)
    ended: bool = False

    def of(self, config: Mapping[str, Any] | None) -> tuple[Mapping[str, float], np.ndarray]:
        """Returns metrics and daily returns of a configuration; nothing and zeros of None, which holds cash.

        Raises:
            KeyError: It was not tested.
        """
        if config is None:
            return {}, np.zeros(len(self.days))
        if config not in self.configs:
            raise KeyError(f"not tested: {dict(config)}")
        at = self.configs.index(config)
        return self.metrics[at], self.returns[at]


def name_of(k: int) -> str:
    """Returns the name of window k, counted from 0, as a study."""
    return f"window-{k + 1:02}"


def read(ledger: LedgerReader) -> OutOfSample:
    """Reads what a window's ledger has of its test."""
    opened = ledger.events(OPENED, limit=None)
    if not opened:
        return OutOfSample()
    first = opened[0]["detail"]
    results = [event["detail"] for event in ledger.events(RESULT, limit=None)]
    rows = [row for result in results for row in result["tested"]]
    done = [row["config"] for row in rows]
    pending = [config for event in opened for config in event["detail"]["configs"] if config not in done]
    made: dict[str, Any] = {}
    if results:
        days = np.array(results[0]["days"], "datetime64[D]")
        made = {"days": days, "benchmarks": {name: np.array(values, float) for name, values in results[0]["benchmarks"].items()}}
    return OutOfSample(
        opened=True,
        trial=opened[0]["trial"],
        why=first["why"],
        config=first["winner"],
        pending=tuple(pending),
        configs=tuple(done),
        metrics=tuple({name: float("nan") if v is None else v for name, v in row["metrics"].items()} for row in rows),
        returns=tuple(np.array(row["returns"], float) for row in rows),
        ended=bool(results),
        **made,
    )


def looks(ledger: LedgerReader) -> int:
    """Returns how many configurations were, or were to be, tested in a window."""
    events = ledger.events(OPENED, limit=None)
    return len({json.dumps(config, sort_keys=True) for event in events for config in event["detail"]["configs"]})


def write_walk(home: Path, kept: Mapping[str, Any]) -> None:
    """Writes what a walk is, all of it or nothing."""
    home.mkdir(parents=True, exist_ok=True)
    draft = home / "walk.new"
    draft.write_text(json.dumps(kept, indent=1))
    os.replace(draft, home / WALK)


def read_walk(home: Path) -> dict[str, Any] | None:
    """Returns what a walk is; None where there is none.

    Raises:
        LedgerError: The file cannot be read.
    """
    try:
        kept: dict[str, Any] = json.loads((home / WALK).read_text())
        return {key: kept[key] for key in _SAME}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise LedgerError(f"{home / WALK} is damaged ({error}); --fresh sets this walk aside and starts over") from None


def changed(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Says what differs between two walks, key by key."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            yield from changed(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key.partition('.')[2] or key} was {_short(old)}, is {_short(new)}"


def plain(value: Any) -> Any:
    """Returns a value as it is read back from a file."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def walks_in(folder: Path) -> list[Path]:
    """Returns the folders of the walks in a folder of studies."""
    return sorted(path.parent for path in folder.glob(f"*{SUFFIX}/{WALK}"))


def root_of(folder: Path) -> Path:
    """Returns the folder of studies: for the windows of a walk the one that the walk lies in."""
    return folder.parent if (folder / WALK).is_file() and folder.parent.name != ".aside" else folder


def set_aside(home: Path) -> None:
    """Moves a walk out of the way; its looks go on counting.

    Raises:
        LedgerLocked: A session is writing in one of its windows.
    """
    from results.lock import WriterLock

    locks = [WriterLock(path) for path in (home / WALK, *sorted(home.glob(f"*/{LEDGER}")))]
    move_aside(home)
    for lock in locks:
        lock.release()


def others(root: Path, fingerprint: str, home: Path) -> int:
    """Returns how many other walks there are over the same data in a folder, those set aside included."""
    found = 0
    for path in (*root.glob(f"*{SUFFIX}/{WALK}"), *root.glob(f".aside/*/{WALK}")):
        try:
            kept = read_walk(path.parent)
        except LedgerError:
            continue
        found += kept is not None and path.parent != home and kept["made"]["fingerprint"] == fingerprint
    return found


def tested_in(home: Path) -> OutOfSample:
    """Reads what is known of a window's test; nothing where its search has not begun."""
    if not (home / LEDGER).exists():
        return OutOfSample()
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return read(ledger)
