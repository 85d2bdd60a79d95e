"""The host file: one YAML page that names the lanes of a machine and says which study runs in which.

lanes:
  card0: {cards: 0, cores: 0-3}
  half:  {cards: 1, share: 0.5, cores: 4-5}
  grid:  {cores: 6-15}
studies:
  lora_ranks: card0
  selector_grid: grid
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.lanes import Lane, allowed_cores, ranges, visible_cards
from sweeps.study_yaml import StudyError, parse_yaml, read_text, shown

if TYPE_CHECKING:
    from sweeps.study import Study

DEFAULT: Final = "host.yaml"  # read from where the command is run, if it is there
_KEYS: Final = ("lanes", "studies", "logical_cards", "cluster")
_LANE: Final = ("cores", "cards", "share")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_RANGES: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_MOST: Final = 100_000  # cores, so that 0-999999999 is a message and not a full memory


@dataclass(frozen=True)
class Host:
    """A machine as its host file describes it.

    Attributes:
        lanes: By name, in the order of the file.
        studies: Study to the name of its lane.
        where: The file, for messages; empty where there is none.
        absent: Lane to what it names that this machine does not have, or keeps from this process, in words.
    """

    lanes: Mapping[str, Lane] = field(default_factory=dict)
    studies: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)

    def lane(self, name: str) -> Lane:
        """Returns a lane to run in.

        Raises:
            StudyError: There is none of that name, or it has cores or cards that are not there.
        """
        if name in self.absent:
            raise StudyError(self.absent[name])
        if name not in self.lanes:
            there = f"{self.where} has {', '.join(self.lanes)}" if self.lanes else f"there is no {DEFAULT} that names lanes"
            raise StudyError(f"lane {name}: {there}")
        return self.lanes[name]


def load(path: Path | None) -> Host:
    """Reads a host file, `host.yaml` if there is one and no other is given.

    A lane whose cores or cards are not there is no mistake until somebody is to run in it: one file may serve several machines.

    Raises:
        StudyError: What is wrong with it, and where.
    """
    if path is None:
        path = Path(DEFAULT)
        if not path.is_file():
            return Host()
    mapping, lines = parse_yaml(read_text(path), str(path))
    where = _Where(str(path), lines)
    where.known("", mapping, _KEYS)
    lanes = where.mapping("lanes", mapping)
    cards = _count("logical_cards", mapping.get("logical_cards"), where)
    made = {str(name): _lane(str(name), given, where) for name, given in lanes.items()}
    _apart(list(made.values()), where)
    studies = where.mapping("studies", mapping)
    for study, lane in studies.items():
        if not isinstance(lane, str) or lane not in made:
            raise StudyError(f"{where.of(f'studies.{study}')}: {shown(lane)} is no lane; there are {', '.join(made) or 'none'}")
    absent = {name: words for name, lane in made.items() if (words := _absent(lane, cards, where))}
    return Host(made, {str(study): str(lane) for study, lane in studies.items()}, str(path), absent)


def deal(studies: Sequence[tuple[str, bool]], host: Host) -> list[Lane]:
    """Says which lane each study runs in: the host file's, or an even share of what it leaves.

    Args:
        studies: Name, and whether a card would be of use to it.
        host: From `load`.

    Returns:
        One lane each. Studies for which the file names none get the cores that no lane has, dealt out evenly, and the cards that no
        lane has, for those that can use one. Where there are fewer cores than studies, each core is a lane in which they take turns.
    """
    free = [c for c in allowed_cores() if c not in {core for lane in host.lanes.values() for core in lane.cores}] or list(allowed_cores())
    taken = {card for lane in host.lanes.values() for card in lane.cards}
    cards = [c for c in visible_cards() if c not in taken]
    others = [name for name, _ in studies if name not in host.studies]
    wanting = [name for name, wants in studies if wants and name in others]
    dealt = {name: tuple(cards[i :: len(wanting)]) for i, name in enumerate(wanting)}
    made = {}
    for i, name in enumerate(others):
        if len(others) > len(free):  # several to a core: one after the other, since a lane is for one at a time
            core = free[i % len(free)]
            made[name] = Lane(f"core{core}", (core,), dealt.get(name, ()))
        else:
            made[name] = Lane(name, tuple(free[i * len(free) // len(others) : (i + 1) * len(free) // len(others)]), dealt.get(name, ()))
    return [host.lane(host.studies[name]) if name in host.studies else made[name] for name, _ in studies]


def wants_card(study: Study) -> bool:
    """Returns whether a study can use a card: it asks for one, or says nothing and its trials report as they go."""
    from sweeps.search import Search
    from trainables.stepping import Stepping

    if study.resources.gpu is not None:
        return study.resources.gpu > 0
    with study.located():
        return isinstance(Search(study).trainable, Stepping)


@dataclass(frozen=True)
class _Where:
    path: str
    lines: Mapping[str, int]

    def of(self, key: str) -> str:
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}, line {self.lines[key]}" if key else self.path

    def known(self, key: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for name in given:
            if name not in allowed:
                raise StudyError(f"{self.of(f'{key}.{name}'.strip('.'))}: {name} is not a key here; known: {', '.join(allowed)}")

    def mapping(self, key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        value = given.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise StudyError(f"{self.of(key)}: {key}: give a mapping of names (it is {shown(value)})")
        return value or {}


def _lane(name: str, given: Any, where: _Where) -> Lane:
    key = f"lanes.{name}"
    if not _NAME.fullmatch(name):
        raise StudyError(f"{where.of(key)}: {shown(name)}: a lane is called by letters, digits, _ . - (at most 40)")
    if not isinstance(given, Mapping):
        raise StudyError(f"{where.of(key)}: {key}: give cores, and cards if it has any (it is {shown(given)})")
    where.known(key, given, _LANE)
    cores = _numbers(f"{key}.cores", given.get("cores"), where)
    if not cores:
        raise StudyError(f"{where.of(key)}: {key}: give its cores, such as cores: 0-3")
    cards = _numbers(f"{key}.cards", given.get("cards"), where)
    share = given.get("share", 1.0)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 < share <= 1.0:
        raise StudyError(f"{where.of(f'{key}.share')}: {key}.share: give a part of a card, above 0 and at most 1 (it is {shown(share)})")
    if share < 1.0 and not cards:
        raise StudyError(f"{where.of(f'{key}.share')}: {key}.share: a share of no card; give cards as well")
    return Lane(name, cores, cards, float(share))


def _absent(lane: Lane, logical: int, where: _Where) -> str:
    """Says which cores or cards of a lane are not there; empty where all are."""
    key = f"lanes.{lane.name}"
    if missing := set(lane.cores) - set(allowed_cores()):
        return f"{where.of(f'{key}.cores')}: {key}: this process may use cores {ranges(allowed_cores())}, not {ranges(sorted(missing))}"
    there = (visible_cards() if lane.cards else ()) or tuple(range(logical))
    if missing := set(lane.cards) - set(there):
        made = "the machine has none; logical_cards: 2 at the top of the file makes two to try lanes with"
        has = f"this process may use {ranges(there)}" if there else made
        return f"{where.of(f'{key}.cards')}: {key}: there is no card {ranges(sorted(missing))}; {has}"
    return ""


def _numbers(key: str, given: Any, where: _Where) -> tuple[int, ...]:
    """Reads 3, 0-3, "0-3,8" or [0, 1]."""
    if given is None:
        return ()
    text = ",".join(map(str, given)) if isinstance(given, list) else str(given)
    if isinstance(given, bool) or not _RANGES.fullmatch(text):
        raise StudyError(f"{where.of(key)}: {key}: give numbers such as 0-3 or [0, 2] (it is {shown(given)})")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        a, b = int(first), int(last or first)
        if b < a or b - a > _MOST:
            raise StudyError(f"{where.of(key)}: {key}: {part} is no range of numbers")
        found.update(range(a, b + 1))
    return tuple(sorted(found))


def _count(key: str, given: Any, where: _Where) -> int:
    if given is None:
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 1024:
        raise StudyError(f"{where.of(key)}: {key}: give a whole number (it is {shown(given)})")
    return given


def _apart(lanes: Sequence[Lane], where: _Where) -> None:
    """Refuses lanes that would be in each other's way."""
    owner: dict[int, str] = {}
    used: dict[int, Fraction] = {}
    for lane in lanes:
        for core in lane.cores:
            if core in owner:
                raise StudyError(
                    f"{where.of(f'lanes.{lane.name}')}: core {core} is in lane {owner[core]} and in lane {lane.name}; give it to one"
                )
            owner[core] = lane.name
        for card in lane.cards:
            used[card] = used.get(card, Fraction(0)) + Fraction(str(lane.share))
            if used[card] > 1:
                raise StudyError(
                    f"{where.of(f'lanes.{lane.name}')}: card {card} is given out {float(used[card]):.0%}; let shares add up to 1 or less"
                )
