"""Running a study at the command line: what is shown before, while and after it runs, for all commands that run one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from sweeps.commands import cache as cli_cache
from sweeps.commands import results as cli_results
from sweeps.commands import steps as cli_steps
from sweeps.commands import track as cli_track
from sweeps.commands.console import command_for, err, many, out, say

if TYPE_CHECKING:
    from sweeps.study import Study


def run_loaded(
    loaded: Study,
    dir: Path,
    again: Callable[[], str],
    *,
    top: int = 10,
    fresh: bool = False,
    retry_failed: bool | Collection[int] = False,
    slots: int | None = None,
    cluster: str | None = None,
    forked_from: str = "",
    ledger_url: str = "",
    retry: str = "--retry-failed",
) -> None:
    """Runs a study and shows what came out.

    Args:
        loaded: What to run.
        dir: Where studies live.
        again: Returns the command that goes on with it, asked where it was stopped.
        top: Rows of the leaderboard at the end.
        fresh: Set earlier results aside and start over.
        retry_failed: Evaluate again what failed: all of it, or the trials of these numbers.
        slots: Packs, or trials that report, at once.
        cluster: A Ray cluster; default a private local one.
        forked_from: The study this one is a fork of.
        ledger_url: PostgreSQL database that holds the ledger.
        retry: What tries failed trials again.

    Raises:
        typer.Exit: 130 where it was stopped, 1 where nothing was completed.
    """
    from results import Ledger
    from results.leaderboard import render
    from sweeps.budget_words import in_words, way_on
    from sweeps.lanes.driver import Channel, channel
    from sweeps.progress import StudyProgress
    from sweeps.runner import LEDGER, Search
    from sweeps.runner import run as run_study

    with loaded.located():
        search = Search(loaded)
        objective = search.objective
    metric = next((metric for metric in search.trainable.metrics if metric.name == objective), None)
    told, unit = channel(), metric.unit if metric else ""
    progress = StudyProgress(out, objective, unit) if told is None else Channel(told, objective, unit)

    def prepared(made: Any, tally: Any) -> None:
        progress.prepared()
        show_prepared(loaded, made)
        say(f"  {'space':<12} {tally.total:,} configurations ({search.method_words})")
        if search.budget and metric:
            say(f"  {'stop':<12} {in_words(search.budget, metric)}")
        for line in cli_track.where_lines(Path(dir) / loaded.name, loaded.tracking):
            say(line)

    try:
        with progress, loaded.located():
            result = run_study(
                loaded,
                dir,
                fresh=fresh,
                retry_failed=retry_failed,
                slots=slots,
                address=cluster,
                on_prepared=prepared,
                on_progress=progress.update,
                forked_from=forked_from,
                ledger_url=ledger_url,
            )
    except KeyboardInterrupt:
        say(f"Interrupted. Results accepted so far are safe; the same command goes on: {again()}", console=err)
        raise typer.Exit(130) from None
    say(outcome(result))
    if reused := result.tally.reused:
        whose = ", ".join(f"{n:,} from {name}" for name, n in sorted(reused.items()))
        say(f"  {'taken over':<12} {many(reused.total(), 'result')}: {whose}")
    elif forked_from:
        say(f"  {'taken over':<12} no result of {forked_from}")
    for words in (*cli_cache.output_lines(result.outputs, result.tally.done), *cli_cache.usage_lines(result.tally.cache)):
        say(words)
    with Ledger.open(result.folder / LEDGER, readonly=True) as ledger:
        counts, failed_first = ledger.counts(), failures(ledger, 1)
    if failed := counts["failed"]:
        which = f"{'All ' if 1 < failed == counts['trials'] else ''}{many(failed, 'configuration')} failed"
        say(Text.assemble((which, "red"), f"; {command_for('status', loaded.name, dir)} shows why, {retry} tries them again."))
        say(failed_first[0])
    if counts["completed"]:
        out.print(render(result.leaderboard(top, objective, judged=False), width=out.width))
        if early := cli_steps.stopped_line(loaded.name, dir, counts):
            say(early)
        say(cli_results.IN_SAMPLE)
        say(f"Whether to believe it: {command_for('leaderboard', loaded.name, dir)}")
    elif counts["stopped"]:
        say(f"No trial was completed: {cli_steps.ended_words(counts)}; {cli_steps.why_command(loaded.name, dir)} says why.")
    for line in cli_track.end_lines(result.tracking, result.seconds, dir):
        say(line)
    if result.budget:
        say(Text.assemble(("Stopped: ", "bold"), f"{result.budget}. With another number it goes on: "))
        key = way_on(loaded.stop, result.rule)
        # The number that is used up is given anew, wherever it was given before.
        before = re.sub(rf" --(?:set '?{re.escape(key)}=[^\s']*'?|{re.escape(result.rule)} \S+)", "", again())
        say(Text(f"  {before} --set {key}=…", "bold"))
    if result.stopped:
        say(Text.assemble("Stopped. Nothing is lost; the same command goes on: ", (again(), "bold")))
        raise typer.Exit(130)
    if not counts["completed"]:
        raise typer.Exit(1)


def show_prepared(study: Any, made: Any) -> None:
    """Says what a study is about and what was loaded."""
    say(Text.assemble((study.name, "bold"), f"  {study.description}"))
    for name, value in made.summary:
        say(Text.assemble(f"  {name:<12} ", (str(value), "bold red" if value == "legacy" else "")))
    for line in made.warnings:
        say(Text(f"  {line}", "yellow"))


def outcome(result: Any) -> str:
    """Returns what a session did, in a line."""
    tally = result.tally
    if not tally.done and not tally.steps and result.budget:
        return f"Nothing was run, as the study's budget is used up; {many(tally.known, 'point has', 'points have')} a result."
    if not tally.done and not tally.steps:
        return f"Nothing to do: {'all ' if tally.known > 1 else ''}{many(tally.known, 'point has', 'points have')} a result."
    before = f" ({tally.known:,} had a result already)" if tally.known else ""
    work = f"{result.seconds:.1f} s, workers busy for {tally.busy:.1f} s in all"  # longer than it took, where several are
    if tally.running is not None:
        ended = cli_steps.ended_words(
            {"completed": tally.done - tally.stopped - tally.failed, "stopped": tally.stopped, "failed": tally.failed}
        )
        return f"{many(tally.done, 'trial')}: {ended}; {many(tally.steps, 'step')} in {work}{before}."
    return f"{many(tally.done, 'configuration')} ({many(tally.packs, 'pack')}) in {work}{before}."


def failures(ledger: Any, n: int) -> list[Text]:
    """Returns the first failed trials, a line each, and how many more there are."""
    first = ledger.failures(n)
    lines = [Text.assemble(f"  trial {row['trial']}: ", (" ".join(str(row["error"]).split()), "red")) for row in first]
    left = ledger.counts()["failed"] - len(first)
    return [*lines, Text(f"  … and {left:,} more (leaderboard --csv lists all)")] if left else lines
