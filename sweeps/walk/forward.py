"""Walk-forward optimisation: search inside a train window, test the winner on the window after it, roll on (SPEC M 14b, J7).

Each window's search is a study like any other, with its ledger; the winner is fixed on the record before its test window is looked at.
The same call goes on where it ended, and repeats nothing. The study's holdout stays sealed.
"""

from __future__ import annotations

import getpass
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cluster.cache import Store
from cluster.cache.outputs import session_of
from cluster.session import check_address, ray_session
from results import Ledger
from results.constraints import constraints_of
from results.leaderboard import LEGACY_LABEL
from results.lock import WriterLock
from results.metrics import Metric
from results.reader import LedgerReader
from sweeps.evaluator import Evaluator
from sweeps.feed import Tally
from sweeps.runner import LEDGER, run
from sweeps.search import Search
from sweeps.study import Study, StudyError
from sweeps.walk import record
from sweeps.walk.record import name_of
from sweeps.walk.result import WalkResult, Windowed, most_frequent
from trainables.contract import Checks, Prepared, check_config
from trainables.outputs import hosted
from trainables.stepping import Stepping
from trainables.tables import offered
from trainables.timeline import Timeline
from trainables.walk_forward import Walk, scored_on, searched_on

HERE_SECONDS = 5.0  # a search that is over by then needs no workers, which take as long to start
Config = Mapping[str, Any]
# Which window, of how many, its name for commands, and how its search is doing.
OnProgress = Callable[[int, int, str, Tally], None]


def walk_forward(
    study: Study,
    walk: Walk | None = None,
    folder: str | Path = "runs",
    *,
    fresh: bool = False,
    slots: int | None = None,
    address: str | None = None,
    on_cut: Callable[[Timeline], None] | None = None,
    on_progress: OnProgress | None = None,
    on_window: Callable[[Windowed], None] | None = None,
) -> WalkResult:
    """Walks a study forward, or goes on with a walk where it ended.

    For each window: the study's search with its train window as the tune window; the winner by the objective under the study's
    constraints, and nothing but the winner, traded in the test window, flat at its start. To compare it with, the first winner and the
    defaults are evaluated there too, and at the end the most frequent winner; none of these is chosen by what it earned there.

    Args:
        study: What to search; its trainable has to evaluate packs and to cut time.
        walk: How time is cut.
        folder: Where studies live; the walk gets `folder/study.name.walk`, each window a study in it.
        fresh: Set an earlier walk of this study aside (nothing is deleted) and start over.
        slots: Packs at once; default one per CPU.
        address: Ray cluster; default a local Ray, one for all windows.
        on_cut: Called when the windows are known.
        on_progress: Called while a window is searched.
        on_window: Called when a window has been tested, or was before.

    Returns:
        The result; also when stopped by Ctrl-C (`stopped` is True).

    Raises:
        StudyError: The trainable cannot be walked, or a walk with other settings lies there. What `sweeps.run` raises.
    """
    check_address(address)
    search = Search(study)
    search.check()
    if isinstance(search.trainable, Stepping):
        raise StudyError(
            f"trainable: {study.trainable} reports as it goes. A walk-forward needs one that evaluates packs: a fine-tune or a policy "
            "fits on the train windows of its own folds, so give these in protocol (folds, kind, train, tune)"
        )
    if study.search.warm_start:
        raise StudyError("search.warm_start: those results may know the test windows; a walk-forward learns from its train windows only")
    with offered(Store()):
        prepared = search.prepare()
    if prepared.protocol.get("profile") == "legacy":
        raise StudyError(f"settings.profile: {LEGACY_LABEL}; legacy results contain look-ahead, in a test window too")
    if prepared.timeline is None:
        raise StudyError(f"trainable: {study.trainable} does not cut time (its prepare gives no timeline), so there is nothing to walk")
    timeline = (walk or Walk()).cut(search.protocol, prepared.timeline.times, prepared.timeline.bar_hours)
    home = Path(folder) / f"{study.name}{record.SUFFIX}"
    if fresh and home.exists():
        record.set_aside(home)
    home.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(home / record.WALK)
    try:
        _keep(home, study, walk or Walk(), timeline, search, prepared)
        if on_cut:
            on_cut(timeline)
        made = _Walked(
            study, timeline, home, search, prepared, slots, address, on_progress or (lambda *_: None), on_window or (lambda _: None)
        )
        return made.result(made.all())
    finally:
        lock.release()


