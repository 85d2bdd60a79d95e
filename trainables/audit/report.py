"""What an audit found, as values and as text."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """Outcome of one check.

    Attributes:
        check: Which check, one of `trainables.audit.CHECKS`.
        passed: False: it failed. None: it could not be made, `detail` says why.
        stage: What moved first, in causal order; "" where that has no meaning.
        column: Column of the stage, or metric.
        symbol: Symbol, "" if none.
        time: Earliest bar (UTC start) that moved, None if none.
        bars: How many bars moved in that column.
        detail: Evidence in words.
    """

    check: str
    passed: bool | None
    stage: str = ""
    column: str = ""
    symbol: str = ""
    time: pd.Timestamp | None = None
    bars: int = 0
    detail: str = ""

    def __str__(self) -> str:
        mark = {True: "ok     ", False: "FAILED ", None: "unknown"}[self.passed]
        where = " ".join(x for x in (self.stage, self.column, self.symbol) if x)
        when = f" at {self.time:%Y-%m-%d %H:%M}" if self.time is not None else ""
        place = f"{where}{when}: " if where else ""
        return f"{mark} {self.check:<13} {place}{self.detail}"


@dataclass(frozen=True)
class AuditReport:
    """All findings about one trainable.

    Attributes:
        trainable: Its name.
        findings: One per check, in the order of `trainables.audit.CHECKS`.
        notes: What the audit could not see, and how it looked.
    """

    trainable: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """No check failed."""
        return not self.failed

    @property
    def complete(self) -> bool:
        """Every check could be made."""
        return all(x.passed is not None for x in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The checks that failed."""
        return tuple(x for x in self.findings if x.passed is False)

    def finding(self, check: str) -> Finding:
        """Returns the finding of a check.

        Raises:
            KeyError: The check was not asked for.
        """
        for found in self.findings:
            if found.check == check:
                return found
        raise KeyError(check)

    def __str__(self) -> str:
        verdict = "no look-ahead found" if self.ok and self.complete else "no look-ahead found where it could be looked for"
        lines = [f"{self.trainable}: {verdict if self.ok else f'{len(self.failed)} of {len(self.findings)} checks failed'}"]
        return "\n".join([*lines, *map(str, self.findings), *(f"note: {note}" for note in self.notes)])
