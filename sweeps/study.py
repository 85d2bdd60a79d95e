"""The study file: one YAML page that says what is swept, on what, and what counts as better."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

LIBRARY = Path(__file__).parent / "library"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class StudyError(ValueError):
    """A study file or setting is not usable; the message names file, line, key, what is allowed and the nearest spelling."""


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
        sampler: grid, random or qmc.
        trials: How many; needed for continuous axes, a reproducible sample of a grid otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sampler: str = "grid"
    trials: WholeNumber | None = Field(default=None, ge=1)


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
        resources: Of one trial of a trainable that reports.
        objective: Metric that ranks; the trainable's own by default.
        constraints: Bounds a winner must meet, each `METRIC OP NUMBER`; they choose among results and change none.
        seed: Seed of everything random.
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
    resources: Resources = Resources()
    objective: str | None = None
    constraints: list[str] = Field(default_factory=list)
    seed: WholeNumber = 0
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, given: Any) -> Any:
        # A section with everything in it commented out is null to YAML.
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, Mapping) else given

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("use letters, digits, _ . - (at most 80), starting with a letter or digit")
        return value

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = (), ran: Iterable[str] = ()) -> Study:
        """Reads a study file, or a study of the library by name.

        Args:
            source: Path of a YAML file, or a name listed by `alphasweep ls`.
            overrides: `key.path=value` settings (`_in_full`); values are YAML. `data.source` and `scheduler.kind` replace their section.
            ran: Names of studies that have run, for messages.

        Raises:
            StudyError: What is wrong, where, and what would be right.
        """
        path = find(source, ran)
        mapping, lines = _parse(_text(path), str(path))
        places = {key: f"{path}, line {line}" for key, line in lines.items()}
        settings = [_in_full(item, mapping) for item in overrides]
        for key in {"data.source", "scheduler.kind"} & {item.partition("=")[0].strip() for item in settings}:
            # Bars, signal or seed of the file's market say nothing about another one, nor its scheduler's grace about another kind.
            mapping[key.partition(".")[0]] = {}
        for item in settings:
            _override(mapping, item, places)
        if mapping.get("name") is None:
            mapping["name"], places["name"] = path.stem, f"{path} gives no name, so its own is taken"
        return cls.parse(mapping, str(path), places)

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "study", places: Mapping[str, str] | None = None) -> Study:
        """Validates a mapping; `where` and `places` (of dotted keys) are for messages."""
        origin = Origin(where, places or {})
        try:
            study = cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise StudyError("\n".join(_explain(item, origin) for item in error.errors())) from None
        study._origin = origin
        return study

    @contextmanager
    def located(self) -> Iterator[None]:
        """Says in which file and line the key is that an error raised inside complains about.

        Raises:
            StudyError: In place of errors of the study, its space, its trainable or its market.
        """
        try:
            yield
        except ValueError as error:
            if type(error).__module__.partition(".")[0] not in {"search_spaces", "trainables"} and type(error) is not StudyError:
                raise
            hint = self._source_elsewhere() if str(error).startswith("data.source: ") else ""
            raise StudyError(self._origin.locate(f"{error}{hint}")) from error

    def _source_elsewhere(self) -> str:
        """Says so if a source that is not here is beside the study file."""
        source, folder = self.data.get("source"), Path(self._origin.where).parent
        parts = [part.strip() for part in source.split(",")] if isinstance(source, str) else source
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, str) and not Path(part).exists() and (folder / part).exists():
                return f". It exists beside the study file: write {folder / part}, or run from {folder}"
        return ""


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


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}, line {line}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8 text") from None


_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Safe YAML without its surprises: keys are text and given once, 1e-4 is a number, 12:30, 010 and dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own shape)
        first: [(tag, pattern) for tag, pattern in pairs if tag not in {f"{_TAG}int", f"{_TAG}float", f"{_TAG}timestamp"}]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _checked_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == f"{_TAG}merge":
            continue
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, str):
            hint = "put it in quotes (YAML reads on, off, yes, no and numbers as values)"
            raise StudyError(f"line {line}: the key {_shown(key)} is not text; {hint}")
        if key in seen:
            raise StudyError(f"line {line}: {key!r} is given twice (first on line {seen[key]}); keep one")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _checked_mapping)


def _parse(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the mapping and the line of each dotted key."""
    try:
        mapping = yaml.load(text, Loader=_Loader)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except StudyError as error:
        raise StudyError(f"{where}, {error}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{where}{_yaml_problem(error, text)}") from None
    except RecursionError:
        raise StudyError(f"{where}: not a study file: it is nested too deeply") from None
    if not isinstance(mapping, dict):
        found = "has no keys" if mapping is None else f"is {'a list' if isinstance(mapping, list) else 'a single value'}"
        raise StudyError(f"{where}: a study file is a mapping of keys (name, trainable, space, …), this one {found}")
    lines: dict[str, int] = {}
    _note_lines(tree, "", lines)
    return mapping, lines


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    """Returns the place and problem of an error of the YAML parser, on one line."""
    if isinstance(error, yaml.reader.ReaderError):
        return f", line {text.count(chr(10), 0, error.position) + 1}: not valid YAML: character U+{int(error.character):04X} is not allowed"
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or error)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    hint = "; indent with spaces" if "'\\t'" in problem else ""
    return f"{place}: not valid YAML: {problem}{hint}"


def _note_lines(node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            lines[path] = key.start_mark.line + 1
            _note_lines(value, path + ".", lines)


def _in_full(item: str, mapping: Mapping[str, Any]) -> str:
    """Returns an override with the section of its key, where it has none, is no key of a study and stands in one section."""
    key = item.partition("=")[0].strip()
    if "=" not in item or "." in key or key in Study.model_fields:
        return item
    homes = [name for name, section in mapping.items() if isinstance(section, Mapping) and key in section]
    if len(homes) > 1:
        raise StudyError(f"--set {item!r}: {key} stands in {' and in '.join(homes)}; write {homes[0]}.{key}=… or {homes[1]}.{key}=…")
    return f"{homes[0]}.{item.strip()}" if homes else item


def _override(mapping: dict[str, Any], item: str, places: dict[str, str]) -> None:
    """Applies one `key.path=value`, and notes where its keys come from now."""
    key, sign, value = item.partition("=")
    *parents, last = path = key.strip().split(".")
    if not sign or not all(path):
        raise StudyError(f"--set {item!r}: write key=value, for example --set data.bars=720")
    place = mapping
    for part in parents:
        # A copy, because YAML's aliases make several sections one object.
        below = {} if place.get(part) is None else place[part]
        if not isinstance(below, dict):
            raise StudyError(f"--set {item!r}: {part!r} is a value, not a section")
        place[part] = place = dict(below)
    try:
        place[last] = yaml.load(value, Loader=_Loader)
    except StudyError as error:
        raise StudyError(f"--set {item!r}: {str(error).partition(': ')[2]}") from None
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"--set {item!r}: the value is not valid YAML: {problem}") from None
    name = ".".join(path)
    for old in [k for k in places if k.startswith(f"{name}.")]:
        del places[old]
    places[name] = f"--set {item}"
    for i in range(1, len(path)):
        places.setdefault(".".join(path[:i]), places[name])


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
    return f"{place}: {path}: {wanted} (it is {_shown(given)})"


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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
