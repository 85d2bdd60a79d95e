"""Running a study: prepare once, work off what has no result yet, keep everything in the ledger.

The same call starts and resumes: what is done is read from the ledger, what is not is evaluated. A kill at any moment
loses only packs in flight.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from cluster.cache import Store
from cluster.cache.keeper import keeping
from cluster.cache.outputs import DiskOutputs, OutputUse, session_of
from cluster.cache.records import Use
from cluster.here import run_here
from cluster.packs import Host, WorkerError, run_packs
from cluster.session import check_address, ray_session, share
from cluster.steps import run_trials
from results import Header, Ledger, Plan, Verification, pointer, series
from results.provenance import collect
from results.tracking import CACHE_USE
from sweeps.budgets import Budgeted
from sweeps.endings import kept_rules
from sweeps.evaluator import Evaluator
from sweeps.feed import Backlog, Point, Source, StudyFeed, Tally
from sweeps.home import LEDGER, header_of, open_ledger, set_aside
from sweeps.inbox import Inbox
from sweeps.learning import LearningBacklog
from sweeps.opened import OpenStudy
from sweeps.prefixes import ByPrefix
from sweeps.pruning import prune_ended
from sweeps.search import Search
from sweeps.siblings import reuser, siblings_of
from sweeps.steps import StepEvaluator, StepFeed
from sweeps.study import Study, StudyError
from sweeps.tracking.beside import Beside
from trainables import outputs
from trainables.contract import Prepared, Warms
from trainables.pipeline import Shares
from trainables.stepping import Stepping
from trainables.tables import Table, offered

BEST_KEPT = 50
FORKED = "forked_from"  # kind of the event that keeps where a study comes from


@dataclass(frozen=True, eq=False)
class StudyResult(OpenStudy):
    """What a run left behind: the study as it lies on disk, and what belongs to this session only.

    Attributes:
        tally: Progress of this session.
        seconds: Wall time of this session.
        stopped: Whether it was asked to stop before the end.
        prepared: What was loaded.
        budget: How its `stop` section ended it, in words; empty if it did not.
        rule: By which of its rules.
        tracking: The process that tells its trackers of it.
        outputs: What it had of the outputs of stages, of a pipeline.
    """

    tally: Tally
    seconds: float
    stopped: bool
    prepared: Prepared
    budget: str = ""
    rule: str = ""
    tracking: Beside | None = None
    outputs: OutputUse = field(default_factory=OutputUse)


def run(
    study: Study,
    folder: str | Path = "runs",
    *,
    fresh: bool = False,
    retry_failed: bool | Collection[int] = False,
    slots: int | None = None,
    address: str | None = None,
    here: float = 0.0,
    forked_from: str = "",
    ledger_url: str = "",
    on_prepared: Callable[[Prepared, Tally], None] | None = None,
    on_progress: Callable[[Tally], None] | None = None,
) -> StudyResult:
    """Runs a study, or goes on with it where an earlier session ended.

    Args:
        study: What to run.
        folder: Where studies live; this one gets `folder/study.name`.
        fresh: Set earlier results of this study aside (moved to `.aside`, nothing is deleted) and start over.
        retry_failed: Evaluate again what failed in earlier sessions: all of it, or the trials of these numbers.
        slots: Packs at once; default one per CPU.
        address: Ray cluster; default a local Ray on loopback.
        forked_from: Study this one is a fork of, to be kept in its ledger.
        ledger_url: PostgreSQL database that holds the ledger, of a study that has none yet; default a SQLite file in its folder.
        here: Seconds for which packs are evaluated in this process before workers are started; a small search then needs none.
        on_prepared: Called when data are loaded, before work starts.
        on_progress: Called when work begins and after each pack, in the driver.

    Returns:
        The result; also when stopped by Ctrl-C (`stopped` is True).

    Raises:
        StudyError, TrainableError, SpaceError, MarketError, LedgerError: Messages for people.
    """
    began = time.monotonic()
    study.check_secrets()
    search = Search(study)
    search.check()
    home = Path(folder) / study.name
    # First what can fail: a study that cannot run changes nothing on disk.
    check_address(address)
    store = Store()
    with offered(store):
        prepared = search.prepare()
    header = header_of(search, prepared)
    if ledger_url and (fresh or not (home / LEDGER).exists()):
        pointer.check(ledger_url, study.name)
    if fresh and home.exists():
        set_aside(home)
    home.mkdir(parents=True, exist_ok=True)
    tally, report = Tally(total=search.sampler.size), on_progress or (lambda _: None)
    with (
        session_of(store) as built,
        outputs.offered(built),
        open_ledger(home / LEDGER, header, ledger_url) as ledger,
        _stoppable() as stop,
    ):
        changed = (*_since_created(ledger.header, header), *_other_rules(ledger, search))
        prepared = replace(prepared, warnings=(*prepared.warnings, *changed))
        ledger.begin_session(collect(Path.cwd()))
        if len(prepared.days):
            series.write_days(home, prepared.days, prepared.day_folds, prepared.benchmarks)
        if forked_from and not ledger.events(FORKED, limit=1):
            ledger.record(FORKED, source=forked_from)
        if retry_failed:
            ledger.reopen_failed(None if retry_failed is True else retry_failed)
        plan = ledger.add_plan(search.space.to_dict(), search.plan_spec, search.sampler.size)
        prune_ended(search.trainable, ledger, home)
        siblings = [] if fresh else siblings_of(home)
        source = _backlog(search, ledger, plan, reuser(ledger, home, plan, siblings, tally), tally, Path(folder))
        if on_prepared:
            on_prepared(prepared, tally)
        tracking = Beside.start(home, study.tracking, isinstance(search.trainable, Stepping))
        objective = header.objective  # the ledger's own may be an earlier one
        inbox = Inbox(home, ledger, source, stop.ask)
        inbox.open()  # what is to be tried next comes before what is suggested next
        backlog = Budgeted(source, search, ledger, plan, tally, objective)
        report = backlog.watching(report)
        known = ledger.top(objective, n=1)[objective].dropna()
        tally.best = float(known.iloc[0]) if len(known) else tally.best
        first = backlog.take(1)
        begun = bool(first)  # whoever asks to stop what has nothing to do has stopped nothing
        evaluator, reason = Evaluator(study, prepared.defaults, len(prepared.days)), "finished"
        if first:
            backlog.put_back(first)
            report(tally)
            # What killed an earlier session is left to workers, which may die.
            if here > 0.0 and not isinstance(search.trainable, Stepping) and len(ledger.sessions()) == 1:
                quick = StudyFeed(backlog, ledger, plan, tally, objective, 1, report, home, len(prepared.days))
                stop.attach(quick)
                try:
                    with offered(store):
                        run_here(quick, evaluator, prepared.inputs, len(header.metrics) + len(prepared.days), here)
                except StudyError:
                    ledger.end_session("failed")
                    raise
                first = [] if quick.exhausted else first
        if first:
            stepping = isinstance(search.trainable, Stepping)
            asked = math.ceil(slots * study.resources.cpu) if slots and stepping else slots
            wanted = isinstance(search.trainable, Warms)
            with ray_session(address, asked) as cpus, _sharing(store, built, tally, wanted) as host:
                scratch = home / "tune"
                name = f"{study.name}-{ledger.header.context_id[:8]}-{os.getpid()}"
                place: Any = {"scratch": scratch.absolute(), "name": name, "host": host}
                try:
                    if isinstance(search.trainable, Stepping):
                        needs, most = share(study.resources.cpu, study.resources.gpu)
                        steps = StepFeed(search, backlog, ledger, plan, tally, objective, home, report, inbox)
                        stop.attach(steps)
                        backlog.attach(steps, needs["gpu"])
                        trial = StepEvaluator(study, prepared.defaults, ledger.header.context_id, len(prepared.days))
                        run_trials(steps, trial, prepared.inputs, slots=slots or most, resources=needs, **place)
                    else:
                        packs = StudyFeed(backlog, ledger, plan, tally, objective, slots or cpus, report, home, len(prepared.days), inbox)
                        stop.attach(packs)
                        backlog.attach(packs)
                        width = len(header.metrics) + len(prepared.days)
                        run_packs(packs, evaluator, prepared.inputs, width, slots=slots or cpus, **place)
                except (StudyError, WorkerError):
                    ledger.end_session("failed")
                    raise
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
        asked, budget = begun and stop.asked, backlog.ended()
        if asked or budget:
            reason = "stopped"
        # Who asked to stop is not kept waiting; of trials that report, all returns are kept as they come.
        if len(prepared.days) and not asked and not isinstance(search.trainable, Stepping):
            with offered(store):
                _keep_best(ledger, plan, home, evaluator, prepared, objective)
        _keep_use(ledger, tally.cache.use + store.use)
        ledger.end_session(reason)
    tracking.rest()
    store.close()
    tally.cache = replace(tally.cache, use=tally.cache.use + store.use)
    return StudyResult(study, home, tally, time.monotonic() - began, asked, prepared, budget, backlog.rule, tracking, built.use())


def _keep_use(ledger: Ledger, use: Use) -> None:
    """Keeps what the session had of its cache, if it asked for tables."""
    if use.tables:
        ledger.record(CACHE_USE, **{name: value for name, value in asdict(use).items() if name != "notes"})


@contextmanager
def _sharing(store: Store, built: DiskOutputs, tally: Tally, wanted: bool) -> Iterator[Host]:
    """Shares outputs of stages with the workers of a session, and derived tables; for trainables that read none, not these.

    Keeps the tally's news of what is being built fresh.
    """
    if not wanted:
        yield partial(outputs.offered, built)
        return
    over = threading.Event()
    with keeping(store, table=Table) as cache:

        def ask() -> None:
            while not over.wait(1.0):
                tally.building = [*cache.building(), *built.building()]

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        try:
            yield partial(outputs.hosted, cache.tables, built)
        finally:
            over.set()
            asking.join()
            tally.building = ()
    tally.cache = cache.usage()


def _keep_best(ledger: Ledger, plan: Plan, home: Path, evaluator: Evaluator, prepared: Prepared, objective: str) -> None:
    """Adds the returns of the best trials, where they are not in the subset that is kept, by evaluating them again."""
    best = ledger.top(objective, n=BEST_KEPT)
    missing = [t for t, key in zip(best["trial"], best["config_id"], strict=True) if not series.is_kept(bytes.fromhex(key), plan.count)]
    if not missing:
        return
    have = set(series.read(ledger, home)[0])
    rows = [row for row in map(ledger.trial, map(int, missing)) if bytes.fromhex(row["config_id"]) not in have]
    if rows:
        values = evaluator.evaluate([row["config"] for row in rows], prepared.inputs)
        attempt = ledger.open_attempt(plan.plan_id, 0, worker="returns of the best")
        series.write(
            ledger, home, attempt, [bytes.fromhex(r["config_id"]) for r in rows], values[:, -len(prepared.days) :].astype(np.float32)
        )
        ledger.accept(attempt, [])


def verify(home: Path) -> Verification:
    """Checks a study's ledger against every point of every search it was asked for; those a search has still to suggest are missing.

    Args:
        home: The study's folder.

    Raises:
        LedgerError: No ledger, or one that cannot be read.
    """
    from sweeps.asked import identities, searches, to_suggest  # which imports this module

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        found = ledger.verify(chunk for plan, study in searches(ledger) for chunk in identities(ledger, plan, study))
        left = to_suggest(home, ledger)
        return replace(found, points=found.points + left, missing=found.missing + left)


def _since_created(old: Header, new: Header) -> Iterator[str]:
    """Says what a study file asks for now and a study was created without, and which of the two holds."""
    if old.objective != new.objective:
        yield (
            f"objective: {old.objective} when the study was created, {new.objective} now; this run ranks by {new.objective}, "
            f"other commands by {old.objective} (leaderboard --sort {new.objective})"
        )
    before, now = (" and ".join(header.spec.get("constraints", ())) or "none" for header in (old, new))
    if before != now:
        yield f"constraints: {before} when the study was created, {now} now; the first are used (leaderboard STUDY_FILE uses the file's)"


def _other_rules(ledger: Ledger, search: Search) -> Iterator[str]:
    """Says what scheduler a study file asks for now, if a study began with another."""
    if not isinstance(search.trainable, Stepping):
        return
    asked, objective = search.rules(), search.objective
    kept, judged = kept_rules(ledger, asked, objective)
    differ = kept.changes(asked)
    differ += [f"metric {judged}, now {objective}"] if judged != objective else []
    if differ:
        name = search.study.name
        yield (
            f"scheduler: the study began with {'; '.join(differ)}; it keeps what it began with. "
            f"For the new one give the search a name of its own (--set name={name}_2), or set the old results aside with --fresh."
        )


def _backlog(search: Search, ledger: Ledger, plan: Plan, reuse: Callable[[list[Point]], set[bytes]], tally: Tally, folder: Path) -> Source:
    if search.learns:
        return LearningBacklog(search, ledger, plan, reuse, tally, folder)
    shares = search.trainable
    any_order = not (search.budget or isinstance(shares, Shares | Stepping))
    backlog = Backlog(search.sampler, search.config, ledger, plan, reuse, tally, any_order)
    if isinstance(shares, Shares):
        return ByPrefix(backlog, lambda config: shares.prefixes({**ledger.header.defaults, **config}))
    return backlog


class _Stop:
    """Ctrl-C and SIGTERM: the first asks the feed to stop after the packs in flight, the second interrupts."""

    def __init__(self) -> None:
        self.asked = False
        self._feed: StudyFeed | StepFeed | None = None

    def attach(self, feed: StudyFeed | StepFeed) -> None:
        self._feed = feed
        feed.stopping = self.asked

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.ask()

    def ask(self) -> None:
        """Asks once."""
        self.asked = True
        if self._feed is not None:
            self._feed.stopping = True


@contextmanager
def _stoppable() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["LEDGER", "Search", "StudyResult", "run", "verify"]
