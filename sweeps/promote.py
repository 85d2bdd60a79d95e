"""Opening the sealed holdout: once, for one configuration, and on the record."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.cache import Store
from cluster.cache.outputs import session_of
from results import Ledger
from results.constraints import constraints_of
from results.leaderboard import LEGACY_LABEL, profile
from results.metrics import DAYS_PER_YEAR, Metric
from results.reader import LedgerReader
from results.secrets import redacted
from results.validity import Assessment, ReferenceTest, assess, has_reference_p, reference_test
from results.validity.reference import REFERENCE_P
from sweeps.evaluator import Evaluator
from sweeps.evidence import OPENED, count_looks, no_holdout, skill_of
from sweeps.runner import LEDGER
from sweeps.search import Search
from sweeps.steps import StepEvaluator
from sweeps.study import Study, StudyError
from trainables.contract import Prepared
from trainables.outputs import hosted
from trainables.stepping import Stepping
from trainables.tables import Tables

RESULT = "holdout_result"
REPORT = "report.json"


@dataclass(frozen=True)
class Promotion:
    """What the holdout says about one configuration.

    Attributes:
        trial: Number of the configuration.
        metrics: What the study measures.
        search: Its metrics in the search, by name.
        holdout: Its metrics on the holdout, by name.
        assessment: Of the holdout's daily returns; every opening so far counts against it.
        opening: 1 for the first opening of these data's holdout, 2 for the second, …
        window: First and last day of the holdout; empty where the trainable does not say.
        reference: Where there is a p-value against a forecast without a model in place of daily returns; every opening counts.
        skill: What that is about, and its value on the holdout.
        note: What the last report of the training said.
    """

    trial: int
    metrics: tuple[Metric, ...]
    search: dict[str, Any]
    holdout: dict[str, float]
    assessment: Assessment | None
    opening: int
    window: tuple[str, str]
    reference: ReferenceTest | None = None
    skill: tuple[Metric, float] | None = None
    note: str = ""


def promote(
    home: Path,
    trial: int | str | None = None,
    *,
    again: bool = False,
    on_report: Callable[[int, int], None] | None = None,
    tables: Tables | None = None,
) -> Promotion:
    """Opens a study's holdout for one configuration.

    A trainable that reports is trained anew, up to the holdout, in a folder of its own under the study's `holdout`. An opening that was
    cut short before there was a result is no other one: the same call goes on with it.

    Args:
        home: The study's folder.
        trial: Which; the leaderboard's first by default.
        again: Open a holdout that has been opened before; this too is recorded, and counts against every later p-value.
        on_report: Called with the step reached and the last one, where the trainable reports.
        tables: Who keeps derived tables; the user's store by default.

    Raises:
        StudyError: No holdout, one that was opened before, a legacy study, other data than the search's, or a trial that was not
            completed.
    """
    store = Store()
    with Ledger.open(home / LEDGER) as ledger, session_of(store) as built, hosted(tables or store, built):
        header = ledger.header
        if profile(header) == "legacy":
            raise StudyError(f"{home.name}: {LEGACY_LABEL}; legacy results contain look-ahead and cannot be promoted")
        if why := no_holdout(header):
            raise StudyError(f"{home.name}: no holdout: {why}, so there is nothing to open")
        fingerprint = str(header.context["data_fingerprint"])
        before = ledger.events(OPENED)
        looks = count_looks(home.parent, fingerprint)
        pending = _pending(ledger, trial)
        if looks.openings and not again and pending is None:
            last = (
                f"trial {before[-1]['trial']} by {before[-1]['detail']['by']} at {before[-1]['time'][:16]}" if before else "another study"
            )
            raise StudyError(
                f"{home.name}: the holdout of these data has been opened ({looks.openings}×, last for {last}). What was learnt is no "
                "secret any more. --again opens it once more; that is recorded, and counts against every later p-value."
            )
        if trial is None and constraints_of(header) and not ledger.count_meeting(constraints_of(header)):
            raise StudyError(f"{home.name}: no trial meets the study's constraints, so there is no winner to promote; name a trial")
        if pending is None and trial is None and not ledger.counts()["completed"]:
            raise StudyError(f"{home.name}: no trial has been completed; there is nothing to promote")
        chosen = trial if trial is not None else None if pending is None else pending["trial"]
        row = ledger.trial(int(ledger.top(header.objective, n=1)["trial"].iloc[0]) if chosen is None else chosen)
        if row["status"] != "completed":
            ended = "failed" if row["status"] == "failed" else "was stopped early, before its last step"
            raise StudyError(f"trial {row['trial']} {ended}; there is nothing to promote")
        search = Search(Study.parse(header.spec))
        prepared = search.prepare("holdout")
        if prepared.fingerprint != fingerprint:
            raise StudyError(
                f"{home.name}: the data are not those of the search (fingerprint {prepared.fingerprint}, then {fingerprint}). "
                "If the files are unchanged, the trainable's fingerprint depends on the part; it must name all the data."
            )
        # On the record before anybody sees a number, whatever happens next.
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        opening = looks.openings + 1 if pending is None else int(pending["detail"]["opening"])
        if pending is None:
            ledger.record(OPENED, trial=row["trial"], by=by, config_id=row["config_id"], opening=opening)
        names, note = [m.name for m in header.metrics], ""
        if isinstance(search.trainable, Stepping):
            place = opening_folder(home, row["trial"], opening)
            evaluator = StepEvaluator(search.study, prepared.defaults, header.context_id, len(prepared.days))
            final = search.trainable.last_step({**prepared.defaults, **row["config"]})
            said = _train(evaluator, row, prepared, place, final, on_report or (lambda step, last: None))
            held, note = {name: said["metrics"].get(name, float("nan")) for name in names}, said["note"]
            returns = np.array(said.get("returns", []), float)
        else:
            values = Evaluator(search.study, prepared.defaults, len(prepared.days)).evaluate([row["config"]], prepared.inputs)[0]
            held, returns = dict(zip(names, values[: len(names)].tolist(), strict=True)), values[len(names) :]
        ledger.record(RESULT, trial=row["trial"], metrics={k: v for k, v in held.items() if np.isfinite(v)})
        found = None
        if len(returns):
            trades = held.get("trades", float("nan"))
            found = assess(
                returns[:, None],
                periods_per_year=DAYS_PER_YEAR,
                trades=trades,
                looks=opening,
                openings=opening,
                benchmarks={k: v for k, v in prepared.benchmarks.items() if k != "flat"},
            )
        reference = reference_test(held[REFERENCE_P], opening) if found is None and has_reference_p(header.metrics) else None
        skill = None if reference is None else skill_of(header, held)
        return Promotion(row["trial"], header.metrics, row["metrics"], held, found, opening, _window(prepared), reference, skill, note)


def opening_folder(home: Path, trial: int, opening: int) -> Path:
    """Returns where a trial that reports was trained anew for an opening; its last report is in `REPORT`."""
    return home / "holdout" / f"trial-{trial}-opening-{opening}"


def promoted(ledger: LedgerReader, trial: int | str | None = None) -> tuple[int, int]:
    """Returns the trial and the number of the latest opening that came to its end, of one trial or of all.

    Raises:
        StudyError: There is none.
        LedgerError: No such trial.
    """
    wanted = None if trial is None else ledger.trial(trial)["trial"]
    opened, ended = None, None
    for event in ledger.events(limit=None):
        if event["kind"] == OPENED:
            opened = event
        elif event["kind"] == RESULT and opened is not None and wanted in (None, event["trial"]):
            ended = (int(event["trial"]), int(opened["detail"]["opening"]))
    if ended is None:
        if opened is not None and wanted in (None, opened["trial"]):
            raise StudyError(f"{ledger.header.name}: the training for the holdout was cut short; alphasweep promote goes on with it")
        which = "any trial" if wanted is None else f"trial {wanted}"
        raise StudyError(f"{ledger.header.name}: the holdout has not been opened for {which}; alphasweep promote trains up to it, once")
    return ended


def _pending(ledger: LedgerReader, trial: int | str | None) -> dict[str, Any] | None:
    """Returns the study's last opening if it was cut short before its result, and is for this trial; None otherwise."""
    events = [event for event in ledger.events(limit=None) if event["kind"] in (OPENED, RESULT)]
    if not events or events[-1]["kind"] == RESULT:
        return None
    same = trial is None or ledger.trial(trial)["trial"] == events[-1]["trial"]
    return events[-1] if same else None


