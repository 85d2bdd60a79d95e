"""What a search that learns has suggested, as its ledger has it.

The ledger has an event per batch, with every configuration in it, before anything of it is evaluated; that is all the state there is. A
search belongs to a *family*: all plans with the same space and sampler, however many trials they asked for. A longer one goes on where
the shorter one ended.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from results import Ledger, LedgerError, Plan
from results.engine import guard
from results.identity import config_ids
from results.reader import LedgerReader
from search_spaces.adaptive.axes import Axes
from sweeps.home import LEDGER
from sweeps.requests import REQUEST
from sweeps.study import StudyError

if TYPE_CHECKING:
    from sweeps.search import Search

SUGGESTED: Final = "suggested"
LEARNT: Final = "learnt_from"
ID_CHUNK: Final = 500


class Member(NamedTuple):
    """A configuration that was suggested, fixed parameters included, and its identity."""

    config: Mapping[str, Any]
    config_id: bytes


@dataclass(frozen=True)
class Suggested:
    """A suggestion.

    Attributes:
        point: Its parameters.
        attrs: What the sampler gave along with it.
        members: The configurations it stands for: one, or one per replicate.
    """

    point: Mapping[str, Any]
    attrs: Mapping[str, Any]
    members: tuple[Member, ...]

    @property
    def key(self) -> bytes:
        """What two suggestions of the same point share."""
        return self.members[0].config_id


@dataclass(frozen=True)
class Batch:
    """Suggestions that were asked for together.

    Attributes:
        size: How many the family asks for at once.
        request: Id of the request a person made for it; "" for the sampler's own.
        entries: In order.
    """

    size: int
    request: str
    entries: tuple[Suggested, ...]


class Expander:
    """Makes suggestions of points: fixed parameters and replicates added, identities made.

    Args:
        ledger: Whose configurations they are.
        fixed: Parameters held at one value, checked or as written: identities are the same.
        replicates: Values of parameters that change nothing but random numbers; every combination is a member.
    """

    def __init__(self, ledger: LedgerReader, fixed: Mapping[str, Any], replicates: Mapping[str, Sequence[Any]]):
        self._header, self._fixed = ledger.header, fixed
        self._each = [dict(zip(replicates, values, strict=True)) for values in itertools.product(*replicates.values())]

    def __call__(self, points: Sequence[Mapping[str, Any]], attrs: Sequence[Mapping[str, Any]]) -> tuple[Suggested, ...]:
        """Returns a suggestion for each point."""
        configs = [{**self._fixed, **point, **each} for point in points for each in self._each]
        members = list(map(Member, configs, config_ids(self._header.context_id, configs, self._header.defaults)))
        n = len(self._each)
        return tuple(Suggested(point, attrs[i], tuple(members[i * n : (i + 1) * n])) for i, point in enumerate(points))


def plan_of(search: Search) -> Plan:
    """Returns the plan a search would have in a ledger, without a number."""
    from results.records import checked_json

    spec, space = json.loads(checked_json(search.plan_spec, "the sampler")), json.loads(checked_json(search.space.to_dict(), "the space"))
    return Plan(0, 0, search.sampler.size, space, spec, "", "")


def family_of(plan: Plan) -> str:
    """Returns the name of the plans that are one search, however many trials they ask for."""
    spec = {key: value for key, value in plan.sampler.items() if key != "trials"}
    return blake2b(json.dumps([plan.space, spec]).encode(), digest_size=8, person=b"alphasweep-fam").hexdigest()


def batches(ledger: LedgerReader, plan: Plan) -> list[Batch]:
    """Returns every batch of a plan's family, in order; a point may come twice."""
    family, expand = family_of(plan), Expander(ledger, plan.sampler["fixed"], plan.sampler.get("replicates", {}))
    found = (event["detail"] for event in ledger.events(SUGGESTED, limit=None))
    own = [detail for detail in found if detail["family"] == family]
    # All at once, because a search may have suggested one at a time.
    entries = iter(expand([p for detail in own for p in detail["points"]], [a for detail in own for a in detail["attrs"]]))
    return [Batch(d["size"], d.get(REQUEST, ""), tuple(itertools.islice(entries, len(d["points"])))) for d in own]


