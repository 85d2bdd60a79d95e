"""What one stage hands to the next: winners taken from a ledger, written into the study file of the stage that needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from results import Ledger
from results.leaderboard import leaderboard, pareto
from search_spaces import Space
from sweeps.campaign.spec import Campaign, Carry, Stage
from sweeps.home import LEDGER, set_aside
from sweeps.study import Study
from sweeps.study_yaml import StudyError

SUFFIX = ".campaign"  # of the folder that holds what a campaign has written, beside its studies


@dataclass(frozen=True)
class Winner:
    """A trial that is carried.

    Attributes:
        study: Where it is from.
        trial: Its number.
        config_id: Its identity, hexadecimal.
        config: All its parameters.
    """

    study: str
    trial: int
    config_id: str
    config: Mapping[str, Any]


def root_of(campaign: Campaign, folder: Path) -> Path:
    """Returns the folder of what a campaign has written."""
    return folder / f"{campaign.name}{SUFFIX}"


def winners(home: Path, carry: Carry) -> list[Winner]:
    """Returns the trials of a study that are carried, best first.

    Raises:
        StudyError: No trial was completed, or none meets the study's constraints.
    """
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        header = ledger.header
        if carry.what == "pareto":
            objective = Study.parse(header.spec).objective
            several = objective if isinstance(objective, list) else [header.objective]
            if len(several) < 2:
                raise StudyError(
                    f"{home.name}: pareto needs a study of two objectives or more (objective: [a, b]); it has {header.objective}"
                )
            board = pareto(ledger, several, carry.k)
        else:
            board = leaderboard(ledger, None, carry.k)
        if not len(board) or (board.attrs.get("constraints") and not board.attrs.get("meeting", 1)):
            why = "no trial meets its constraints" if len(board) else "no trial was completed"
            raise StudyError(f"{home.name}: {why}, so there is nothing to carry on")
        if board.attrs.get("constraints"):
            board = board.head(board.attrs["meeting"])  # those that do not meet them come last
        made = []
        for number in board["trial"].tolist():
            row = ledger.trial(int(number))
            made.append(Winner(home.name, int(number), row["config_id"], {**header.defaults, **row["config"]}))
    return made


def prepare(campaign: Campaign, stage: Stage, folder: Path, *, renew: bool = False) -> tuple[Path, list[str]]:
    """Writes the study file of a stage, with what is carried to it; the same results always give the same file.

    Args:
        campaign: Whose.
        stage: Which; all it needs has finished.
        folder: Where studies live.
        renew: Set the stage's earlier study aside if what is carried to it has changed since.

    Returns:
        The file, and what was carried, in words.

    Raises:
        StudyError: Nothing to carry, the study does not take it, or it has changed since the stage was run.
    """
    root = root_of(campaign, folder)
    root.mkdir(parents=True, exist_ok=True)
    study = Study.load(stage.study, stage.overrides)
    mapping = study.model_dump(exclude_defaults=True) | {"name": campaign.study_name(stage.name)}
    said, record = [], []
    for carry in stage.carry:
        found = winners(folder / campaign.study_name(carry.source), carry)
        said += _apply(mapping, carry, found, stage, root, folder)
        record.append({"from": carry.source, "what": carry.what, "trials": {w.trial: w.config_id for w in found}})
    text = yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=120)
    path = root / f"{stage.name}.yaml"
    if not path.is_file() or path.read_text() != text:
        _write(campaign, stage, folder, path, text, renew)
    (root / f"{stage.name}.json").write_text(json.dumps({"study": stage.study, "carried": record}, indent=2) + "\n")
    return path, said


def _write(campaign: Campaign, stage: Stage, folder: Path, path: Path, text: str, renew: bool) -> None:
    home = folder / campaign.study_name(stage.name)
    if path.is_file() and home.exists():
        if not renew:
            raise StudyError(
                f"{campaign.name}: what is carried to {stage.name} has changed since it was run (its study file then: {path}). "
                f"--renew sets its results aside and runs it again; leave the campaign as it was to keep them."
            )
        set_aside(home)
    partial = path.with_suffix(".part")
    partial.write_text(text)
    Study.load(partial)  # a study that does not take what is carried is not left behind
    partial.replace(path)


def _apply(mapping: dict[str, Any], carry: Carry, found: Sequence[Winner], stage: Stage, root: Path, folder: Path) -> list[str]:
    """Puts what is carried into a study's mapping; returns it in words."""
    best, said = found[0], []
    whence = f"{best.study}/{best.trial}"
    for theirs, ours in (carry.fix or {}).items():
        value = _value(best, theirs, stage)
        space = mapping.get("space", {})
        if _needed(space, ours):  # a condition of another parameter may name what is in the space only
            space[ours] = {"grid": [value]}
        else:
            space.pop(ours, None)
            mapping.setdefault("fixed", {})[ours] = value
        said.append(f"{ours} = {value} ({whence})")
    for theirs, ours in (carry.sweep or {}).items():
        each = [_value(winner, theirs, stage) for winner in found]
        values = list({json.dumps(value): value for value in each}.values())  # a value may be a list
        mapping.get("fixed", {}).pop(ours, None)
        before = mapping.setdefault("space", {}).get(ours)
        when = {"when": before["when"]} if isinstance(before, Mapping) and "when" in before else {}
        mapping["space"][ours] = {"grid": values, **when} if when else values
        said.append(f"{ours} in {values} (best {len(found)} of {best.study})")
    if carry.enqueue:
        names = set(mapping.get("space", {}))
        points = [{k: v for k, v in winner.config.items() if k in names} for winner in found]
        mapping["search"] = {**mapping.get("search", {}), "enqueue": [*mapping.get("search", {}).get("enqueue", []), *points]}
        said.append(f"{len(points)} of {best.study} tried first")
    if carry.adapter:
        # Another winner has another folder: what the stage was run with stays as it was.
        place = _exported(best, root / f"{stage.name}-{carry.source}-{best.config_id[:12]}", folder)
        *parents, last = carry.adapter.split(".")
        section = mapping
        for part in parents:
            section[part] = section = dict(section.get(part) or {})
        section[last] = str(place.absolute())
        said.append(f"{carry.adapter} = weights of {whence}")
    return said


def _value(winner: Winner, name: str, stage: Stage) -> Any:
    if name not in winner.config:
        raise StudyError(f"stage {stage.name}: {winner.study} has no parameter {name}; it has {', '.join(sorted(winner.config))}")
    return winner.config[name]


def _needed(space: Mapping[str, Any], name: str) -> bool:
    """Returns whether an expression of another parameter of a space refers to this one, which is in it."""
    return name in space and any(name in parameter.parents for parameter in Space.parse(space).parameters if parameter.name != name)


def _exported(winner: Winner, to: Path, folder: Path) -> Path:
    """Exports a winner's weights, unless they are there; of several folds the first, whose training ended before all tune windows."""
    from sweeps.commands.export import export_trial

    mark = to / "winner.txt"
    if not mark.is_file() or mark.read_text() != winner.config_id:
        export_trial(folder / winner.study, winner.trial, to)
        mark.write_text(winner.config_id)
    folds = sorted(to.glob("fold-*"))
    return folds[0] if folds else to
