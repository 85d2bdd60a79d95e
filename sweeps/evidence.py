"""Whether to believe a study's winner: the ledger, the kept returns and every other look at the same data, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from results import Ledger, LedgerError
from results.constraints import Constraint
from results.leaderboard import imported, leaderboard
from results.metrics import Metric
from results.reader import LedgerReader
from results.records import Header
from results.validity import (
    Assessment,
    GridPosition,
    RankStability,
    ReferenceTest,
    grid_position,
    has_reference_p,
    rank_stability,
    reference_test,
)
from results.validity.reference import REFERENCE_P
from search_spaces import Space
from sweeps.kept import Kept, by_trial, elsewhere, joined
from sweeps.runner import LEDGER
from sweeps.walk import record as walk_record

OPENED = "holdout_opened"
TOTAL_RETURN = Metric("total_return", "max", "fraction")
MOST_GRID = 20_000  # trials among which the winner's neighbours are looked for


@dataclass(frozen=True)
class Looks:
    """How often the same data were looked at in a folder of studies.

    Attributes:
        trials: Configurations evaluated on them, failed ones and those of studies set aside included; reused results count once.
        studies: Studies they belong to.
        openings: Openings of their holdout.
        own: Of `trials`, those of the study asked about.
    """

    trials: int
    studies: int
    openings: int
    own: int = 0


@dataclass(frozen=True)
class Judgement:
    """What a study shows; None where too little was kept to say.

    Attributes:
        board: The leaderboard; identical behaviour is one row, `alike` says how many trials share it. Columns verdict, dsr, … where
            daily returns are kept (`sweeps.kept.by_trial`).
        looks: At the same data.
        assessment: Of the winner.
        stability: Of ranks between folds.
        position: Of the winner on its grid.
        holdout: What the holdout gave the trials it was opened for, (trial, value of `told`).
        returns: What was judged.
        study: Its assessment; that of the winner if its returns are among them.
        reference: Of the winner, where the study has a p-value against a forecast without a model in place of daily returns.
        skill: What goes with it: the metric `skill` and its value, the objective where there is none.
        told: Metric of `holdout`.
        no_holdout: Why there is none; empty where there is one.
        elsewhere: Why there are no returns to judge though some were kept; empty where that is not so.
    """

    board: pd.DataFrame
    looks: Looks
    assessment: Assessment | None = None
    stability: RankStability | None = None
    position: GridPosition | None = None
    holdout: tuple[tuple[int, float], ...] = ()
    returns: Kept | None = None
    study: Assessment | None = None
    reference: ReferenceTest | None = None
    skill: tuple[Metric, float] | None = None
    told: Metric = TOTAL_RETURN
    no_holdout: str = ""
    elsewhere: str = ""

    @property
    def has_winner(self) -> bool:
        """Whether a trial meets the constraints, if there are any."""
        return not self.board.attrs["constraints"] or self.board.attrs["meeting"] > 0

    @property
    def kept(self) -> int:
        """Trials whose returns were judged."""
        return 0 if self.returns is None else len(self.returns.numbers)

    def by_trial(self) -> pd.DataFrame | None:
        """Returns verdict, dsr, … of every trial whose returns are kept, by trial number; None if there are none."""
        return None if self.returns is None or self.study is None else by_trial(self.returns, self.study)


def judge(home: Path, sort: str | None = None, top: int = 20, constraints: Sequence[Constraint] | None = None) -> Judgement:
    """Judges a study: its best trial of those that meet the constraints.

    Args:
        home: Its folder; its neighbours are asked for their looks at the same data.
        sort: Metric that ranks; default the objective.
        top: Rows of the leaderboard.
        constraints: Bounds on metrics; default the study's own. Where no trial meets them there is no winner to judge.

    Raises:
        LedgerError: No ledger, no such metric, or one without a direction.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        results = ledger.events("holdout_result")
        names = ledger.header.metric_names
        told = TOTAL_RETURN if TOTAL_RETURN.name in names else ledger.header.metric(ledger.header.objective)
        opened = tuple((e["trial"], e["detail"]["metrics"][told.name]) for e in results if told.name in e["detail"]["metrics"])
        sealed: dict[str, Any] = {"holdout": opened, "told": told, "no_holdout": no_holdout(ledger.header)}
        looks = count_looks(home.parent, str(ledger.header.context["data_fingerprint"]), home)
        board = leaderboard(ledger, sort, 4 * top, constraints=constraints)
        if board.attrs["constraints"] and not board.attrs["meeting"]:
            return Judgement(board.head(top), looks, **sealed)
        position = _position(ledger, board)
        kept = Kept.load(ledger, home)
        if not len(board) or kept is None:
            found = _reference(ledger, board, looks) if len(board) else {}
            return Judgement(board.head(top), looks, position=position, elsewhere=elsewhere(ledger, home), **found, **sealed)
        column = kept.columns(board["trial"])
        study = kept.assess(looks.trials, column[0])
        board = joined(board, by_trial(kept, study, board["trial"])).iloc[_different(column, study)].reset_index(drop=True)
        board["rank"] = range(1, len(board) + 1)
    winner = None if column[0] is None else study
    return Judgement(board.head(top), looks, winner, _stability(kept, study), position, returns=kept, study=study, **sealed)


