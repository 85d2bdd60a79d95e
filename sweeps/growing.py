"""Studies that grow: what a study was asked for last, changed; what is new in that; and which of its failures can be tried again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from results import Ledger, LedgerError, Plan
from results.identity import config_ids
from results.ledger import OPEN_ENDED
from results.reader import LedgerReader
from search_spaces import Space
from sweeps.asked import identities, searches
from sweeps.budgets import REOPENED
from sweeps.endings import SCHEDULER, why
from sweeps.home import LEDGER
from sweeps.runner import FORKED
from sweeps.search import Search
from sweeps.siblings import Elsewhere, siblings_of
from sweeps.study import Study, StudyError
from sweeps.study_yaml import Loader
from sweeps.suggestions import distinct, plan_of

CONTEXT = ("trainable", "data", "settings", "protocol", "seed")  # results under another one cannot stand in one table
KEPT = ("name", "objective", "constraints", "scheduler")  # what a study keeps from its beginning
FREE = ("description", "resources", "stop", "tracking")  # what each session may have its own of


@dataclass(frozen=True)
class Outlook:
    """What running a search would do.

    Attributes:
        points: Different configurations in it; of a sampler that learns, how many it may suggest.
        known: Of these, with a result.
        elsewhere: Of these, with a result in another study of the folder only.
        learns: Whether its points are not known beforehand.
    """

    points: int
    known: int
    elsewhere: int
    learns: bool = False

    @property
    def left(self) -> int:
        """How many will be evaluated."""
        return self.points - self.known - self.elsewhere

    def words(self) -> str:
        """Returns it on a line."""
        there = f"{self.known:,} {'has' if self.known == 1 else 'have'} a result"
        there += f", {self.elsewhere:,} {'is' if self.elsewhere == 1 else 'are'} taken over from other studies" if self.elsewhere else ""
        points = f"{self.points:,} {'point' if self.points == 1 else 'points'}{' to suggest in all' if self.learns else ''}"
        return f"{points}: {there}, {self.left:,} will run"


def latest(ledger: LedgerReader) -> Study:
    """Returns a study as it was asked for last."""
    asked = searches(ledger)
    written = Study.parse(ledger.header.spec)
    if not asked:  # killed before it began
        return written
    _, study = asked[-1]
    changes: dict[str, Any] = {}
    if Space.parse(written.space).to_dict() == dict(study.space):
        changes["space"] = written.space  # as somebody wrote it
    if isinstance(study.objective, list) and len(study.objective) == 1:
        changes["objective"] = study.objective[0] if written.objective else None
    return study.model_copy(update=changes)


def extended(home: Path, overrides: Sequence[str]) -> Study:
    """Returns the latest search of a study, changed.

    Args:
        home: The study's folder.
        overrides: `key.path=value` settings.

    Raises:
        StudyError: They change what a study keeps, or are not usable.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        base = latest(ledger)
    made = base.changed(overrides, f"study {home.name}")
    for key in (*CONTEXT, *KEPT):
        if (old := getattr(base, key)) != (new := getattr(made, key)):
            why = "results made under both cannot stand in one table" if key in CONTEXT else "a study keeps what it began with"
            raise StudyError(
                f"{key}: it was {_brief(old)}, it would be {_brief(new)}, and {why}. A study of its own, which takes over every result "
                f"that still holds: alphasweep fork {home.name} NEW --set {key}=…"
            )
    return made


def forked(home: Path, name: str, overrides: Sequence[str]) -> Study:
    """Returns the latest search of a study, changed, as a study of its own.

    Args:
        home: The folder of the study it comes from.
        name: Of the new study.
        overrides: `key.path=value` settings.

    Raises:
        StudyError: They are not usable, or another study of this name has run.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        made = latest(ledger).changed([*overrides, f"name={json.dumps(name)}"], f"fork of {home.name}")
    if made.name == home.name:
        raise StudyError(f"{name}: a fork needs a name of its own; alphasweep extend {home.name} adds to the study itself")
    place = home.parent / made.name
    if (place / LEDGER).exists():
        with Ledger.open(place / LEDGER, readonly=True) as ledger:
            source = origin(ledger)
            begun = Study.parse(ledger.header.spec).model_copy(update={key: getattr(made, key) for key in FREE})
            if not ledger.plans() or (source == home.name and begun == made):
                return made  # the same one, which goes on
        raise StudyError(
            f"{name}: a study of this name has run in {home.parent}{f' (a fork of {source})' if source else ''}. Choose another name; "
            f"alphasweep extend {name} adds to the one there is"
        )
    return made


def origin(ledger: LedgerReader) -> str:
    """Returns the study that one is a fork of, "" if it is none."""
    return next((str(event["detail"]["source"]) for event in ledger.events(FORKED, limit=1)), "")


def differing(home: Path, study: Study) -> list[str]:
    """Returns the keys by which a study's results could not be those of another one.

    Args:
        home: The folder of the other one.
        study: Compared with it.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        base = latest(ledger)
    return [key for key in CONTEXT if getattr(base, key) != getattr(study, key)]


def outlook(home: Path, study: Study, own: bool = True) -> Outlook:
    """Counts what running a search would do.

    Args:
        home: Folder of a study with the same data and rules.
        study: With the search.
        own: Whether it would run in that study; otherwise in a new one beside it.
    """
    search = Search(study)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        elsewhere = Elsewhere(ledger, siblings_of(home) if own else [*siblings_of(home), home / LEDGER])
        plan = plan_of(search)
        if search.learns:
            ids = [entry.config_id for entry in distinct(ledger, plan)] if own else []
            known = len(ledger.known(ids))
            return Outlook(search.sampler.size, known, len(elsewhere.has(set(ids) - ledger.known(ids))), learns=True)
        seen: set[bytes] = set()
        known = others = 0
        for chunk in identities(ledger, plan, study):
            fresh = set(chunk) - seen
            seen |= fresh
            have = ledger.known(fresh) if own else set()
            known += len(have)
            others += len(elsewhere.has(fresh - have))
    return Outlook(len(seen), known, others)


