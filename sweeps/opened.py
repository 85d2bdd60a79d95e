"""A study that has run, opened to look at: reads its ledger and what lies beside it, never its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from results import Ledger, Verification
from results.leaderboard import leaderboard
from sweeps.study import Study, StudyError

if TYPE_CHECKING:
    from sweeps.endings import Ending
    from sweeps.evidence import Judgement


@dataclass(frozen=True, eq=False)
class OpenStudy:
    """What a study has found so far; a run may be at work on it meanwhile.

    Attributes:
        study: The study.
        folder: Its folder, with the ledger.
    """

    study: Study
    folder: Path

    @property
    def failed(self) -> int:
        """Configurations whose result is a failure, of all sessions."""
        with self._ledger() as ledger:
            return ledger.counts()["failed"]

    def leaderboard(self, top: int = 20, sort: str | None = None, *, judged: bool = True) -> pd.DataFrame:
        """Returns the best trials, best first, one row a trial.

        Args:
            top: How many.
            sort: Metric that ranks; default the objective.
            judged: With columns verdict, dsr, … (`sweeps.kept.by_trial`) where the study keeps daily returns; takes a second or more.
        """
        sort = sort or self.study.ranking
        if judged:
            from sweeps.evidence import judged_leaderboard

            return judged_leaderboard(self.folder, sort, top)
        with self._ledger() as ledger:
            return leaderboard(ledger, sort, top)

    def judge(self, top: int = 20, sort: str | None = None) -> Judgement:
        """Returns the leaderboard with verdicts, identical behaviour in one row, and what the study shows about its winner."""
        from sweeps.evidence import judge

        return judge(self.folder, sort or self.study.ranking, top)

    def frame(self) -> pd.DataFrame:
        """Returns all trials."""
        with self._ledger() as ledger:
            return ledger.frame()

    def why(self, trial: int | str) -> Ending:
        """Says why a trial that reports ended, or how far it is.

        Args:
            trial: Its number, or the first digits of its configuration id.

        Raises:
            StudyError: The study evaluates packs.
            LedgerError: No such trial.
        """
        from sweeps.endings import why

        return why(self.folder, trial)

    def verify(self) -> Verification:
        """Proves that each point has exactly one accepted result."""
        from sweeps.runner import verify

        return verify(self.folder)

    def _ledger(self) -> Ledger:
        from sweeps.runner import LEDGER  # which imports this module

        return Ledger.open(self.folder / LEDGER, readonly=True)


def open_study(name: str, folder: str | Path = "runs") -> OpenStudy:
    """Opens a study that has run, finished or not.

    Args:
        name: Its name, or its file.
        folder: Where studies live.

    Raises:
        StudyError: No such folder, or no study of that name has run in it; names the nearest.
        LedgerError: Its ledger cannot be read.
    """
    from sweeps.commands.console import home_of

    if not Path(folder).is_dir():
        raise StudyError(f"{name}: no study has run in {folder}: there is no such folder")
    home = home_of(str(name), Path(folder))
    from sweeps.runner import LEDGER

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        return OpenStudy(Study.parse(ledger.header.spec, str(home)), home)
