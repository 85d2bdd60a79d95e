"""What `--set` changes in a study's mapping, and what its messages say of where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from sweeps.study_yaml import Loader, StudyError
from sweeps.tracking import settings as tracking


def apply(mapping: dict[str, Any], overrides: Iterable[str], places: dict[str, str], known: Collection[str]) -> None:
    """Applies settings to a study's mapping, and notes where its keys come from now.

    Args:
        mapping: Changed in place.
        overrides: `key.path=value` each; a key that stands in one section may be given without it.
        places: Where each dotted key was written; changed in place.
        known: Keys of a study.

    Raises:
        StudyError: One is no setting.
    """
    settings = [_in_full(item, mapping, known) for item in overrides]
    if any(item.strip().startswith("tracking.") for item in settings):
        mapping["tracking"] = tracking.as_mapping(mapping.get("tracking") or ())
    for key in {"data.source", "scheduler.kind"} & {item.partition("=")[0].strip() for item in settings}:
        # Bars, signal or seed of the file's market say nothing about another one, nor its scheduler's grace about another kind.
        mapping[key.partition(".")[0]] = {}
    for item in settings:
        _override(mapping, item, places)


def _in_full(item: str, mapping: Mapping[str, Any], known: Collection[str]) -> str:
    """Returns an override with the section of its key, where it has none, is no key of a study and stands in one section."""
    key = item.partition("=")[0].strip()
    if "=" not in item or "." in key or key in known:
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
        place[last] = yaml.load(value, Loader=Loader)
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