def no_holdout(header: Header) -> str:
    """Returns why a study has no holdout, such as "bowl:Descent does not cut time"; empty where it has one."""
    if imported(header):
        return "these results were imported, not evaluated here"
    cuts = header.context["protocol"].get("timeline")
    if cuts is None:
        return f"{header.context['trainable']} does not cut time"
    return "" if not isinstance(cuts, Mapping) or cuts.get("holdout") else "its protocol leaves none"


def skill_of(header: Header, values: Mapping[str, float | None]) -> tuple[Metric, float]:
    """Returns what a p-value against a forecast without a model is about, and its value."""
    metric = header.metric("skill" if "skill" in header.metric_names else header.objective)
    value = values.get(metric.name)
    return metric, float("nan") if value is None else float(value)


def _reference(ledger: LedgerReader, board: pd.DataFrame, looks: Looks) -> dict[str, Any]:
    if not has_reference_p(ledger.header.metrics):
        return {}
    values = ledger.trial(int(board["trial"].iloc[0]))["metrics"]
    return {"reference": reference_test(values[REFERENCE_P], max(1, looks.trials)), "skill": skill_of(ledger.header, values)}


def judged_leaderboard(home: Path, sort: str | None = None, top: int = 20) -> pd.DataFrame:
    """Returns the leaderboard, one row a trial, with what is known about each (`sweeps.kept.by_trial`)."""
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        board, kept = leaderboard(ledger, sort, top), Kept.load(ledger, home)
        if kept is None or not len(board):
            return board
        looks = count_looks(home.parent, str(ledger.header.context["data_fingerprint"]))
        return joined(board, by_trial(kept, kept.assess(looks.trials), board["trial"]))


def count_looks(folder: Path, fingerprint: str, home: Path | None = None) -> Looks:
    """Counts every look at some data in a folder of studies, windows of walks and what was set aside included; `home` is asked about."""
    trials = studies = openings = own = 0
    root = walk_record.root_of(folder)
    places = ("*", f"*{walk_record.SUFFIX}/*", ".aside/*", ".aside/*/*")  # studies, windows of walks, and both set aside
    for path in (path for place in places for path in root.glob(f"{place}/{LEDGER}")):
        try:
            with Ledger.open(path, readonly=True) as ledger:
                if ledger.header.context["data_fingerprint"] != fingerprint:
                    continue
                table = ledger.tables.trials
                evaluated = ledger.rows(sa.select(sa.func.count().label("n")).select_from(table).where(table.c.source.is_(None)))
                found = evaluated[0]["n"] + len(ledger.events("reopened", limit=None)) + walk_record.looks(ledger)
                trials += found
                own += found if path.parent == home else 0
                openings += len(ledger.events(OPENED, limit=None))
                studies += 1
        except LedgerError:
            continue  # a damaged neighbour cannot be counted, and must not hide the rest
    return Looks(trials, studies, openings, own)


def _different(column: Sequence[int | None], study: Assessment) -> list[int]:
    """Returns the rows to show: of several that behave identically, the first."""
    seen: set[int] = set()
    rows = []
    for i, j in enumerate(column):
        group = None if j is None else int(study.groups[j])
        if group is None or group not in seen:
            rows.append(i)
        if group is not None:
            seen.add(group)
    return rows


def _stability(kept: Kept, study: Assessment) -> RankStability | None:
    """Returns how the folds agree about the trials; None where these cannot be told apart, or there is one fold."""
    folds = np.unique(kept.folds)
    if study.no_choice or len(folds) < 2:
        return None
    found = rank_stability(np.stack([_sharpe(kept.daily[kept.folds == fold]) for fold in folds]))
    return found if np.isfinite(found.kendall_w) else None


def _position(ledger: LedgerReader, board: pd.DataFrame) -> GridPosition | None:
    """Where the winner sits on the grid of the latest search; None if it is no grid, or too large to look."""
    plans = ledger.plans()
    if not plans or not len(board) or ledger.counts()["completed"] > MOST_GRID:
        return None
    space = Space.parse(dict(plans[-1].space))
    axes: Mapping[str, Any] = {p.name: list(p.values) for p in space.parameters if p.values is not None and len(p.values) > 1}
    frame = ledger.frame()
    frame = frame[frame["status"] == "completed"]
    metric = board.attrs["metric"]
    if not space.is_grid or not axes or not set(axes) <= set(frame.columns):
        return None
    on_grid = np.logical_and.reduce([frame[name].isin(values) for name, values in axes.items()])
    frame = frame[on_grid].reset_index(drop=True)
    winner = frame.index[frame["trial"] == board["trial"].iloc[0]]
    if not len(winner):
        return None
    return grid_position(
        {name: frame[name].tolist() for name in axes}, frame[metric], axes, direction=board.attrs["direction"], winner=int(winner[0])
    )


def _sharpe(returns: np.ndarray) -> np.ndarray:
    """Per-period Sharpe ratios of columns; 0 where nothing moves."""
    sd = returns.std(axis=0)
    return np.where(sd > 0.0, returns.mean(axis=0) / np.where(sd > 0.0, sd, 1.0), 0.0)
