"""A study file as text: safe YAML without its surprises, and where in it each key stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml


class StudyError(ValueError):
    """A study file or setting is not usable; the message names file, line, key, what is allowed and the nearest spelling."""


class StudyFaultsError(StudyError):
    """Several mistakes of a study at once, a line each, every one with its place."""


def read_text(path: Path) -> str:
    """Returns a file's text.

    Raises:
        StudyError: It cannot be read, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise StudyError(f"{path}, line {line}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8 text") from None


_TAG = "tag:yaml.org,2002:"


class Loader(yaml.SafeLoader):
    """Safe YAML without its surprises: keys are text and given once, 1e-4 is a number, 12:30, 010 and dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own shape)
        first: [(tag, pattern) for tag, pattern in pairs if tag not in {f"{_TAG}int", f"{_TAG}float", f"{_TAG}timestamp"}]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
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
            raise StudyError(f"line {line}: the key {shown(key)} is not text; {hint}")
        if key in seen:
            raise StudyError(f"line {line}: {key!r} is given twice (first on line {seen[key]}); keep one")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _checked_mapping)


def parse_yaml(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the mapping and the line of each dotted key."""
    try:
        mapping = yaml.load(text, Loader=Loader)
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


def shown(value: Any) -> str:
    """Returns a value for a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
