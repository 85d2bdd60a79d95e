"""The campaign file: one YAML page of stages, each a study, and what is carried from one to the next.

campaign: tune_then_select
stages:
  tune:
    study: lora_ranks
    set: {protocol.folds: 1}
  select:
    study: selector_chronos
    carry:
      - {from: tune, what: best, adapter: settings.adapter}     # its weights, exported
      - {from: other, what: top_k, k: 3, try: [min_edge]}       # the values of the best three are swept
      - {from: other, what: best, fix: [risk_weight]}           # that of the best is fixed
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeps.study import LIBRARY as STUDIES
from sweeps.study_yaml import StudyError, parse_yaml, read_text, shown

LIBRARY: Final = STUDIES / "campaigns"
WHAT: Final = ("best", "top_k", "pareto")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_TAKEN: Final = ("campaign", "walk")
_CAMPAIGN: Final = ("campaign", "description", "stages", "baseline", "set")
_STAGE: Final = ("study", "set", "after", "carry", "lane", "description")
_CARRY: Final = ("from", "what", "k", "fix", "try", "enqueue", "adapter")


@dataclass(frozen=True)
class Carry:
    """What one stage hands to another.

    Attributes:
        source: The stage it comes from.
        what: "best", the leaderboard's first that meets the constraints; "top_k", the first `k`; "pareto", what no other dominates.
        k: Of top_k, and the most of pareto.
        fix: Parameters that get the best's value, as {theirs: ours}.
        sweep: Parameters whose values among the winners are swept.
        enqueue: Whether the winners themselves are tried first.
        adapter: Key that is set to the folder into which the best's weights are exported; empty for none.
    """

    source: str
    what: str = "best"
    k: int = 1
    fix: Mapping[str, str] | None = None
    sweep: Mapping[str, str] | None = None
    enqueue: bool = False
    adapter: str = ""


@dataclass(frozen=True)
class Stage:
    """A study of a campaign.

    Attributes:
        name: In the campaign.
        study: A study file, or a name in the library.
        overrides: As `--set` takes them.
        after: Stages that must have finished, besides those something is carried from.
        carry: What it is given.
        lane: Of the host file; empty for any.
        description: For people.
    """

    name: str
    study: str
    overrides: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    carry: tuple[Carry, ...] = ()
    lane: str = ""
    description: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages that must have finished before this one starts."""
        return tuple(dict.fromkeys([*self.after, *(carry.source for carry in self.carry)]))


@dataclass(frozen=True)
class Campaign:
    """Stages in an order in which each comes after those it needs.

    Attributes:
        name: What it is called.
        stages: By name.
        baseline: The stage that others are compared with; empty for none.
        description: For people.
        where: Its file.
    """

    name: str
    stages: Mapping[str, Stage]
    baseline: str = ""
    description: str = ""
    where: str = ""

    def study_name(self, stage: str) -> str:
        """Returns what the study of a stage is called, in the same folder as all others."""
        return f"{self.name}.{stage}"

    def depth(self, stage: str) -> int:
        """Returns how many stages must run one after the other before this one."""
        return max((1 + self.depth(need) for need in self.stages[stage].needs), default=0)


