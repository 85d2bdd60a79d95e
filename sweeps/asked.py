"""What a study was asked for, search by search, and how much of each has a result: from its ledger, without its trainable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import Ledger, Plan
from results.identity import config_ids
from results.lock import is_written
from results.reader import LedgerReader
from sweeps.budget_words import ended_by
from sweeps.feed import CHUNK
from sweeps.history import is_imported, refuse
from sweeps.runner import LEDGER
from sweeps.search import Search
from sweeps.study import Search as Section
from sweeps.study import Study, StudyError, find
from sweeps.suggestions import distinct, family_of


@dataclass(frozen=True)
class Asked:
    """One search of a study.

    Attributes:
        number: 1 for the first, 2 for the second, …
        plan: As the ledger has it.
        study: The study as it was then.
        points: Different configurations in it.
        known: Of these, with a result.
    """

    number: int
    plan: Plan
    study: Study
    points: int
    known: int

    def words(self) -> str:
        """Returns what it was, such as "plan 1: grid, 4,000 trials, asked 2026-03-01 12:00 UTC"."""
        search = self.study.search
        trials = "all" if search.trials is None else f"{search.trials:,} trials"
        return f"plan {self.number}: {search.sampler}, {trials}, asked {self.plan.created[:16].replace('T', ' ')} UTC"

    def options(self, source: str) -> tuple[str, ...] | None:
        """Returns the options with which `alphasweep run SOURCE` goes on with this search; None if it took others to ask for it."""
        try:
            written = Study.load(find(source))
        except StudyError:
            return None
        trials = self.study.search.trials
        options = () if trials is None or trials == written.search.trials else ("--trials", str(trials))
        if trials is None and written.search.trials is not None:
            return None
        same = all(_plain(written, self.study, key) for key in ("name", "trainable", "data", "settings", "protocol", "fixed", "seed"))
        same = same and Search(written).space.to_dict() == dict(self.plan.space) and Search(written).method == self.study.search.sampler
        return options if same else None


def asked(home: Path) -> list[Asked]:
    """Returns every search a study was asked for, oldest first.

    Args:
        home: The study's folder.

    Raises:
        LedgerError: No ledger, or one that cannot be read.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        found = []
        for number, (plan, then) in enumerate(searches(ledger), 1):
            points: set[bytes] = set()
            known = 0
            for ids in identities(ledger, plan, then):
                fresh = set(ids) - points
                points |= fresh
                known += len(ledger.known(fresh))
            count = max(len(points), plan.count or 0) if Search(then).learns and state_of(home, ledger) != "finished" else len(points)
            found.append(Asked(number, plan, then, count, known))
        return found


def unfinished(home: Path) -> str:
    """Returns how far the latest search of a study is, such as "2 of 6 have a result (killed)"; "" if it is through.

    Args:
        home: The study's folder.

    Raises:
        LedgerError: No ledger, or one that cannot be read.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        state, plans = state_of(home, ledger), ledger.plans()
        if state == "finished" or not plans:
            return ""
        if is_imported(ledger.header):
            return "the import was cut short; the same import goes on"
        why = f"{state}: {words}" if (words := ended_by(ledger)) else state
        # Searches may share points; of a single one the trials are counted, which is quick however many there are.
        if len(plans) == 1:
            known, points = ledger.counts()["trials"], plans[0].count or 0
        else:
            latest = asked(home)[-1]
            known, points = latest.known, latest.points
    return f"{known:,} of {points:,} have a result ({why})" if known < points else ""


def state_of(home: Path, ledger: LedgerReader) -> str:
    """Returns how a study's latest session ended ("finished", "stopped", "failed" or "killed"), or "running"."""
    sessions = ledger.sessions()
    reason = sessions[-1]["reason"] if sessions else None
    return str(reason or ("running" if is_written(home / LEDGER) else "killed"))


def searches(ledger: LedgerReader) -> list[tuple[Plan, Study]]:
    """Returns every search a study was asked for, oldest first, with the study as it was then.

    Raises:
        HistoryError: Its results were imported: nobody searched.
    """
    refuse(ledger.header, "no search that could be verified, extended, forked or retried")
    study = Study.parse(ledger.header.spec)
    return [(plan, _as_then(study, plan)) for plan in ledger.plans()]


def identities(ledger: LedgerReader, plan: Plan, study: Study) -> Iterator[list[bytes]]:
    """Yields the identities of all points of a search, in chunks; of one that learns, of those suggested so far."""
    if (search := Search(study)).learns:
        yield [entry.config_id for entry in distinct(ledger, plan)]
        return
    sampler = search.sampler
    for start in range(0, sampler.size, CHUNK):
        points = sampler.configs(start, min(start + CHUNK, sampler.size))
        yield config_ids(ledger.header.context_id, [config_of(study, point) for point in points], ledger.header.defaults)


def to_suggest(home: Path, ledger: LedgerReader) -> int:
    """Returns how many configurations searches that learn have still to suggest; 0 if the latest session came to its end."""
    if state_of(home, ledger) == "finished":
        return 0
    latest = {family_of(plan): plan for plan, study in searches(ledger) if Search(study).learns}
    return sum(max(0, (plan.count or 0) - len(distinct(ledger, plan))) for plan in latest.values())


def config_of(study: Study, point: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters a point gives, fixed ones as they are written: identity and meaning are those of `Search.config`."""
    return {**study.fixed, **point}


def _as_then(study: Study, plan: Plan) -> Study:
    spec = dict(plan.sampler)
    # What a plan does not say is not what the study was created with: a grid after a search that learns has none of its options.
    search = Section(**{key: spec[key] for key in Section.model_fields if key in spec})
    then: dict[str, Any] = {"space": dict(plan.space), "fixed": spec["fixed"], "seed": spec["seed"], "search": search}
    then |= {key: spec[key] for key in ("objective", "constraints") if key in spec}
    return study.model_copy(update=then)


def _plain(left: Study, right: Study, key: str) -> bool:
    return bool(getattr(left, key) == getattr(right, key))
