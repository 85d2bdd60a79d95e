"""The study file: one YAML page that says what is swept, on what, and what counts as better."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from results.secrets import holds_secret, redacted
from sweeps import study_overrides
from sweeps.study_yaml import StudyError, StudyFaultsError, parse_yaml, read_text, shown
from sweeps.tracking import settings as tracking

LIBRARY = Path(__file__).parent / "library"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True)
class Origin:
    """Where the keys of a study were written, for messages. It says nothing about the study, so all are equal.

    Attributes:
        where: The study file.
        places: File and line, or the `--set`, of each dotted key.
    """

    where: str = field(default="study", compare=False)
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    def place(self, key: str) -> str:
        """Returns where a key was written, or the section it would be in."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places.get(key, self.where)

    def locate(self, message: str) -> str:
        """Puts the place in front of a message that begins with a key, as those of the rooms below do."""
        head, colon, rest = message.partition(": ")
        key = re.sub(r"\[\d+\]", "", head)
        section, _, name = key.partition(".")
        if colon and section == "space" and key not in self.places and f"fixed.{name}" in self.places:
            return self.locate(f"fixed.{name}: {rest}")  # a trainable is not told where a parameter was written
        if colon and (place := self.place(key)) != self.where:
            return f"{place}: {message}"
        for section in ("search", "scheduler", "settings", "data", "protocol", "fixed", "space"):
            if colon and (f"{section}.{key}" in self.places or (section == "search" and key in Search.model_fields)):
                return f"{self.place(f'{section}.{key}')}: {section}.{head}: {rest}"
        return f"{self.where}: {message}"


def _not_a_whole_number(value: Any) -> Any:
    # What pydantic would take for one: true is 1, "5" is 5.
    if isinstance(value, (bool, str)):
        raise ValueError("give a whole number")
    return value


WholeNumber = Annotated[int, BeforeValidator(_not_a_whole_number)]


class Search(BaseModel):
    """Which configurations are tried.

    Attributes:
        sampler: grid, random, qmc; or one that learns: auto, tpe, gp, cmaes, nsga2, nsga3.
        trials: How many; needed for continuous axes, a reproducible sample of a grid otherwise.
        batch: Suggestions asked for at once; a sixteenth of the trials by default, from 4 to 256.
        deterministic: Ask for a batch when all results before it are in, so that a run repeats exactly whatever the timing.
        startup: Results before which tpe and gp draw at random; 10 by default.
        enqueue: Points to be tried first.
        warm_start: Studies of the same folder, or folders of studies, whose results are learnt from.
        replicates: Values of a parameter that changes random numbers only; each suggestion is tried with all, and judged by the mean.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sampler: str = "grid"
    trials: WholeNumber | None = Field(default=None, ge=1)
    batch: WholeNumber | None = Field(default=None, ge=1, le=4096)
    deterministic: bool = False
    startup: WholeNumber | None = Field(default=None, ge=1)
    enqueue: list[dict[str, Any]] = Field(default_factory=list)
    warm_start: list[str] = Field(default_factory=list)
    replicates: dict[str, list[Any]] = Field(default_factory=dict)


class Resources(BaseModel):
    """What one trial of a trainable that reports needs; packs take a CPU each.

    Attributes:
        cpu: CPUs.
        gpu: Cards, or a share of one; a whole one by default where the cluster has any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    cpu: float = Field(default=1.0, gt=0.0, le=1024)
    gpu: float | None = Field(default=None, ge=0.0, le=1024)


