"""The key `tracking` of a study: which trackers are told of it, and with which options."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sweeps.study_yaml import StudyError, shown

Options = Mapping[str, Mapping[str, Any]]
# Where each tracker is; imported when one is made, and never by a run.
KNOWN: Final[Mapping[str, str]] = {
    "wandb": "results.tracking.wandb_run:WandbTracker",
    "mlflow": "results.tracking.mlflow:MlflowTracker",
    "tensorboard": "results.tracking.tensorboard:TensorboardTracker",
    "jsonl": "results.tracking.jsonl:JsonLines",
}
# What has to be installed for it: the module, and what brings it.
NEEDS: Final[Mapping[str, tuple[str, str]]] = {
    "wandb": ("wandb", "'alphasweep[wandb]'"),
    "mlflow": ("mlflow", "'alphasweep[mlflow]'"),
    "tensorboard": ("tensorboardX", "tensorboardX"),
}
# What it may be told, beside which trials get runs of their own; each tracker refuses the rest itself, but only once it runs.
OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "wandb": ("project", "entity", "mode"),
    "mlflow": ("uri", "experiment", "artifacts"),
    "tensorboard": (),
    "jsonl": ("file",),
}
FOLDER: Final = "tracking"  # in a study's folder
_FILE: Final = "settings.json"
_WITH_PASSWORD: Final = re.compile(r"://[^/@\s:]*:[^/@\s]+@")
_SECRET: Final = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)


def as_mapping(given: Any) -> dict[str, Any]:
    """Returns trackers with their options from a list or a mapping.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        return {name: {} for name in given}
    if isinstance(given, Mapping):
        return {name: {} if options is None else options for name, options in given.items()}
    raise ValueError("give a list of trackers, for example [wandb], or a mapping of trackers to their options")


def check(trackers: Mapping[str, Any], place: Callable[[str], str] = lambda key: "") -> None:
    """Refuses what is no tracker, what is no mapping of options, and what looks like a secret.

    Args:
        trackers: With their options.
        place: Returns where a key was written.

    Raises:
        StudyError: Which key, and what to do; never a value, which may be a secret.
    """
    found = []
    for key, words in _wrong(trackers):
        where = place(key).partition("=")[0]  # of a --set without what it was set to
        found.append(f"{where}{': ' if where else ''}{key}: {words}")
    if found:
        raise StudyError("\n".join(found))


def _wrong(trackers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields keys, with what is wrong with them."""
    for name, options in trackers.items():
        key = f"tracking.{name}"
        if ":" not in name and name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield "tracking", f"{name!r} is not a tracker; there are {', '.join(KNOWN)}, or your own as package.module:Class.{hint}"
            continue
        if not isinstance(options, Mapping):
            yield key, "give a mapping of options, for example `tracking: {wandb: {project: sweeps}}`"
            continue
        for option in filter(_SECRET.search, _keys(options)):
            yield (
                f"{key}.{option}",
                "secrets do not belong in a study, which is kept and shown; leave it out, and set it in the environment of whoever runs it",
            )
        yield from _unknown(name, options)
        for option in (option for option, value in options.items() if isinstance(value, str) and _WITH_PASSWORD.search(value)):
            yield f"{key}.{option}", "leave the password out of the address, which is kept and shown; the environment is where it belongs"
        trials = options.get("trials", "auto")
        if isinstance(trials, bool) or not (trials in ("auto", "none") or (isinstance(trials, int) and trials >= 0)):
            yield f"{key}.trials", "give auto, none, or how many of the best trials get a run of their own"


def _unknown(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields options that a tracker of ours does not have, and modes that W&B has not."""
    if name not in OPTIONS:
        return
    known = (*OPTIONS[name], "trials")
    for option in options:
        if option not in known and not _SECRET.search(str(option)):
            near = difflib.get_close_matches(str(option), known, 1)
            yield (
                f"tracking.{name}.{option}",
                f"not an option of {name}; there are {', '.join(known)}{f'. Did you mean {near[0]!r}?' if near else ''}",
            )
    if name == "wandb" and options.get("mode", "offline") not in ("offline", "online"):
        yield "tracking.wandb.mode", f"give offline or online (it is {shown(options['mode'])})"


def _keys(options: Mapping[str, Any]) -> list[str]:
    found = []
    for key, value in options.items():
        found += [str(key), *(_keys(value) if isinstance(value, Mapping) else ())]
    return found


def not_installed(name: str) -> str:
    """Returns what to install for a tracker, in words; empty if nothing is missing. Imports nothing."""
    from importlib.util import find_spec

    module, source = NEEDS.get(name, ("", ""))
    return f"{module} is not installed: pip install {source}" if module and find_spec(module) is None else ""


@dataclass(frozen=True)
class Wanted:
    """What a study's tracking was last asked to be.

    Attributes:
        trackers: With their options.
        stepping: Whether its trials report as they go.
    """

    trackers: Options = field(default_factory=dict)
    stepping: bool = False

    def write(self, home: Path) -> None:
        """Keeps it in the study's folder."""
        place = home / FOLDER / _FILE
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"trackers": self.trackers, "stepping": self.stepping}, indent=2) + "\n")
        os.replace(draft, place)

    @classmethod
    def read(cls, home: Path) -> Wanted | None:
        """Returns what was kept, None if nothing was."""
        try:
            return cls(**json.loads((home / FOLDER / _FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None
