"""The `alphasweep export` command: what a trial has learnt, or all trials of a study, in the form others can load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.commands.console import DirOpt, NameArg, home_of, say, target

if TYPE_CHECKING:
    from results.reader import LedgerReader

app = typer.Typer()


EXPORT_HELP = (
    "Write what a trial has learnt (--to), or all trials for optuna-dashboard (--optuna).\n\n"
    "--to FOLDER: of a LoRA fine-tune the adapter, as peft loads it, and where it came from; of a policy its weights.\n\n"
    "--optuna FILE.db: the study as a database of Optuna's, for optuna-dashboard sqlite:///FILE.db and optuna.load_study: parameters, "
    "states, objective, what trials reported, and every metric, number and id as attributes. Of a study of more than 20,000 trials the "
    "best 1,000 and others by lot. An earlier export is replaced, any other file is not."
)


@app.command(name="export", help=EXPORT_HELP)
def export_(
    study: NameArg,
    trial: Annotated[
        str | None, typer.Argument(help="Trial number or id; default the leaderboard's first, or promoted last.", show_default=False)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where to; several folds get a folder each in it.", file_okay=False),
    ] = None,
    optuna: Annotated[
        Path | None,
        typer.Option("--optuna", metavar="FILE", help="Write all trials to this SQLite file of Optuna's.", dir_okay=False, callback=target),
    ] = None,
    holdout: Annotated[bool, typer.Option("--holdout", help="What `promote` trained, on all bars before the holdout.")] = False,
    merged: Annotated[bool, typer.Option("--merged", help="Also write merged weights, as large as the base model.")] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Write what a trial has learnt, or all trials for optuna-dashboard."""
    if (to is None) == (optuna is None):
        raise typer.BadParameter("say where to: --to FOLDER for what a trial has learnt, or --optuna FILE for all trials; one of them.")
    if optuna is not None:
        if trial is not None or holdout or merged:
            raise typer.BadParameter("--optuna writes all trials of the search; leave TRIAL, --holdout and --merged out.")
        export_study(home_of(study, dir), optuna)
        return
    assert to is not None
    before = _whose(to)
    name, folders = export_trial(home_of(study, dir), trial, to, merged, holdout)
    for folder in folders:
        instead = before.get(folder, name)
        say(f"{name} written to {folder}{f', in place of {instead}' if instead != name else ''}")


def export_study(home: Path, path: Path) -> int:
    """Writes the trials of a study to a database of Optuna's, and says which these are.

    Args:
        home: The study's folder.
        path: The file; an earlier export is replaced.

    Returns:
        Number of trials written.

    Raises:
        ProjectionError: No trial has ended, or the file is something else.
    """
    from results import Ledger
    from sweeps.plots import optuna_file
    from sweeps.plots.projection import project
    from sweeps.runner import LEDGER

    optuna_file.check(path)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        found = project(ledger, ended=True, reports=True, attributes=True)
    written = optuna_file.write(found, path)
    say(f"{written:,} trials written to {path} ({found.words()})")
    say(f"Look at them: optuna-dashboard sqlite:///{path}")
    return written