def best_of(ledger: LedgerReader) -> tuple[dict[str, Any] | None, str]:
    """Returns the winner of a window's search; None, and why, where there is none."""
    header = ledger.header
    if not ledger.counts()["completed"]:
        raise StudyError(f"{header.name}: no configuration was completed; alphasweep status shows why")
    limits = constraints_of(header)
    if limits and not ledger.count_meeting(limits):
        return None, "no trial meets the constraints"
    best = ledger.top(header.objective, n=1)
    value = best[header.objective].iloc[0]
    if value is None or not math.isfinite(value):
        return None, f"{header.objective} is n/a for every trial"
    return ledger.trial(int(best["trial"].iloc[0])), ""


class _Walked:
    """The windows of one walk, worked off one by one."""

    def __init__(
        self,
        study: Study,
        timeline: Timeline,
        home: Path,
        search: Search,
        prepared: Prepared,
        slots: int | None,
        address: str | None,
        on_progress: OnProgress,
        on_window: Callable[[Windowed], None],
    ):
        self.study, self.timeline, self.home, self.search, self.prepared = study, timeline, home, search, prepared
        self.slots, self.address, self.on_progress, self.on_window = slots, address, on_progress, on_window
        self.default = self._default()
        self.first: Config | None = None

    def complete(self, config: Config) -> dict[str, Any]:
        given = {**check_config(self.search.trainable, self.study.fixed, "fixed"), **check_config(self.search.trainable, config)}
        return {**self.prepared.defaults, **given}

    def _default(self) -> dict[str, Any] | None:
        """Returns the configuration of a study that sweeps nothing; None where there is none under these settings."""
        default = self.complete({})
        if isinstance(self.search.trainable, Checks):
            try:
                self.search.trainable.check(default, self.study.settings)
            except ValueError:
                return None
        return default

    def all(self) -> list[Windowed] | None:
        """Works off what is left; None where it was asked to stop."""
        windows: list[Windowed] = []
        with ExitStack() as stack:
            for k in range(len(self.timeline.folds)):
                known = record.tested_in(self.home / name_of(k))
                if not known.opened:
                    began = time.monotonic()
                    if not self._search(k):
                        return None
                    if self.address or time.monotonic() - began > HERE_SECONDS:
                        # Searches that take workers share one Ray from here on.
                        stack.enter_context(ray_session(self.address, self.slots))
                self._test(k, [self.default])
                windows.append(self._window(k))
                self.on_window(windows[-1])
        modal = most_frequent(windows)
        if modal is not None:
            for k in range(len(windows)):
                self._test(k, [modal])
            windows = [self._window(k) for k in range(len(windows))]
        return windows

    def _search(self, k: int) -> bool:
        """Searches a train window; returns whether the search came to its end."""
        done = run(
            self._as(k, searched_on(self.search.protocol, self.timeline, k)),
            self.home,
            slots=self.slots,
            address=self.address,
            here=HERE_SECONDS,
            on_progress=lambda tally: self.on_progress(k, len(self.timeline.folds), name_of(k), tally),
        )
        return not done.stopped

    def _as(self, k: int, protocol: Mapping[str, Any]) -> Study:
        return self.study.model_copy(update={"name": name_of(k), "protocol": dict(protocol)})

    def _test(self, k: int, fixed: Sequence[Config | None]) -> None:
        """Evaluates on the test window what has not been: the winner, what it is compared with, and what was cut short."""
        path, why = self.home / name_of(k) / LEDGER, ""
        with Ledger.open(path, readonly=True) as ledger:
            known = record.read(ledger)
            if known.opened:
                winner, trial = known.config, known.trial
            else:
                row, why = best_of(ledger)
                winner, trial = (None, None) if row is None else (self.complete(row["config"]), row["trial"])
        self.first = winner if self.first is None else self.first
        wanted = _distinct([config for config in (winner, self.first, *fixed) if config is not None])
        todo = [config for config in wanted if config not in known.configs and config not in known.pending]
        if known.ended and not todo and not known.pending:
            return
        with Ledger.open(path) as ledger:
            # On the record before anybody sees a number, whatever happens next.
            if todo or not known.opened:
                by = f"{getpass.getuser()}@{socket.gethostname()}"
                ledger.record(record.OPENED, trial=trial, by=by, why=why, winner=winner, configs=todo)
            ledger.record(record.RESULT, trial=trial, **self._evaluate(k, [*known.pending, *todo]))

    def _evaluate(self, k: int, configs: Sequence[Config]) -> dict[str, Any]:
        study = self._as(k, scored_on(self.search.protocol, self.timeline, k))
        store = Store()
        with session_of(store) as built, hosted(store, built):
            prepared = Search(study).prepare()
            if prepared.fingerprint != self.prepared.fingerprint:
                raise StudyError(f"{self.study.name}: the data changed while the walk was under way; start over with --fresh")
            values = np.empty((0, len(prepared.days)))
            if configs:
                values = Evaluator(study, prepared.defaults, len(prepared.days)).evaluate(configs, prepared.inputs)
        names = [metric.name for metric in self.search.trainable.metrics]
        rows = [
            {
                "config": dict(config),
                "metrics": {name: float(v) if np.isfinite(v) else None for name, v in zip(names, row, strict=False)},
                "returns": row[len(names) :].tolist(),
            }
            for config, row in zip(configs, values, strict=True)
        ]
        benchmarks = {name: np.asarray(v, float).tolist() for name, v in prepared.benchmarks.items()}
        return {"tested": rows, "days": prepared.days.astype(str).tolist(), "benchmarks": benchmarks}

    def _window(self, k: int) -> Windowed:
        fold, times = self.timeline.folds[k], self.timeline.times.astype("datetime64[D]")
        with Ledger.open(self.home / name_of(k) / LEDGER, readonly=True) as ledger:
            known = record.read(ledger)
            row = None if known.trial is None else ledger.trial(known.trial)
            trials = ledger.counts()["trials"]
        spans = [(str(times[w.start]), str(times[w.stop - 1])) for w in (fold.train, fold.tune)]
        inside = float("nan") if row is None else float(row["metrics"][self.search.objective])
        return Windowed(k, spans[0], spans[1], trials, {} if row is None else dict(row["config"]), inside, known)

    def result(self, windows: list[Windowed] | None) -> WalkResult:
        metric = next(m for m in self.search.trainable.metrics if m.name == self.search.objective)
        stopped = windows is None
        if windows is None:
            windows = []
            for k in range(len(self.timeline.folds)):
                if not record.tested_in(self.home / name_of(k)).ended:
                    break
                windows.append(self._window(k))
        others = record.others(self.home.parent, self.prepared.fingerprint, self.home)
        return WalkResult(
            study=self.study,
            folder=self.home,
            objective=Metric(metric.name, metric.direction, metric.unit),
            swept=tuple(self.search.space.names),
            timeline=self.timeline,
            windows=tuple(windows),
            default=self.default,
            walks=others + 1,
            stopped=stopped,
        )


