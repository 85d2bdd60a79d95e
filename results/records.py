"""The values that go into and come out of a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple

from results.identity import Identified, IdentityError, canonical_json, context_id, ordered_json
from results.metrics import Metric

SCHEMA_VERSION: Final = 2
CONTEXT_KEYS: Final = ("trainable", "version", "data_fingerprint", "protocol", "seed")

TrialStatus = Literal["completed", "stopped", "failed"]
AttemptStatus = Literal["open", "accepted", "lost", "rejected"]


class LedgerError(ValueError):
    """Something is wrong with a ledger or with what it was asked; the message says what to do."""


class LedgerLocked(LedgerError):  # noqa: N818 - it says what is the case
    """Another process has this ledger open for writing."""


@dataclass(frozen=True)
class Header:
    """What a ledger is about; written once, when it is created.

    Attributes:
        name: The study's name.
        spec: The study file as a mapping.
        context: The arguments of `identity.context_id`: trainable, version, data_fingerprint, protocol, seed.
        metrics: Every metric a trial reports, in the order of `ResultRow.metrics`.
        objective: Name of the metric that ranks; it gets an index.
        created: ISO time, filled in on creation.
        schema_version: Of the tables.
    """

    name: str
    spec: Mapping[str, Any]
    context: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    objective: str
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if set(self.context) != set(CONTEXT_KEYS):
            got = ", ".join(sorted(self.context)) or "nothing"
            raise LedgerError(f"a ledger's context needs exactly {', '.join(CONTEXT_KEYS)}; got {got}")
        names = [metric.name.lower() for metric in self.metrics]
        if len(set(names)) != len(names):
            raise LedgerError(f"metric names must differ by more than upper and lower case: {', '.join(m.name for m in self.metrics)}")
        if self.objective not in self.metric_names:
            raise LedgerError(f"objective {self.objective!r} is not a declared metric; declared: {', '.join(self.metric_names) or 'none'}")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the declared metrics, in order."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def context_id(self) -> str:
        """Identity of the context, 32 hexadecimal digits."""
        return context_id(**self.context)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Parameters a configuration may leave out, from the protocol's `defaults`."""
        found = self.context["protocol"].get("defaults", {})
        return found if isinstance(found, Mapping) else {}

    def metric(self, name: str) -> Metric:
        """Return the declared metric called `name`."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise LedgerError(f"study {self.name!r} has no metric {name!r}; it has {', '.join(self.metric_names)}")

    def metrics_json(self) -> str:
        """The metric declaration as canonical JSON."""
        return canonical_json([asdict(metric) for metric in self.metrics])


class ResultRow(NamedTuple):
    """One finished trial, as the runner hands it over.

    Attributes:
        trial: Number in the study: plan offset + index in the plan.
        config_id: 16 bytes from `identity.config_ids`.
        config: The configuration.
        status: "completed", "stopped" (early, by a scheduler) or "failed".
        metrics: Values in the header's order; None for a failed trial. NaN and infinities are stored as "n/a".
        seconds: Time it took, or None.
        error: Why it failed.
        source: Study it was reused from.
        known: What `identity.identified` said of the configuration, if it was asked before: it need not be found out again.
    """

    trial: int
    config_id: bytes
    config: Mapping[str, Any]
    status: TrialStatus = "completed"
    metrics: Sequence[float | None] | None = None
    seconds: float | None = None
    error: str | None = None
    source: str | None = None
    known: Identified | None = None


@dataclass(frozen=True)
class Plan:
    """One search asked for in a study; trial numbers are `offset` + index.

    Attributes:
        plan_id: Key in the ledger.
        offset: Number of its first trial.
        count: How many trials, or None when open-ended.
        space: The search space.
        sampler: The sampler and its settings.
        digest: Hash of space, sampler and count.
        created: ISO time.
    """

    plan_id: int
    offset: int
    count: int | None
    space: Mapping[str, Any]
    sampler: Mapping[str, Any]
    digest: str
    created: str


class Accepted(NamedTuple):
    """What became of the rows of one `accept`."""

    accepted: int
    rejected: int


@dataclass(frozen=True)
class Verification:
    """Outcome of comparing a ledger with the points it should hold.

    Attributes:
        points: Distinct points expected; equals completed + stopped + failed + missing.
        completed: Expected points with a completed trial.
        failed: Expected points with a failed trial.
        missing: Expected points without a trial.
        duplicated: Trials whose configuration has another trial too.
        corrupt: Trials whose checksum, configuration or values do not belong together.
        unexpected: Trials whose configuration is not an expected point.
        certificate: Hash over all (config_id, checksum) in order: equal for equal results, whatever the order or session they came in.
        problems: The first few problems in words.
        stopped: Expected points whose trial was stopped early.
        vanished: Results that were accepted and are not in the ledger any more.
    """

    points: int
    completed: int
    failed: int
    missing: int
    duplicated: int
    corrupt: int
    unexpected: int
    certificate: str
    problems: tuple[str, ...] = ()
    stopped: int = 0
    vanished: int = 0

    @property
    def intact(self) -> bool:
        """Nothing that was accepted was changed, doubled or taken away, and there is nothing else; points may be missing."""
        return not (self.duplicated or self.corrupt or self.unexpected or self.vanished)

    @property
    def incomplete(self) -> bool:
        """Intact, but not every expected point has been evaluated yet."""
        return self.intact and self.missing > 0

    @property
    def ok(self) -> bool:
        """Every expected point has exactly one intact result, be it that it failed, and there is nothing else."""
        return self.intact and not self.missing


def checked_json(value: Any, what: str) -> str:
    """Return JSON of a header or plan part, keys in their order, with a ledger's error when it has none."""
    try:
        return ordered_json(value)
    except IdentityError as error:
        raise LedgerError(f"{what} cannot be stored: {error}") from error
