"""The trials at work in a study whose trials report: where each is, from the latest rows of its ledger."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from results.leaderboard import parameter_label
from results.reader import LedgerReader
from search_spaces.stopping import Rules
from sweeps.endings import recorded_rules

if TYPE_CHECKING:
    from sweeps.search import Search


@dataclass
class Working:
    """A trial at work.

    Attributes:
        trial: Its number.
        attempt: Its fencing number.
        step: Of its last report.
        value: Its objective there; NaN is n/a.
        last: Step at which it is done; 0 where that is not known.
        swept: Its parameters that differ between trials.
        seconds: Of work up to its last report, in this attempt.
        heard: Monotonic time at which that report was first seen here.
        done: Steps of this attempt after its first report.
        spent: Seconds they took.
        ladder: Where it can be stopped: its rungs, or the step from which it is judged.
    """

    trial: int
    attempt: int
    step: int = 0
    value: float = math.nan
    last: int = 0
    swept: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    done: int = 0
    spent: float = 0.0
    ladder: Sequence[int] = ()

    @property
    def pace(self) -> float:
        """Seconds a step; NaN before the second report, as the first comes after setting up."""
        return self.spent / self.done if self.done else math.nan

    @property
    def left(self) -> float:
        """Seconds until it is done if nobody stops it; NaN where that cannot be said."""
        if not self.last or math.isnan(self.pace):
            return math.nan
        return max(0.0, (self.last - self.step) * self.pace - (time.monotonic() - self.heard))

    @property
    def rung(self) -> str:
        """How many of its rungs it has passed, such as "2 of 4"; "–" where it has none."""
        return f"{bisect_right(self.ladder, self.step)} of {len(self.ladder)}" if self.ladder else "–"


class Work:
    """What is at work, followed from look to look: each looks at the reports since the one before.

    Attributes:
        rule: Kind of the scheduler; "" where trials do not report.
        trials: Those at work that have reported since they were handed out, by number.
        longest: Last step of the longest trial, 0 where that is not known.
        steps: Steps that were seen to be made.
    """

    def __init__(self) -> None:
        self.rule = ""
        self.trials: list[Working] = []
        self.longest = 0
        self.steps = 0
        self._by_attempt: dict[int, Working] = {}
        self._seen = 0
        self._rules: Rules | None = None
        self._search: Search | None = None
        self._loaded = False

    def look(self, ledger: LedgerReader, open_attempts: Sequence[int], latest: int) -> None:
        """Takes what has been reported since.

        Args:
            ledger: The study's.
            open_attempts: Fencing numbers of the attempts that are open.
            latest: Sequence number of the latest report, 0 for none.
        """
        if not self._rules:
            found = recorded_rules(ledger)
            if found is None:
                return
            self._rules, self.rule = found[0], found[0].kind
        if not self._loaded:
            self._load(ledger)
        if latest > self._seen:
            self._read(ledger, open_attempts)
        alive = set(open_attempts)
        self._by_attempt = {attempt: made for attempt, made in self._by_attempt.items() if attempt in alive}
        self.trials = sorted(self._by_attempt.values(), key=lambda made: made.trial)

    def _read(self, ledger: LedgerReader, open_attempts: Sequence[int]) -> None:
        reports = ledger.tables.reports
        place = ledger.header.metric_names.index(ledger.header.objective)
        query = sa.select(reports).where(reports.c.seq > self._seen).order_by(reports.c.seq)
        if not self._seen:  # of what came before only those at work are of interest
            query = query.where(reports.c.attempt.in_(open_attempts))
            newest = ledger.rows(sa.select(sa.func.max(reports.c.seq).label("seq")))[0]["seq"]
            self._seen = int(newest or 0)
        for row in ledger.rows(query):
            self._seen = max(self._seen, int(row["seq"]))
            value = json.loads(row["metrics"])[place]
            made = self._by_attempt.get(row["attempt"])
            if made is None:
                made = self._by_attempt[row["attempt"]] = self._begun(ledger, row)
            else:
                made.done += row["step"] - made.step
                made.spent += row["seconds"] or 0.0
                self.steps += max(0, row["step"] - made.step)
            made.step, made.value, made.heard = row["step"], math.nan if value is None else float(value), time.monotonic()
            made.seconds += row["seconds"] or 0.0

    def _begun(self, ledger: LedgerReader, row: Mapping[str, Any]) -> Working:
        made = Working(row["trial"], row["attempt"])
        config = self._config(ledger, row["trial"])
        if config is not None:
            header = ledger.header
            made.last = self._last({**header.defaults, **config})
            names = self._search.space.names if self._search is not None else ()
            made.swept = {parameter_label(name, header.metric_names): config[name] for name in names if name in config}
        if self._rules is not None and made.last:
            made.ladder = self._rules.ladder(made.trial, made.last)
        return made

    def _load(self, ledger: LedgerReader) -> None:
        """Makes the study's search, without which only numbers of steps are known."""
        from sweeps.search import Search
        from sweeps.study import Study

        self._loaded = True
        with suppress(ValueError, ImportError):  # somebody's own trainable, in a folder other than this one
            search = Search(Study.parse(ledger.header.spec))
            self.longest = search.last_step
            self._search = search

    def _config(self, ledger: LedgerReader, trial: int) -> dict[str, Any] | None:
        """Returns the configuration of a trial without a result."""
        from sweeps.asked import config_of, searches
        from sweeps.search import Search
        from sweeps.suggestions import distinct

        with suppress(ValueError, ImportError):
            for plan, study in searches(ledger):
                search, index = Search(study), trial - plan.offset
                if search.learns and 0 <= index < search.sampler.size:
                    made = distinct(ledger, plan)
                    return dict(made[index].config) if index < len(made) else None
                if 0 <= index < search.sampler.size:
                    return config_of(search.study, search.sampler.configs(index, index + 1)[0])
        return None

    def _last(self, config: Mapping[str, Any]) -> int:
        from trainables.stepping import Stepping

        with suppress(Exception):  # a third party's; without it the view has a column less
            if self._search is not None and isinstance(self._search.trainable, Stepping):
                return int(self._search.trainable.last_step(config))
        return 0
