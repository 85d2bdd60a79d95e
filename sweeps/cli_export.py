"""The `alphasweep export` command: what a trial has learnt, in the form others can load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeps.console import DirOpt, NameArg, home_of, say

app = typer.Typer()


@app.command(name="export")
def export_(
    study: NameArg,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where to; several folds get a folder each in it.", file_okay=False)],
    trial: Annotated[str | None, typer.Argument(help="Trial number or id; default the leaderboard's first.", show_default=False)] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Also write merged weights, as large as the base model.")] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Write what a trial has learnt: of a LoRA fine-tune the adapter, as peft loads it, and where it came from."""
    name, folders = export_trial(home_of(study, dir), trial, to, merged)
    for folder in folders:
        say(f"{name} written to {folder}")


def export_trial(home: Path, trial: int | str | None, folder: Path, merged: bool = False) -> tuple[str, list[Path]]:
    """Exports a trial that was completed, or stopped early, then as it was at its last report.

    Args:
        home: The study's folder.
        trial: Which; the leaderboard's first by default.
        folder: Where to.
        merged: Also merged weights.

    Returns:
        Name of the trial as study/trial, and the folders written.

    Raises:
        StudyError: Nothing to export, or other data than the trial was trained on. TrainableError: Its checkpoint is damaged.
    """
    from results import Ledger, reports
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
        if trial is None:
            best = ledger.top(header.objective, n=1)
            if best.empty:
                raise StudyError(f"{home.name}: no trial is complete yet; name one that was stopped, or wait for one")
            trial = int(best["trial"].iloc[0])
        row = ledger.trial(trial)
        key = bytes.fromhex(row["config_id"])
        said = list(reports.read(ledger, key))
        curve = [{"step": each.step, **dict(zip(header.metric_names, each.metrics, strict=True))} for each in said]
    name = f"{home.name}/{row['trial']}"
    if row["status"] == "failed":
        raise StudyError(f"{name}: failed ({row['error']}); there is nothing to export")
    place = home / "trials" / row["config_id"]
    if not place.is_dir():
        raise StudyError(f"{name}: its checkpoint is not in {place}: removed, or left with the study it was reused from")
    prepared = search.prepare()
    _same_conditions(name, header.context, prepared.fingerprint, prepared.protocol)
    complete = {**prepared.defaults, **header.defaults, **check_config(search.trainable, row["config"])}
    ctx = StepContext(prepared.inputs, place, said[-1].step if said else 0, trial_seed(study.seed, key))
    return name, search.trainable.export(complete, ctx, folder, merged, name, curve)


def _same_conditions(name: str, context: Mapping[str, Any], fingerprint: str, protocol: Mapping[str, Any]) -> None:
    """Refuses data, a model or rules that are not those of the study: the checkpoint would not be taken for its own."""
    from sweeps.study import StudyError

    before = {"data": context["data_fingerprint"], **{k: v for k, v in context["protocol"].items() if k != "defaults"}}
    for key, value in {"data": fingerprint, **protocol}.items():
        if before.get(key) != value:
            raise StudyError(f"{name}: {key} changed since it was trained ({before.get(key)} then, {value} now); put back what it was")
