"""Where a study's results come from, and how to get them again: versions, data, sessions, certificate, commands, its file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from results import Verification
from results.leaderboard import imported
from results.reader import LedgerReader
from results.records import Header
from results.secrets import redacted
from sweeps.asked import Asked, searches
from sweeps.commands.console import command_for
from sweeps.report.part import Missing, tried
from sweeps.study import Study
from sweeps.study_yaml import Loader

VERIFIED: Final = 200_000  # trials up to which results are checked for the report; more take a minute
_DEFAULT_DIR: Final = Path("runs")


@dataclass(frozen=True)
class Session:
    """One session of a study.

    Attributes:
        started: UTC, to the minute.
        ended: UTC; empty if it was killed or is at work.
        reason: How it ended.
        command: As it was typed, secrets taken out.
        host: Where.
        commit: Of the code it ran, with "+" where that was changed; empty where unknown.
        python: Version.
        packages: Versions.
    """

    started: str
    ended: str
    reason: str
    command: str
    host: str
    commit: str
    python: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """Where results come from.

    Attributes:
        context: Trainable, version, data fingerprint, seed, as the ledger has them.
        context_id: Their identity.
        created: UTC.
        windows: The cuts of time, as (name, train from, train to, tune from, tune to); the holdout last, its days as tune.
        protocol: What else belongs to the protocol, but for the defaults.
        defaults: Of parameters that are not given.
        sessions: Oldest first.
        searches: What was asked for, in words.
        verification: Of every result; or why it was not made.
        again: Commands that get the results again; or why there are none.
        own_file: Whether these take the study's file; otherwise the library has it.
        file: The study file, as YAML, all that is not a default.
        forked_from: Study it was forked from; empty if it was not.
    """

    context: Mapping[str, Any]
    context_id: str
    created: str
    windows: tuple[tuple[str, str, str, str, str], ...]
    protocol: Mapping[str, Any]
    defaults: Mapping[str, Any]
    sessions: tuple[Session, ...]
    searches: tuple[str, ...]
    verification: Verification | Missing
    again: tuple[str, ...] | Missing
    own_file: bool
    file: str
    forked_from: str = ""


def origin_of(ledger: LedgerReader, home: Path, folder: Path, trials: int) -> Origin:
    """Gathers where results come from.

    Args:
        ledger: The study.
        home: Its folder.
        folder: As the user names the folder of studies, for commands.
        trials: It has.
    """
    header = ledger.header
    protocol = dict(header.context["protocol"])
    cuts, defaults = protocol.pop("timeline", None), protocol.pop("defaults", {})
    asked = tried(lambda: [Asked(n, plan, study, 0, 0) for n, (plan, study) in enumerate(searches(ledger), 1)])
    again = asked if isinstance(asked, Missing) else tried(lambda: _again(Study.parse(header.spec), asked, folder))
    file = "" if imported(header) else tried(lambda: as_yaml(Study.parse(header.spec)))
    forked = ledger.events("forked_from", limit=1)
    return Origin(
        context={key: header.context[key] for key in ("trainable", "version", "data_fingerprint", "seed")},
        context_id=header.context_id,
        created=header.created,
        windows=tuple(_windows(cuts)),
        protocol=protocol,
        defaults=defaults if isinstance(defaults, Mapping) else {},
        sessions=tuple(_session(row) for row in ledger.sessions()),
        searches=() if isinstance(asked, Missing) else tuple(_words(each) for each in asked),
        verification=_verified(header, home, trials, folder),
        again=again if isinstance(again, Missing) else tuple(redacted(line) for line in again),
        own_file=not isinstance(again, Missing) and f"{header.name}.yaml" in again[0].split(),
        file="" if isinstance(file, Missing) else redacted(file),
        forked_from=str(forked[0]["detail"]["source"]) if forked else "",
    )


def _words(asked: Asked) -> str:
    return f"{asked.words()}, {asked.plan.count:,} points" if asked.plan.count else asked.words()


def _verified(header: Header, home: Path, trials: int, folder: Path) -> Verification | Missing:
    from sweeps.runner import verify

    if imported(header):
        return Missing("imported results were evaluated elsewhere: there is nothing to verify")
    if trials > VERIFIED:
        doing = command_for("verify", header.name, folder)
        return Missing(f"{trials:,} results take a while, so they were not checked for this page; {doing} does")
    return tried(lambda: verify(home))


def as_yaml(study: Study) -> str:
    """Returns a study as a file that gives the same study again; what is a default is left out."""
    plain = json.loads(study.model_dump_json(exclude_defaults=True))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes wherever the study's loader, or anybody else's, would read something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own shape)
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *Loader.yaml_implicit_resolvers.get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _again(study: Study, asked: Sequence[Asked], folder: Path) -> list[str]:
    """Returns commands: of the library where its study is the one that was asked for first, else of the file below."""
    options = asked[0].options(study.name) if asked else None
    source = f"{study.name}.yaml" if options is None else study.name
    lines = [command_for("run", source, folder, *(options or ()))]
    lines += [_run(source, each, study, folder) for each in asked[1:]]
    return [*lines, command_for("verify", study.name, folder)]


def _run(source: str, each: Asked, study: Study, folder: Path) -> str:
    """Returns the command that asks for one of several searches of a study."""
    options: list[str] = []
    for key in ("space", "search", "fixed", "seed", "objective", "constraints"):
        then, now = getattr(each.study, key), getattr(study, key)
        if then != now:
            value = json.loads(then.model_dump_json(exclude_defaults=True)) if hasattr(then, "model_dump_json") else then
            options += ["--set", f"{key}={json.dumps(value)}"]
    return command_for("run", source, folder, *options)


def _session(row: Mapping[str, Any]) -> Session:
    told = row["provenance"]
    git = told.get("git") or {}
    commit = str(git.get("commit") or "")[:12] + ("+" if git.get("dirty") else "")
    return Session(
        str(row["started"])[:19].replace("T", " "),
        str(row["ended"] or "")[:19].replace("T", " "),
        str(row["reason"] or "not ended"),
        redacted(shlex.join(map(str, told.get("command") or []))),
        redacted(str(told.get("host", ""))),
        commit,
        str(told.get("python", "")),
        told.get("packages") or {},
    )


def _windows(cuts: Any) -> list[tuple[str, str, str, str, str]]:
    if not isinstance(cuts, Mapping):
        return []
    made = []
    for k, fold in enumerate(cuts.get("folds") or (), 1):
        made.append((f"fold {k}", *(str(stamp).replace("T", " ")[:16] for stamp in fold)))
    holdout = cuts.get("holdout")
    if holdout:
        made.append(("holdout", "", "", *(str(stamp).replace("T", " ")[:16] for stamp in holdout)))
    return [row for row in made if len(row) == 5]