def export_trial(home: Path, trial: int | str | None, folder: Path, merged: bool = False, holdout: bool = False) -> tuple[str, list[Path]]:
    """Exports a trial that was completed, or stopped early, then as it was at its last report.

    Args:
        home: The study's folder.
        trial: Which; by default the leaderboard's first, of the holdout the one it was opened for last.
        folder: Where to.
        merged: Also merged weights.
        holdout: What was trained for the holdout, in place of what was trained on the folds.

    Returns:
        Name of the trial as study/trial, of the holdout study/trial/holdout, and the folders written.

    Raises:
        StudyError: Nothing to export, or other data than the trial was trained on. TrainableError: Its checkpoint is damaged.
    """
    from results import Ledger
    from results.identity import trial_seed
    from sweeps.runner import LEDGER
    from sweeps.search import Search
    from sweeps.study import Study, StudyError
    from trainables.contract import check_config
    from trainables.stepping import Exports, StepContext

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        header = ledger.header
        study = Study.parse(header.spec, str(home))
        search = Search(study)
        if not isinstance(search.trainable, Exports):
            raise StudyError(f"{home.name}: {study.trainable} leaves nothing to export; studies of chronos_lora do")
        row, place, curve = _promoted(ledger, home, trial) if holdout else _searched(ledger, home, trial)
    name = f"{home.name}/{row['trial']}{'/holdout' if holdout else ''}"
    if not place.is_dir():
        gone = "removed" if holdout else "removed, or left with the study it was reused from"
        raise StudyError(f"{name}: its checkpoint is not in {place}: {gone}")
    prepared = search.prepare("holdout" if holdout else "search")
    _same_conditions(name, header.context, prepared.fingerprint, prepared.protocol)
    complete = {**prepared.defaults, **header.defaults, **check_config(search.trainable, row["config"])}
    seed = trial_seed(study.seed, bytes.fromhex(row["config_id"]))
    ctx = StepContext(prepared.inputs, place, curve[-1]["step"] if curve else 0, seed)
    return name, search.trainable.export(complete, ctx, folder, merged, name, curve)


def _searched(ledger: LedgerReader, home: Path, trial: int | str | None) -> tuple[dict[str, Any], Path, list[dict[str, Any]]]:
    """Returns a trial of the search that has ended, the folder of its checkpoint, and its reports."""
    from results import LedgerError, reports
    from sweeps.endings import how_far
    from sweeps.pruning import folder_of
    from sweeps.study import StudyError

    if trial is None:
        best = ledger.top(ledger.header.objective, n=1)
        if best.empty:
            raise StudyError(f"{home.name}: no trial is complete yet; name one that was stopped, or wait for one")
        trial = int(best["trial"].iloc[0])
    try:
        row = ledger.trial(trial)
    except LedgerError:
        if (found := how_far(home, trial)) is None:
            raise
        what = "export that one" if found.status == "same" else "it can be exported when it has ended"
        raise StudyError(f"{home.name}/{found.trial}: {found.words}; {what}") from None
    if row["status"] == "failed":
        raise StudyError(f"{home.name}/{row['trial']}: failed ({row['error']}); there is nothing to export")
    key = bytes.fromhex(row["config_id"])
    names = ledger.header.metric_names
    curve = [{"step": each.step, **dict(zip(names, each.metrics, strict=True))} for each in reports.read(ledger, key)]
    return row, folder_of(home, key), curve


def _promoted(ledger: LedgerReader, home: Path, trial: int | str | None) -> tuple[dict[str, Any], Path, list[dict[str, Any]]]:
    """Returns the trial the holdout was opened for, the folder of the checkpoint trained for it, and its last report."""
    from sweeps.promote import REPORT, opening_folder, promoted

    number, opening = promoted(ledger, trial)
    place = opening_folder(home, number, opening)
    said = json.loads((place / REPORT).read_text()) if (place / REPORT).exists() else None
    return ledger.trial(number), place, [{"step": said["step"], **said["metrics"]}] if said else []


def _whose(folder: Path) -> dict[Path, str]:
    """Returns which trials earlier exports to a folder are of."""
    from trainables.chronos2.export import METADATA, read_metadata
    from trainables.exported import ExportError

    found = {}
    for place in (folder, *folder.glob("fold-*")):
        if (place / METADATA).is_file():
            try:
                found[place] = str(read_metadata(place).get("parent_run"))
            except ExportError:
                continue  # damaged: the new one replaces it, whosever it was
    return found


def _same_conditions(name: str, context: Mapping[str, Any], fingerprint: str, protocol: Mapping[str, Any]) -> None:
    """Refuses data, a model or rules that are not those of the study: the checkpoint would not be taken for its own."""
    from sweeps.study import StudyError

    before = {"data": context["data_fingerprint"], **{k: v for k, v in context["protocol"].items() if k != "defaults"}}
    for key, value in {"data": fingerprint, **protocol}.items():
        if before.get(key) != value:
            raise StudyError(f"{name}: {key} changed since it was trained ({before.get(key)} then, {value} now); put back what it was")