class Study(BaseModel):
    """A validated study.

    Attributes:
        name: Folder and display name.
        description: One or two lines for people.
        trainable: Registered name, or package.module:Class.
        data: What the trainable loads (for the selector: `source`, `symbols`, `bars`, …).
        settings: How it is evaluated; not swept, part of every configuration's identity.
        protocol: How time is cut into folds and a holdout (`trainables.timeline.Protocol`); derived from the data by default.
        fixed: Parameters held at one value.
        space: Parameters swept.
        search: Sampler and number of trials.
        scheduler: Which trials are stopped early, for trainables that report (`search_spaces.stopping`).
        stop: When the study has had enough (`search_spaces.budget`); part of no configuration's identity.
        resources: Of one trial of a trainable that reports.
        objective: Metric that ranks, the trainable's own by default; or several, of which the first ranks and a search serves all.
        constraints: Bounds a winner must meet, each `METRIC OP NUMBER`; they choose among results and change none.
        seed: Seed of everything random.
        tracking: Trackers that are told of it, with their options (`sweeps.tracking`); part of no configuration's identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str = ""
    trainable: str
    data: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    protocol: dict[str, Any] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any]
    search: Search = Search()
    scheduler: dict[str, Any] = Field(default_factory=dict)
    stop: dict[str, Any] = Field(default_factory=dict)
    resources: Resources = Resources()
    objective: str | list[str] | None = None
    constraints: list[str] = Field(default_factory=list)
    seed: WholeNumber = 0
    tracking: dict[str, Any] = Field(default_factory=dict)
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, given: Any) -> Any:
        # A section with everything in it commented out is null to YAML.
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, Mapping) else given

    @field_validator("objective", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = value if isinstance(value, list) else [value]
        if value is not None and (not several or not all(isinstance(name, str) for name in several) or len({*several}) < len(several)):
            raise ValueError("give a metric's name, or a list of different ones")
        return value

    @field_validator("tracking", mode="before")
    @classmethod
    def _list_or_mapping(cls, value: Any) -> Any:
        return tracking.as_mapping(value)

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("use letters, digits, _ . - (at most 80), starting with a letter or digit")
        if value.endswith(".walk"):
            raise ValueError("a name does not end in .walk: folders of walk-forwards do")
        return value

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = (), ran: Iterable[str] = ()) -> Study:
        """Reads a study file, or a study of the library by name.

        Args:
            source: Path of a YAML file, or a name listed by `alphasweep ls`.
            overrides: `key.path=value` settings; values are YAML. `data.source` and `scheduler.kind` replace their section.
            ran: Names of studies that have run, for messages.

        Raises:
            StudyError: What is wrong, where, and what would be right.
        """
        path = find(source, ran)
        mapping, lines = parse_yaml(read_text(path), str(path))
        places = {key: f"{path}, line {line}" for key, line in lines.items()}
        study_overrides.apply(mapping, overrides, places, cls.model_fields)
        if mapping.get("name") is None:
            mapping["name"], places["name"] = path.stem, f"{path} gives no name, so its own is taken"
        _refuse_secrets(mapping, Origin(str(path), places))
        return cls.parse(mapping, str(path), places)

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "study", places: Mapping[str, str] | None = None) -> Study:
        """Validates a mapping; `where` and `places` (of dotted keys) are for messages."""
        origin = Origin(where, places or {})
        try:
            study = cls.model_validate(dict(mapping))
        except ValidationError as error:
            found = [_explain(item, origin) for item in error.errors()]
            if not any(item["loc"][:1] == ("tracking",) for item in error.errors()):
                found += _of_trackers(mapping.get("tracking"), origin)
            raise StudyError("\n".join(found)) from None
        study._origin = origin
        tracking.check(study.tracking, origin.place)
        return study

    def changed(self, overrides: Iterable[str], where: str) -> Study:
        """Returns this study with settings as `load` takes them; `where` is what it is called in messages.

        Raises:
            StudyError: What is wrong with them.
        """
        mapping, places = self.model_dump(), dict[str, str]()
        study_overrides.apply(mapping, overrides, places, Study.model_fields)
        _refuse_secrets(mapping, Origin(where, places))
        return Study.parse(mapping, where, places)

    def check_secrets(self) -> None:
        """Refuses a study that holds a secret of the environment: what it says is kept in its ledger, and shown.

        Raises:
            StudyError: Which key and which variable; never the value.
        """
        _refuse_secrets(self.model_dump(), self._origin)

    @property
    def ranking(self) -> str | None:
        """The objective that ranks; None is the trainable's own."""
        return self.objective[0] if isinstance(self.objective, list) else self.objective

    @contextmanager
    def located(self) -> Iterator[None]:
        """Says in which file and line the key is that an error raised inside complains about.

        Raises:
            StudyError: In place of errors of the study, its space, its trainable or its market.
        """
        try:
            yield
        except ValueError as error:
            if not is_of_study(error):
                raise
            raise StudyError(self.locate(error)) from error

    def locate(self, error: ValueError) -> str:
        """Returns what an error that `is_of_study` says, with the file and line of the key it complains about."""
        hint = self._source_elsewhere() if str(error).startswith("data.source: ") else ""
        return self._origin.locate(f"{error}{hint}")

    def refuse(self, errors: Sequence[ValueError]) -> None:
        """Raises what is wrong with this study: a single error as it is, several as one that lists them; nothing where there are none.

        Raises:
            StudyFaultsError: Several, each with its place.
        """
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise StudyFaultsError("\n".join(self.locate(error) for error in errors))

    def _source_elsewhere(self) -> str:
        """Says so if a source that is not here is beside the study file."""
        source, folder = self.data.get("source"), Path(self._origin.where).parent
        parts = [part.strip() for part in source.split(",")] if isinstance(source, str) else source
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, str) and not Path(part).exists() and (folder / part).exists():
                return f". It exists beside the study file: write {folder / part}, or run from {folder}"
        return ""


