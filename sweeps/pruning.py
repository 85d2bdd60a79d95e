"""Room on the disk: what only a trial that goes on needs is removed once its result is in the ledger (`trainables.stepping.Prunes`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results import Ledger
from trainables.stepping import Prunes

FAILED = "prune_failed"  # kind of the event that keeps why a folder stayed as large as it was


def folder_of(home: Path, config_id: bytes) -> Path:
    """Returns the folder of a trial's checkpoints."""
    return home / "trials" / config_id.hex()


def prune(trainable: Any, ledger: Ledger, home: Path, trial: int, config_id: bytes) -> str:
    """Prunes the folder of a trial that was completed or stopped, and has its result.

    Args:
        trainable: Of the study; one that leaves nothing to prune does nothing.
        ledger: Where it is recorded if it cannot be done.
        home: The study's folder.
        trial: Its number.
        config_id: Its identity.

    Returns:
        Why it could not be done; empty if it was. The next session tries again.
    """
    place = folder_of(home, config_id)
    if not isinstance(trainable, Prunes) or not place.is_dir():
        return ""
    try:
        trainable.prune(place)
    except Exception as error:  # the trial has its result, whatever a disk or somebody else's code does now
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        ledger.record(FAILED, trial=trial, folder=str(place), error=why)
        return why
    return ""


def prune_ended(trainable: Any, ledger: Ledger, home: Path) -> None:
    """Prunes the folders of all trials that were completed or stopped: a kill may have come between a result and its pruning."""
    if not isinstance(trainable, Prunes) or not (home / "trials").is_dir():
        return
    for batch in ledger.stream(["trial", "config_id", "status"]):
        for trial, config_id, status in zip(batch["trial"], batch["config_id"], batch["status"], strict=True):
            if status != "failed":
                prune(trainable, ledger, home, int(trial), bytes(config_id))