def failures(home: Path, only: Collection[int] = ()) -> list[tuple[Study, list[int]]]:
    """Returns the searches with failed trials to be evaluated again, and these trials' numbers.

    Args:
        home: The study's folder.
        only: Trials that are meant; all that failed by default.

    Raises:
        LedgerError: No such trial.
        StudyError: One of them has not failed.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        trials = ledger.tables.trials
        failed = {row["trial"] for row in ledger.rows(sa.select(trials.c.trial).where(trials.c.status == "failed"))}
        again = {int(event["trial"]) for event in ledger.events(REOPENED, limit=None)}
        if again:  # an earlier retry may have been interrupted
            chosen = sa.select(trials.c.trial).where(trials.c.trial.in_(again)) if len(again) < 30_000 else sa.select(trials.c.trial)
            failed |= again - {row["trial"] for row in ledger.rows(chosen)}
        for trial in only:
            if trial not in failed:
                status = str(ledger.trial(trial)["status"])
                raise StudyError(f"trial {trial} of {home.name}: it was {_SAID.get(status, status)}; only what failed is evaluated again")
        wanted = sorted(failed if not only else set(only))
        asked = [(plan, study, [trial for trial in wanted if _holds(plan, trial)]) for plan, study in searches(ledger)]
        return [(study, numbers) for _, study, numbers in asked if numbers]


_SAID = {"stopped": "stopped early", "completed": "completed"}


def _holds(plan: Plan, trial: int) -> bool:
    return plan.offset <= trial < plan.offset + (OPEN_ENDED if plan.count is None else plan.count)


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else f"{text[:97]}…"


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes wherever `Loader` would read a number."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()), *Loader.yaml_implicit_resolvers.get(first, ())]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *Loader.yaml_implicit_resolvers}
}


def write_study(study: Study, place: Path) -> None:
    """Writes a study file.

    Args:
        study: To write.
        place: Where; there must be no file yet.

    Raises:
        StudyError: There is one.
    """
    mapping = {key: value for key, value in study.model_dump(exclude_defaults=True).items() if value not in ({}, [], None)}
    text = yaml.dump(mapping, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StudyError(f"{place}: there is such a file; it is not written over") from None
    if Study.load(place) != study:
        raise LedgerError(f"{place}: reading it back gives another study, so write it by hand")


def settings_of(items: Iterable[str]) -> dict[str, Any]:
    """Returns the point that settings `name=value` mean; values are YAML, and names may be written as in a study's space.

    Raises:
        StudyError: One is none, or given twice.
    """
    made: dict[str, Any] = {}
    for item in items:
        name, sign, value = item.partition("=")
        name = name.strip().removeprefix("space.")
        if not sign or not name:
            raise StudyError(f"--set {item!r}: write name=value, for example --set min_edge=0.003")
        if name in made:
            raise StudyError(f"--set {item!r}: {name} is given twice; one call is one point")
        try:
            made[name] = yaml.load(value, Loader=Loader)
        except (StudyError, yaml.YAMLError, RecursionError):
            raise StudyError(f"--set {item!r}: the value is not valid YAML") from None
    return made


def check_point(home: Path, point: Mapping[str, Any]) -> int | None:
    """Refuses a point that a study's latest search cannot try next.

    Args:
        home: The study's folder.
        point: A value for each parameter.

    Returns:
        How many trials the search would have to be asked for, if all it was asked for have been suggested; otherwise None.

    Raises:
        StudyError: The search does not learn; or it is no point of the space; or it was suggested before.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        study, asked = latest(ledger), searches(ledger)
        search = Search(study)
        made = search.point_of(point, "point")
        search.accept(search.config(made))
        [key] = config_ids(ledger.header.context_id, [search.config(made)], ledger.header.defaults)
        if search.learns:
            known = distinct(ledger, replace(asked[-1][0], count=None)) if asked else []
            for number, entry in enumerate(known):
                if entry.config_id == key:
                    raise StudyError(f"trial {asked[-1][0].offset + number} of {home.name} is this configuration already")
            return len(known) + 1 if len(known) >= search.sampler.size else None
        if any(key in chunk for plan, then in asked for chunk in identities(ledger, plan, then)):
            raise StudyError(f"{home.name}: this point is in its plan already, and {search.method} takes its points in their order")
        wider = "--set with these values in its space" if search.study.search.trials is None else "--trials, or --set search.sampler=grid"
        raise StudyError(
            f"{home.name}: {search.method} does not learn from results, so there is no next point to choose; "
            f"alphasweep extend {home.name} with {wider} adds the point to its plan"
        )


def check_trial(home: Path, trial: int) -> None:
    """Refuses a trial that cannot be ended.

    Raises:
        StudyError: Its study's trials do not report; or it has ended.
        LedgerError: No such trial.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        if not ledger.events(SCHEDULER, limit=1):
            raise StudyError(
                f"{home.name}: no trial of it that reports has begun, and only such a trial can be ended; "
                f"alphasweep stop {home.name} stops the study"
            )
    found = why(home, trial)
    if found.status not in ("running", "waiting"):
        raise StudyError(f"trial {trial} of {home.name} has ended already: {found.words}")
