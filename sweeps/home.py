"""A study's folder: its ledger opened, created or refused, and what is in it set aside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from results import Header, Ledger, LedgerError
from results.lock import WriterLock

LEDGER: Final = "ledger.sqlite"


def open_ledger(path: Path, header: Header) -> Ledger:
    """Opens the study's ledger, or creates it.

    Raises:
        LedgerError: There is one made of other data or rules.
    """
    if not path.exists():
        return Ledger.create(path, header)
    ledger = Ledger.open(path)
    old, new = ledger.header, header
    if old.context_id == new.context_id and old.metrics == new.metrics:
        return ledger
    ledger.close()
    detail = "; ".join(_difference(k, old.context[k], new.context[k]) for k in new.context if old.context[k] != new.context[k])
    if not detail:
        before, after = set(old.metric_names), set(new.metric_names)
        detail = f"metrics added: {', '.join(sorted(after - before)) or 'none'}; gone: {', '.join(sorted(before - after)) or 'none'}"
    raise LedgerError(
        f"{path.parent}: its results were made under other conditions ({detail}). They cannot stand in one table. "
        f"Give this search a name of its own (--set name={path.parent.name}_2), or set the old results aside with --fresh."
    )


def _difference(key: str, old: Any, new: Any) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        return ", ".join(_difference(f"{key}.{k}", old.get(k), new.get(k)) for k in keys)
    return f"{key} was {old}, is {new}"


def set_aside(home: Path) -> None:
    """Moves a study's folder out of the way, where no other study looks for results.

    Raises:
        LedgerLocked: A session is writing there.
    """
    lock = WriterLock(home / LEDGER)
    aside = home.parent / ".aside"
    aside.mkdir(exist_ok=True)
    n = 1
    while (place := aside / f"{home.name}.{n}").exists():
        n += 1
    home.rename(place)
    lock.release()
