"""A study's folder: its ledger opened, created or refused, and what is in it set aside."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from results import Header, Ledger, LedgerError, pointer
from results.lock import WriterLock

if TYPE_CHECKING:
    from sweeps.search import Search
    from trainables.contract import Prepared

LEDGER: Final = "ledger.sqlite"


def header_of(search: Search, prepared: Prepared) -> Header:
    """Returns the header a study's ledger has or would have: identities follow from its context."""
    study, trainable = search.study, search.trainable
    # Whether there is a holdout is read from here, also of a trainable that says nothing of its cuts itself.
    cuts = {} if prepared.timeline is None else {"timeline": prepared.timeline.describe()}
    return Header(
        name=study.name,
        spec=study.model_dump(),
        context={
            "trainable": study.trainable,
            "version": trainable.version,
            "data_fingerprint": prepared.fingerprint,
            "protocol": {**cuts, **prepared.protocol, "defaults": dict(prepared.defaults)},
            "seed": study.seed,
        },
        metrics=tuple(trainable.metrics),
        objective=search.objective,
    )


def open_ledger(path: Path, header: Header, url: str = "") -> Ledger:
    """Opens the study's ledger, or creates it.

    Args:
        path: Its file.
        header: What it must be of.
        url: A PostgreSQL database that is to hold it, in a schema called as the study; then the file says so (`results.pointer`).

    Raises:
        LedgerError: There is one made of other data or rules.
    """
    if not path.exists():
        if not url:
            return Ledger.create(path, header)
        _create_elsewhere(path, header, url)
    elif url and (there := pointer.read(path)) != pointer.in_schema(url, header.name):
        what = "its own folder" if there is None else pointer.base_of(there)
        raise LedgerError(
            f"{path.parent}: its results are in {what}, not in the database given; leave --ledger (or ALPHASWEEP_LEDGER) out, "
            "or give the study a new name"
        )
    if url:
        pointer.trust(url)  # it was named again, where its folder may have come from elsewhere
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


def _create_elsewhere(path: Path, header: Header, url: str) -> None:
    """Makes a ledger in a database, or finds the one a crash, or a colleague, left there, and lets the file point to it."""
    place = pointer.in_schema(url, header.name)
    pointer.trust(url)
    pointer.create_schema(url, header.name)
    if header.name not in pointer.schemas(url):
        Ledger.create(place, header).close()
    pointer.write(path, place)


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
    with ExitStack() as held:
        if (url := pointer.read(home / LEDGER)) is not None and pointer.schema_of(url) in pointer.schemas(url):
            held.enter_context(Ledger.open(home / LEDGER))  # its lock is the database's
        held.callback(WriterLock(home / LEDGER).release)
        move_aside(home)


def move_aside(folder: Path) -> None:
    """Moves a folder, which nobody writes to, to a new place in `.aside` beside it."""
    aside = folder.parent / ".aside"
    aside.mkdir(exist_ok=True)
    n = 1
    while (place := aside / f"{folder.name}.{n}").exists():
        n += 1
    # What is in a database is set aside there, unless that was done before a crash, or by a colleague.
    if (url := pointer.read(folder / LEDGER)) is not None and (schema := pointer.schema_of(url)) in (there := pointer.schemas(url)):
        while (named := pointer.aside(schema, n)) in there:
            n += 1
        pointer.rename_schema(url, schema, named)
        pointer.write(folder / LEDGER, pointer.in_schema(pointer.base_of(url), named))
    folder.rename(place)
