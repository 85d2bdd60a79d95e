"""The `alphasweep register` command: a trial as a version in MLflow's model registry, in a stage it has earned."""

from __future__ import annotations

import getpass
import json
import math
import socket
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sweeps.commands.console import DirOpt, NameArg, home_of, say

if TYPE_CHECKING:
    from results.reader import LedgerReader
    from results.records import Header
    from results.tracking.registry import Standing

app = typer.Typer()
EVENT: Final = "registered"

REGISTER_HELP = (
    "Register a trial in MLflow's model registry, in a stage that it has earned; exit 2 if it has not.\n\n"
    "candidate: completed. staging: its verdict survives, and it meets the study's constraints. production: also its holdout was opened "
    "(alphasweep promote) and confirms it. archived takes it out of its stage.\n\n"
    "The version has the trial's configuration, and what it has learnt where it can be exported: of a promoted trial what was trained "
    "for the holdout. The registry is that of the study's tracking.mlflow, by default in the study's folder."
)


@app.command(name="register", help=REGISTER_HELP)
def register_(
    study: NameArg,
    trial: Annotated[
        str | None, typer.Argument(help="Trial number or id; default promoted last, or the leaderboard's first.", show_default=False)
    ] = None,
    stage: Annotated[str, typer.Option(metavar="STAGE", help="candidate, staging, production or archived.")] = "candidate",
    files: Annotated[
        Path | None, typer.Option("--files", metavar="FOLDER", help="Keep this export in place of a new one.", file_okay=False, exists=True)
    ] = None,
    uri: Annotated[
        str | None, typer.Option("--uri", metavar="URI", help="Of another registry: http(s)://…, sqlite:////…, or env.", show_default=False)
    ] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Register a trial in MLflow's model registry."""
    from results import Ledger
    from results.tracking.registry import ARCHIVED, STAGES, register, version_of
    from sweeps.history import refuse_at
    from sweeps.runner import LEDGER
    from sweeps.tracking.registry import about
    from sweeps.tracking.settings import Wanted

    if stage not in (*STAGES, ARCHIVED):
        raise typer.BadParameter(f"--stage {stage}: there are {', '.join((*STAGES, ARCHIVED))}.")
    home = home_of(study, dir)
    wanted = Wanted.read(home)
    settings = {**((wanted.trackers if wanted else {}).get("mlflow") or {}), **({"uri": uri} if uri else {})}
    refuse_at(home, "nothing that could earn a stage")
    with Ledger.open(home / LEDGER) as ledger:  # for writing: what is registered is on record, and nobody is at work meanwhile
        found = standing(home, ledger, trial)
        told = about(home, ledger)
        what = _what(home, ledger.header, found, files)
        with tempfile.TemporaryDirectory() as folder:
            source = files
            if _earned(found, stage) and source is None and what != "config" and version_of(told, settings, found.trial, what) is None:
                from sweeps.commands.export import export_trial

                source = Path(folder) / "model"
                export_trial(home, found.trial, source, holdout=what != "search")
            made = register(told, settings, found, stage, what=what, files=source)
        ledger.record(EVENT, trial=found.trial, stage=stage, version=made.version, by=f"{getpass.getuser()}@{socket.gethostname()}")
    if stage == ARCHIVED:
        say(f"{home.name}/{found.trial} is in no stage of {made.model} any more.")
        return
    instead = f", in place of version {made.replaced}" if made.replaced else ""
    say(f"{home.name}/{found.trial} is version {made.version} of {made.model}, in {made.stage}{instead}.")
    say(f"  verdict      {found.verdict}")
    if found.holdout is not None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in list(found.holdout.items())[:4])
        say(f"  holdout      opening {found.opening}: {values}")
    say(f"  files        {made.uri} ({what}) at {made.where}")