def distinct(ledger: LedgerReader, plan: Plan) -> list[Member]:
    """Returns the configurations of a plan, in the order of their numbers."""
    first: dict[bytes, Member] = {}
    for batch in batches(ledger, plan):
        for entry in batch.entries:
            for member in entry.members:
                first.setdefault(member.config_id, member)
    return list(itertools.islice(first.values(), plan.count))


class Result(NamedTuple):
    """A result as a sampler is told it.

    Attributes:
        status: "completed", "stopped" or "failed".
        metrics: By name; None is n/a.
        step: Where it was stopped early.
    """

    status: str
    metrics: Mapping[str, float | None]
    step: int | None = None


def results_of(ledger: LedgerReader, ids: Sequence[bytes]) -> dict[bytes, Result]:
    """Returns the results a ledger has of the given identities."""
    tables, found = ledger.tables, dict[bytes, Result]()
    columns = [tables.metric(name) for name in tables.metric_names]
    for start in range(0, len(ids), ID_CHUNK):
        chosen = tables.trials.c.config_id.in_(ids[start : start + ID_CHUNK])
        for key, status, *metrics in rows_of(ledger, sa.select(tables.trials.c.config_id, tables.trials.c.status, *columns).where(chosen)):
            found[bytes(key)] = Result(status, dict(zip(tables.metric_names, metrics, strict=True)))
    stopped = [key for key, result in found.items() if result.status == "stopped"]
    for start in range(0, len(stopped), ID_CHUNK):
        reports = tables.reports
        last = sa.select(reports.c.config_id, sa.func.max(reports.c.step)).group_by(reports.c.config_id)
        for key, step in rows_of(ledger, last.where(reports.c.config_id.in_(stopped[start : start + ID_CHUNK]))):
            found[bytes(key)] = found[bytes(key)]._replace(step=int(step))
    return found


def elsewhere(search: Search, ledger: LedgerReader, folder: Path) -> Iterator[tuple[dict[str, Any], Result]]:
    """Yields completed results that are points of a search's space: of the studies it is to learn from, then of its own.

    Args:
        search: Over which parameters, for which objectives.
        ledger: Its own.
        folder: Of studies, where `warm_start` finds names.

    Raises:
        StudyError: A study that is not there, or has other metrics.
    """
    for _, found in warm_starts(search, folder):
        yield from found
    yield from _points(search, Axes(search.space), ledger)


def warm_starts(search: Search, folder: Path) -> Iterator[tuple[str, Iterable[tuple[dict[str, Any], Result]]]]:
    """Yields the studies a search is to learn from, each with what `elsewhere` takes from it, to be read before the next.

    Raises:
        StudyError: As `elsewhere`.
    """
    axes = Axes(search.space)
    for name in search.study.search.warm_start:
        home = Path(name) if Path(name).is_dir() else folder / name
        try:
            with Ledger.open(home / LEDGER, readonly=True) as other:
                if lacking := [metric for metric in search.objectives if metric not in other.header.metric_names]:
                    raise StudyError(f"search.warm_start: {name} has no {', '.join(lacking)}, by which this study ranks")
                yield name, _points(search, axes, other)
        except LedgerError as error:
            raise StudyError(f"search.warm_start: {name}: {error}") from None


def _points(search: Search, axes: Axes, ledger: LedgerReader) -> Iterable[tuple[dict[str, Any], Result]]:
    names, trials = ledger.tables.metric_names, ledger.tables.trials
    query = sa.select(trials.c.config, *map(ledger.tables.metric, names)).where(trials.c.status == "completed")
    for text, *metrics in rows_of(ledger, query.order_by(trials.c.trial)):
        point = {**ledger.header.defaults, **search.study.fixed, **json.loads(text)}
        if axes.drawn(point) is not None:
            own = {name: point[name] for name in axes.space.names if name in point}
            yield own, Result("completed", dict(zip(names, metrics, strict=True)))


def rows_of(ledger: LedgerReader, query: sa.Select[Any]) -> Sequence[Any]:
    """Runs a query and returns its rows as tuples."""
    with guard(ledger.where), ledger.connect() as connection:
        return connection.execute(query).all()