def _distinct(configs: Sequence[Config]) -> list[Config]:
    return [config for i, config in enumerate(configs) if config not in configs[:i]]


def _keep(home: Path, study: Study, walk: Walk, timeline: Timeline, search: Search, prepared: Prepared) -> None:
    """Writes what the walk is, or refuses to mix it with another one.

    Raises:
        StudyError: A walk with other settings lies there; names what differs.
    """
    asked = study.model_dump(exclude={"name", "description", "resources", "scheduler", "protocol", "tracking"})
    new = {
        "walk": asdict(walk),
        "windows": timeline.describe(),
        "study": {**asked, "objective": search.objective},
        "made": {
            "version": search.trainable.version,
            "fingerprint": prepared.fingerprint,
            "protocol": {key: value for key, value in prepared.protocol.items() if key != "timeline"},
            "defaults": dict(prepared.defaults),
        },
    }
    old = record.read_walk(home)
    if old is None:
        record.write_walk(home, new)
        return
    # Two ways to ask for the same windows are the same walk.
    differ = list(
        record.changed({k: v for k, v in old.items() if k != "walk"}, record.plain({k: v for k, v in new.items() if k != "walk"}))
    )
    if differ:
        asked_then = ", ".join(record.changed(old["walk"], record.plain(new["walk"])))
        raise StudyError(
            f"{home}: a walk with other settings lies there ({asked_then or '; '.join(differ[:3])}). They cannot stand in one table. "
            f"Give this one a name of its own (--set name={study.name}_2), or set the old walk aside with --fresh; its looks still count."
        )


__all__ = ["Walk", "WalkResult", "Windowed", "best_of", "name_of", "walk_forward"]
