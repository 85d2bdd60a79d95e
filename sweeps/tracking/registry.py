"""Trackers by name, imported when one is made."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

from results import Ledger
from results.identity import canonical_json
from results.reader import LedgerReader
from results.records import Header
from results.tracking.tracker import About, Tracker
from search_spaces import Space
from sweeps.endings import SCHEDULER
from sweeps.home import LEDGER
from sweeps.study import StudyError
from sweeps.tracking.settings import KNOWN, Wanted, not_installed


class NotInstalledError(StudyError):
    """A tracker's package is not there; the message says what to install."""


def make(name: str, about: About, options: Mapping[str, Any]) -> Tracker:
    """Makes a tracker: a known one, or `package.module:Class`.

    Raises:
        NotInstalledError: Its package is missing.
        StudyError: There is no such class.
    """
    if missing := not_installed(name):
        raise NotInstalledError(f"tracking.{name}: {missing}")
    module, _, cls = KNOWN.get(name, name).partition(":")
    try:
        found = getattr(import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise StudyError(f"tracking: {name!r} cannot be loaded: {error}") from error
    tracker: Tracker = found(about, options)
    return tracker


def about(home: Path, ledger: LedgerReader) -> About:
    """Returns what trackers are told of a study.

    Args:
        home: Its folder.
        ledger: Its ledger.
    """
    plans, wanted = ledger.plans(), Wanted.read(home)
    first = plans[0].space if plans else ledger.header.spec.get("space", {})
    stepping = (wanted is not None and wanted.stepping) or bool(ledger.events(SCHEDULER, limit=1))
    return About(
        header=ledger.header,
        run_id=run_id(ledger.header),
        total=plans[-1].count if plans else None,
        stepping=stepping,
        # Those of the first search: what a later one adds is in every configuration, and columns of a table stay what they are.
        parameters=tuple(Space.parse(dict(first)).names),
        home=home,
    )


def read_about(home: Path) -> tuple[About, int | None]:
    """Returns what trackers are told of a study, and how many trials it was asked for first."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        plans = ledger.plans()
        return about(home, ledger), plans[0].count if plans else None


def run_id(header: Header) -> str:
    """Returns 16 hexadecimal digits that are those of this study wherever it lies, and of no other."""
    text = canonical_json([header.name, header.created, header.context_id])
    return blake2b(text.encode(), digest_size=8, person=b"alphasweep-run").hexdigest()