def _window(prepared: Prepared) -> tuple[str, str]:
    """Returns the first and last day of the holdout."""
    if len(prepared.days):
        return str(prepared.days[0]), str(prepared.days[-1])
    if prepared.timeline is None or prepared.timeline.holdout.stop <= prepared.timeline.holdout.start:
        return "", ""
    held = prepared.timeline.times[prepared.timeline.holdout.start : prepared.timeline.holdout.stop].astype("datetime64[D]")
    return str(held[0]), str(held[-1])


def _train(
    evaluator: StepEvaluator, row: Mapping[str, Any], prepared: Prepared, folder: Path, last: int, told: Callable[[int, int], None]
) -> dict[str, Any]:
    """Runs a configuration on the holdout to its end, going on from what is in its folder; returns what the last report said.

    The last report is kept beside the checkpoints, so that a kill after it loses nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / REPORT
    said: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"step": 0, "metrics": {}, "note": ""}
    told(said["step"], last)
    try:
        for report in evaluator.evaluate(row["config"], folder, said["step"], _device(), prepared.inputs):
            said = {"step": report.step, "metrics": {k: float(v) for k, v in report.metrics.items()}, "note": redacted(str(report.note))}
            said["returns"] = [] if report.returns is None else np.asarray(report.returns, float).tolist()
            draft = folder / "report.new"
            draft.write_text(json.dumps(said))
            os.replace(draft, place)
            told(report.step, last)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StudyError(
            f"trial {row['trial']} failed on the holdout after step {said['step']:,}: {what}. "
            "The opening is on record; when the cause is put right the same command goes on from there, without --again"
        ) from error
    if not said["metrics"]:
        raise StudyError(f"trial {row['trial']} ended on the holdout without a report")
    return said


def _device() -> str:
    """Returns "cuda" where torch is installed and sees a card, else "cpu"."""
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
