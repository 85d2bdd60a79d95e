"""The study file: one YAML page that says what is swept, on what, and what counts as better."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

LIBRARY = Path(__file__).parent / "library"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class StudyError(ValueError):
    """A study file or setting is not usable; the message names file, line, key, what is allowed and the nearest spelling."""


class Search(BaseModel):
    """Which configurations are tried.

    Attributes:
        sampler: grid, random or qmc.
        trials: How many; needed for continuous axes, a reproducible sample of a grid otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sampler: str = "grid"
    trials: int | None = Field(default=None, ge=1)


class Study(BaseModel):
    """A validated study.

    Attributes:
        name: Folder and display name.
        description: One or two lines for people.
        trainable: Registered name, or package.module:Class.
        data: What the trainable loads (for the selector: `source`, `symbols`, `bars`, …).
        settings: How it is evaluated; not swept, part of every configuration's identity.
        fixed: Parameters held at one value.
        space: Parameters swept.
        search: Sampler and number of trials.
        objective: Metric that ranks; the trainable's own by default.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str = ""
    trainable: str
    data: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any]
    search: Search = Search()
    objective: str | None = None
    seed: int = 0

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("use letters, digits, _ . - (at most 80), starting with a letter or digit")
        return value

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = ()) -> Study:
        """Reads a study file, or a study of the library by name.

        Args:
            source: Path of a YAML file, or a name listed by `alphasweep ls`.
            overrides: `key.path=value` settings; values are YAML. `data.source` replaces the whole `data` section.

        Raises:
            StudyError: What is wrong, where, and what would be right.
        """
        path = find(source)
        text = path.read_text(encoding="utf-8")
        mapping, lines = _parse(text, str(path))
        settings = list(overrides)
        if any(item.partition("=")[0].strip() == "data.source" for item in settings):
            # Bars, signal or seed of the file's market say nothing about another one.
            mapping["data"] = {}
        for item in settings:
            _override(mapping, item)
        mapping.setdefault("name", path.stem)
        return cls.parse(mapping, str(path), lines)

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "study", lines: Mapping[str, int] | None = None) -> Study:
        """Validates a mapping; `where` and `lines` are for messages."""
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            problems = [_explain(item, where, lines or {}) for item in error.errors()]
            raise StudyError("\n".join(problems)) from None


def find(source: str | Path) -> Path:
    """Returns the file of a study: a path, or a name in the library.

    Raises:
        StudyError: No such file or library study; names the nearest.
    """
    path = Path(source)
    if path.is_file():
        return path
    library = {p.stem: p for p in sorted(LIBRARY.glob("*.yaml"))}
    if str(source) in library:
        return library[str(source)]
    near = difflib.get_close_matches(path.stem, library, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise StudyError(f"{source}: no such file, and no study of that name in the library ({', '.join(library)}).{hint}")


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys and reads 1e-4 as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.[0-9_]*|\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|[-+]\.inf|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _no_duplicates(loader: yaml.Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise StudyError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice (first on line {seen[key]}); keep one")
        seen[key] = key_node.start_mark.line + 1
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)


def _parse(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the mapping and the line of each dotted key."""
    try:
        mapping = yaml.load(text, Loader=_Loader)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except StudyError as error:
        raise StudyError(f"{where}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise StudyError(f"{where}{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(mapping, dict):
        raise StudyError(f"{where}: a study file is a mapping of keys (name, trainable, space, …), this one is {type(mapping).__name__}")
    lines: dict[str, int] = {}
    _note_lines(tree, "", lines)
    return mapping, lines


def _note_lines(node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            lines[path] = key.start_mark.line + 1
            _note_lines(value, path + ".", lines)


def _override(mapping: dict[str, Any], item: str) -> None:
    """Applies one `key.path=value`."""
    key, sign, value = item.partition("=")
    if not sign or not key.strip():
        raise StudyError(f"--set {item!r}: write key=value, for example --set data.bars=720")
    *parents, last = key.strip().split(".")
    place = mapping
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise StudyError(f"--set {item!r}: {part!r} is a value, not a section")
    try:
        place[last] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {item!r}: the value is not valid YAML: {error}") from None


def _explain(item: Any, where: str, lines: Mapping[str, int]) -> str:
    """Turns one pydantic error into a message."""
    path = ".".join(str(p) for p in item["loc"])
    place = f"{where}, line {lines[path]}" if path in lines else where
    if item["type"] == "extra_forbidden":
        section = Search if len(item["loc"]) > 1 else Study
        known = list(section.model_fields)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"{place}: {path} is not a key of a study; {hint}"
    if item["type"] == "missing":
        return f"{place}: {path} is missing"
    return f"{place}: {path}: {item['msg'].removeprefix('Value error, ')} (it is {item['input']!r})"