def library() -> dict[str, Path]:
    """Returns the campaigns of the library, by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*.yaml"))}


def load(source: str | Path) -> Campaign:
    """Reads a campaign file, or a campaign of the library by name.

    Raises:
        StudyError: What is wrong with it, and where.
    """
    path = Path(source)
    if not path.is_file():
        known = library()
        if str(source) not in known:
            near = difflib.get_close_matches(str(source), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise StudyError(f"{source}: no such file, and no campaign of that name in the library ({', '.join(known)}).{hint}")
        path = known[str(source)]
    mapping, lines = parse_yaml(read_text(path), str(path))
    return _Reader(str(path), lines).campaign(mapping)


@dataclass(frozen=True)
class _Reader:
    path: str
    lines: Mapping[str, int]

    def fail(self, key: str, message: str) -> StudyError:
        place = key
        while place and place not in self.lines:
            place = place.rpartition(".")[0]
        where = f"{self.path}, line {self.lines[place]}" if place else self.path
        return StudyError(f"{where}: {key}: {message}" if key else f"{where}: {message}")

    def campaign(self, given: Mapping[str, Any]) -> Campaign:
        self.known("", given, _CAMPAIGN)
        name = given.get("campaign")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.fail("campaign", f"name the campaign with letters, digits, _ and - (it is {shown(name)})")
        if not isinstance(given.get("stages"), Mapping) or not given["stages"]:
            raise self.fail("stages", "list the stages, each a name and a study")
        common = self.overrides("set", given.get("set"))
        stages = {str(key): self.stage(str(key), value, common) for key, value in given["stages"].items()}
        for stage in stages.values():
            for need in stage.needs:
                if need not in stages:
                    raise self.fail(f"stages.{stage.name}", f"needs {need!r}, which is no stage; there are {', '.join(stages)}")
        baseline = given.get("baseline") or ""
        if baseline and baseline not in stages:
            raise self.fail("baseline", f"{shown(baseline)} is no stage; there are {', '.join(stages)}")
        return Campaign(name, self.ordered(stages), str(baseline), str(given.get("description") or ""), self.path)

    def ordered(self, stages: Mapping[str, Stage]) -> dict[str, Stage]:
        from graphlib import CycleError, TopologicalSorter

        try:
            order = list(TopologicalSorter({name: stage.needs for name, stage in stages.items()}).static_order())
        except CycleError as error:
            raise self.fail("stages", f"they need each other in a circle: {' → '.join(error.args[1])}") from None
        return {name: stages[name] for name in order}

    def stage(self, name: str, given: Any, common: Sequence[str]) -> Stage:
        key = f"stages.{name}"
        if not _NAME.fullmatch(name):
            raise self.fail(key, "a stage is called by letters, digits, _ and - (at most 40)")
        if name in _TAKEN:
            raise self.fail(key, f"a stage is not called {name}: folders that end in .{name} hold something else; give it another name")
        if not isinstance(given, Mapping):
            raise self.fail(key, f"give at least its study, such as study: selector_grid (it is {shown(given)})")
        self.known(key, given, _STAGE)
        if not isinstance(given.get("study"), str):
            raise self.fail(key, "give its study: a file, or a name from alphasweep ls")
        study = given["study"]
        beside = Path(self.path).parent / study
        if study.endswith((".yaml", ".yml")) and not Path(study).is_file() and beside.is_file():
            study = str(beside)
        carries = given.get("carry") or []
        if not isinstance(carries, list):
            raise self.fail(f"{key}.carry", "give a list, each with from and what")
        after = given.get("after") or []
        after = [after] if isinstance(after, str) else after
        if not isinstance(after, list) or not all(isinstance(item, str) for item in after):
            raise self.fail(f"{key}.after", "name a stage, or a list of them")
        return Stage(
            name,
            study,
            (*common, *self.overrides(f"{key}.set", given.get("set"))),
            tuple(after),
            tuple(self.carry(f"{key}.carry", item) for item in carries),
            str(given.get("lane") or ""),
            str(given.get("description") or ""),
        )

    def carry(self, key: str, given: Any) -> Carry:
        if not isinstance(given, Mapping):
            raise self.fail(key, f"give a mapping such as {{from: STAGE, what: best, fix: [NAME]}} (it is {shown(given)})")
        self.known(key, given, _CARRY)
        if not isinstance(given.get("from"), str):
            raise self.fail(key, "say from which stage: from: STAGE")
        what = given.get("what", "best")
        if what not in WHAT:
            raise self.fail(key, f"what: {shown(what)} is none of {', '.join(WHAT)}")
        k = given.get("k", 1 if what == "best" else 3 if what == "top_k" else 20)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= 1000 or (what == "best" and k != 1):
            raise self.fail(key, "k: how many, from 1 to 1000; best is one")
        fix, sweep = self.names(f"{key}.fix", given.get("fix")), self.names(f"{key}.try", given.get("try"))
        adapter, enqueue = given.get("adapter") or "", given.get("enqueue") is True
        if not isinstance(adapter, str):
            raise self.fail(key, "adapter: name the key that takes the folder, such as settings.adapter")
        if not (fix or sweep or adapter or enqueue):
            raise self.fail(key, "carries nothing: give fix, try, enqueue or adapter")
        return Carry(given["from"], what, k, fix, sweep, enqueue, adapter)

    def names(self, key: str, given: Any) -> Mapping[str, str] | None:
        """Reads [a, b], or {theirs: ours} where the parameter is called otherwise in the next stage."""
        if given is None:
            return None
        if isinstance(given, list) and all(isinstance(item, str) for item in given):
            return {item: item for item in given}
        if isinstance(given, Mapping) and all(isinstance(item, str) for item in given.values()):
            return {str(theirs): ours for theirs, ours in given.items()}
        raise self.fail(key, f"give a list of parameters, or a mapping of their names to ours (it is {shown(given)})")

    def overrides(self, key: str, given: Any) -> tuple[str, ...]:
        """Reads {data.bars: 720} as --set data.bars=720."""
        import json

        if given is None:
            return ()
        if not isinstance(given, Mapping):
            raise self.fail(key, f"give a mapping of keys to values, such as {{data.bars: 720}} (it is {shown(given)})")
        return tuple(f"{name}={json.dumps(value)}" for name, value in given.items())

    def known(self, key: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for name in given:
            if name not in allowed:
                near = difflib.get_close_matches(str(name), allowed, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise self.fail(f"{key}.{name}".strip("."), f"not a key here; {hint}known: {', '.join(allowed)}")