def is_of_study(error: ValueError) -> bool:
    """Returns whether an error is one of a study's, its space's, its trainable's or its market's that does not yet say where."""
    return type(error).__module__.partition(".")[0] in {"search_spaces", "trainables"} or type(error) is StudyError


def find(source: str | Path, ran: Iterable[str] = ()) -> Path:
    """Returns the file of a study: a path, or a name in the library; `ran` are other names it may have been taken for.

    Raises:
        StudyError: No such file or library study; names the nearest.
    """
    path = Path(source)
    if path.is_file():
        return path
    library = {p.stem: p for p in sorted(LIBRARY.glob("*.yaml"))}
    if str(source) in library:
        return library[str(source)]
    folder = path if path.is_dir() else path.parent
    beside = {str(p): p for p in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if p.is_file()}
    if path.is_dir():
        shown = f"; in it are {', '.join(list(beside)[:10])}" if beside else ""
        raise StudyError(f"{source}: a folder, not a study file{shown}")
    files = {name: next((p for p in beside if Path(p).stem == name), name if name in library else None) for name in ran}
    near = difflib.get_close_matches(str(path), [*files, *beside, *library], 1)
    meant = files.get(near[0], near[0]) if near else None
    hint = f" Did you mean {meant!r}?" if meant else f" {near[0]!r} has run; name its study file to run it again." if near else ""
    raise StudyError(f"{source}: no such file, and no study of that name in the library ({', '.join(library)}).{hint}")


def _of_trackers(given: Any, origin: Origin) -> list[str]:
    """Says what is wrong with trackers, of a study in which other things are."""
    try:
        tracking.check(tracking.as_mapping(given or ()), origin.place)
    except ValueError as error:
        return str(error).splitlines()
    return []


def _refuse_secrets(mapping: Mapping[str, Any], origin: Origin, above: str = "") -> None:
    """Raises a StudyError for the innermost key that holds a secret, see `Study.check_secrets`."""
    if holds_secret(mapping) is None:
        return
    for key, value in mapping.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            _refuse_secrets(value, origin, path)
        if (name := holds_secret({key: value})) is not None:
            # What its place says of a `--set` would quote the value.
            raise StudyError(
                f"{redacted(origin.place(path))}: {redacted(path)} holds the value of the environment variable {name}, which looks like a "
                f"secret. A study is kept in its ledger and shown in reports: take the value out, and read {name} where it is needed"
            )


_SECTIONS: dict[str, type[BaseModel]] = {"search": Search, "resources": Resources}
_NEEDED = {
    "name": "give the study a name",
    "trainable": "name what is swept, for example `trainable: selector`, or your own as package.module:Class",
    "space": "list the parameters to sweep, for example `space: {min_edge: [0.0, 0.001]}`",
}


def _explain(item: Any, origin: Origin) -> str:
    """Turns one pydantic error into a message."""
    path, given, kind = ".".join(str(p) for p in item["loc"]), item["input"], item["type"]
    place = origin.place(path)
    if kind == "extra_forbidden":
        return f"{place}: {path} is not a key of a study; {_known(path, origin)}"
    if kind == "missing":
        return f"{place}: {path} is missing; {_NEEDED.get(path, 'add it')}"
    if kind == "string_type":
        wanted = f"give text, in quotes: '{given}'" if isinstance(given, (int, float)) else "give text"
    elif kind == "list_type":
        wanted = "give a list, for example ['trades >= 30']"
    elif kind.startswith("int_"):
        wanted = "give a whole number"
    elif kind == "greater_than_equal":
        wanted = f"give a whole number of at least {item['ctx']['ge']}"
    elif kind in ("dict_type", "model_type"):
        wanted = f"give a mapping of {', '.join(_SECTIONS[path].model_fields) if path in _SECTIONS else 'keys to values'}"
    else:
        wanted = item["msg"].removeprefix("Value error, ")
    return f"{place}: {path}: {wanted} (it is {shown(given)})"


def _known(path: str, origin: Origin) -> str:
    """Says what an unknown key may have been meant to be, and what is allowed in its place."""
    section, _, name = path.rpartition(".")
    known = list(_SECTIONS.get(section, Study).model_fields)
    near = difflib.get_close_matches(name, known, 1)
    elsewhere = [f"search.{key}" for key in Search.model_fields] + sorted(k for k in origin.places if k.count(".") == 1)
    if not near:
        near = [key for key in (list(Study.model_fields) if section else elsewhere) if key.rpartition(".")[2] == name]
    hint = f"did you mean {near[0]!r}{' at the top level' if section and near[0] not in known else ''}? " if near else ""
    return f"{hint}known: {', '.join(known)}"
