"""The section `cluster` of the host file, with the place in it of whatever is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cluster.files.spec import ClusterSpec, SpecError, parse
from sweeps.lanes.host import DEFAULT
from sweeps.study_yaml import StudyError, parse_yaml, read_text


def load(path: Path | None) -> ClusterSpec:
    """Reads the description of a cluster.

    Args:
        path: A host file; default `host.yaml`.

    Raises:
        StudyError: There is none, or what is wrong with it and where.
    """
    path = path or Path(DEFAULT)
    if not path.is_file():
        raise StudyError(f"{path}: there is no such host file; docs/cluster.md shows one with a section `cluster:`")
    mapping, lines = parse_yaml(read_text(path), str(path))
    section = mapping.get("cluster")
    if not isinstance(section, Mapping):
        raise StudyError(f"{path}: it has no section `cluster:`; docs/cluster.md shows one")
    try:
        return parse(section)
    except SpecError as error:
        raise StudyError(f"{place(str(path), lines, error.key)}: {error}") from None


def place(path: str, lines: Mapping[str, int], key: str) -> str:
    """Returns the file and the line of a key below `cluster`, or of what it is in."""
    full = f"cluster.{key}".rstrip(".")
    while full not in lines and "." in full:
        full = full.rpartition(".")[0]
    return f"{path}, line {lines[full]}" if full in lines else path