def standing(home: Path, ledger: LedgerReader, trial: int | str | None = None) -> Standing:
    """Returns what is known about a trial: how it ended, its verdict among all looks, and what the holdout said.

    Args:
        home: The study's folder.
        ledger: Its ledger.
        trial: Which; by default the one the holdout was opened for last, else the leaderboard's first.

    Raises:
        StudyError: No trial was completed. LedgerError: No such trial.
    """
    from results.constraints import constraints_of
    from results.leaderboard import profile
    from results.tracking.registry import Standing
    from sweeps.evidence import judge
    from sweeps.study import StudyError

    header = ledger.header
    opened = _opened(ledger, trial)
    if trial is None and opened is None:
        best = ledger.top(header.objective, n=1, constraints=constraints_of(header))
        if best.empty:
            raise StudyError(f"{home.name}: no trial has been completed; there is nothing to register")
        trial = int(best["trial"].iloc[0])
    row = ledger.trial(opened[0] if trial is None and opened else trial)  # type: ignore[arg-type]
    judged = judge(home, top=1, constraints=())
    known, number = judged.by_trial(), int(row["trial"])
    survives, words, dsr = _reference(header, row["metrics"], max(1, judged.looks.trials))
    words = f"n/a: {judged.elsewhere}" if judged.elsewhere and words.startswith("n/a") else words
    if known is not None and number in known.index:
        words, dsr = str(known.at[number, "verdict_words"]), float(known.at[number, "dsr"])  # type: ignore[arg-type]
        survives = known.at[number, "verdict"] in ("survives", "survives, but")
    unmet = tuple(str(limit) for limit in constraints_of(header) if not limit.compare(_number(row["metrics"].get(limit.metric))))
    held, opening, fails = _holdout(header, ledger, opened, judged.no_holdout)
    return Standing(
        trial=number,
        config_id=row["config_id"],
        config={**header.defaults, **row["config"]},
        status=row["status"],
        legacy=profile(header) == "legacy",
        survives=survives,
        verdict=words,
        dsr=dsr,
        unmet=unmet,
        holdout=held,
        opening=opening,
        fails=fails,
    )


def _opened(ledger: LedgerReader, trial: int | str | None) -> tuple[int, int] | None:
    """Returns the trial and the number of the latest opening that came to its end; None if there is none."""
    from sweeps.promote import promoted
    from sweeps.study import StudyError

    try:
        return promoted(ledger, trial)
    except StudyError:
        return None


def _holdout(header: Header, ledger: LedgerReader, opened: tuple[int, int] | None, none: str) -> tuple[dict[str, float] | None, int, str]:
    """Returns what a trial did on the holdout, which opening that was, and why it is not confirmed (empty where it is)."""
    from results.validity import has_reference_p, reference_test
    from results.validity.reference import REFERENCE_P
    from sweeps.promote import RESULT

    if opened is None:
        return None, 0, f"the study has no holdout: {none}" if none else ""
    number, opening = opened
    held = {str(k): float(v) for e in ledger.events(RESULT, limit=None) if e["trial"] == number for k, v in e["detail"]["metrics"].items()}
    gain = held.get("total_return")
    if gain is not None and gain <= 0.0:
        return held, opening, f"the holdout lost {-gain:.2%}"
    if has_reference_p(header.metrics) and not (test := reference_test(held.get(REFERENCE_P), opening)).better:
        return held, opening, f"on the holdout: {test}"
    return held, opening, ""


def _reference(header: Header, metrics: dict[str, Any], looks: int) -> tuple[bool, str, float | None]:
    """Returns whether a trial without daily returns survives, and its verdict in words; there is no deflated Sharpe ratio of it."""
    from results.validity import has_reference_p, reference_test
    from results.validity.reference import REFERENCE_P
    from sweeps.commands.results import reference_words
    from sweeps.evidence import skill_of

    if not has_reference_p(header.metrics):
        return False, "n/a: no daily returns were kept of it", None
    test = reference_test(metrics.get(REFERENCE_P), looks)
    return test.better, reference_words(test, *skill_of(header, metrics)), None


def _what(home: Path, header: Header, found: Standing, files: Path | None) -> str:
    """Returns which files of a trial are to be a version: a folder's, by its content; else what can be exported; else its configuration."""
    from sweeps.search import Search
    from sweeps.study import Study
    from trainables.stepping import Exports

    if files is not None:
        _check_files(files, f"{home.name}/{found.trial}")
        digest = blake2b(digest_size=4)
        for path in sorted(path for path in files.rglob("*") if path.is_file()):
            digest.update(str(path.relative_to(files)).encode() + b"\0" + path.read_bytes())
        return f"files-{digest.hexdigest()}"
    if not isinstance(Search(Study.parse(header.spec, str(home))).trainable, Exports):
        return "config"
    return f"holdout-{found.opening}" if found.opening else "search"


def _check_files(folder: Path, name: str) -> None:
    """Refuses an export that says that it is of another trial."""
    from sweeps.study import StudyError

    for path in [*folder.glob("*.json"), *folder.glob("*/*.json")]:
        if path.name in {"run_metadata.json", "policy.json"}:
            about = json.loads(path.read_text())
            whose = str(about.get("parent_run") or about.get("name") or name)
            if whose != name and not whose.startswith(f"{name}/"):
                raise StudyError(f"--files {folder}: {path.name} says that this is an export of {whose}, not of {name}")


def _earned(found: Standing, stage: str) -> bool:
    """Returns whether a stage may be given, so that nothing is exported for one that may not."""
    from results.tracking.registry import STAGES, refusals

    return stage in STAGES and not refusals(found, stage)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
