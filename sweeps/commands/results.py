"""Commands about what came out and whether to believe it: leaderboard, promote, audit, show, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.columns import Columns
from rich.text import Text

from results.digits import p_value, share
from sweeps.commands.console import DirOpt, NameArg, SetOpt, StudyArg, command_for, err, export, home_of, load_study, many, out, say, table
from sweeps.commands.steps import TrainingLine, report_tables, show_unfinished, stopped_line, why_command

if TYPE_CHECKING:
    from results.metrics import Metric
    from results.validity import Assessment, Deflation, ReferenceTest
    from sweeps.asked import Asked
    from sweeps.evidence import Judgement

app = typer.Typer()
IN_SAMPLE = Text("In-sample figures: they say what won, not what will.", "yellow")


# One line a paragraph, because the terminal breaks them.
LEADERBOARD_HELP = (
    "Show the best configurations of a study and whether to believe the winner; write all of them to a file.\n\n"
    "The lines below the table are explained in docs/verdict.md, the metrics in docs/metrics.md.\n\n"
    "A file has every trial. Trials whose daily returns are kept (all of a study of up to 10,000; of a larger one a sample and the best) "
    "also have verdict, verdict_words, dsr, psr, sharpe_low, sharpe_high, alike and folds_won; the others have these empty. "
    "Trials that were stopped early are not ranked; in a file their status is stopped and their metrics are those of their last report. "
    'In JSON they are the object "evidence", or null.'
)


@app.command(name="leaderboard", help=LEADERBOARD_HELP)
def leaderboard_(
    study: NameArg,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows.")] = 20,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this metric; default the study's objective.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="CONSTRAINT", help='Winners must meet this too, e.g. "trades >= 50". Repeatable.')
    ] = None,
    pareto: Annotated[
        str | None, typer.Option(metavar="METRIC,METRIC", help="Show the trials that no other one beats in all of these metrics.")
    ] = None,
    over: Annotated[
        str | None, typer.Option(metavar="PARAMETER,…", help="Rank by the mean over these, such as a seed, with its 95 % interval.")
    ] = None,
    csv: Annotated[Path | None, export("CSV")] = None,
    json: Annotated[Path | None, export("JSON")] = None,
    parquet: Annotated[Path | None, export("Parquet")] = None,
    dir: DirOpt = Path("runs"),
) -> None:
    """Show the best configurations of a study and whether to believe the winner; write all of them to a file."""
    from results import Ledger
    from results.constraints import constraints_of
    from results.leaderboard import pareto as pareto_board
    from results.leaderboard import render
    from sweeps.asked import unfinished
    from sweeps.evidence import judge
    from sweeps.plots.projection import objectives
    from sweeps.runner import LEDGER
    from sweeps.study import Study

    if pareto is not None and sort is not None:
        raise typer.BadParameter("--pareto sorts by its first metric; leave --sort out.")
    home = home_of(study, dir)
    if over is not None:
        if pareto or where or csv or json or parquet:
            raise typer.BadParameter("--over shows means; of the other options it goes with --sort, --top and --dir.")
        _show_means(home, [name.strip() for name in over.split(",") if name.strip()], sort, top)
        return
    # A file says what is wanted now; a name, what was wanted when the study was created.
    own = Study.load(study).constraints if study.endswith((".yaml", ".yml")) and Path(study).is_file() else None
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        constraints = constraints_of(ledger.header, where or (), own)
        found: Judgement | None
        counts, nothing = ledger.counts(), f"{home.name}: nothing to rank before a first trial is completed"
        if pareto is None:
            found = judge(home, sort, top, constraints)
            out.print(render(found.board, width=out.width) if counts["completed"] else Text(nothing))
            for name, line in describe(found):
                say(Text.assemble(f"  {name:<12} ", line))
            if len(goals := objectives(ledger.header)) > 1:
                say(f"  {'objectives':<12} {', '.join(goals)}: the first ranks; --pareto {','.join(goals)} shows what none dominates")
        else:
            names = [name.strip() for name in pareto.split(",") if name.strip()]
            board = pareto_board(ledger, names, top, constraints)
            out.print(render(board, width=out.width) if counts["completed"] else Text(nothing))
            say(IN_SAMPLE)
            found = None
        if left := unfinished(home):
            how = "" if left.endswith("(running)") else "; a larger budget goes on" if "(stopped: " in left else "; the same run goes on"
            say(Text(f"  {'trials':<12} {left}{how}", "yellow"))
        if line := stopped_line(home.name, dir, counts, "" if left else "trials"):
            say(line)
        wanted = [(path, fmt) for path, fmt in ((csv, "csv"), (json, "json"), (parquet, "parquet")) if path]
        if wanted:
            # Verdicts are about trials, not about the one that constraints let win.
            judged = found if found is not None and found.has_winner else judge(home, top=1, constraints=())
            known = judged.by_trial()
        for path, fmt in wanted:
            say(f"{ledger.export(path, fmt, known):,} trials written to {path}")


def _show_means(home: Path, over: list[str], sort: str | None, top: int) -> None:
    """Shows configurations ranked by their mean over replicates."""
    from results import Ledger
    from results.leaderboard import format_parameter, format_value, shown_unit
    from results.replicated import rank
    from results.varied import read
    from sweeps.runner import LEDGER

    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        ranking = rank(read(ledger, sort), over)
    unit, metric = shown_unit(ranking.metric), ranking.metric.name
    names = list(ranking.rows[0].values) if ranking.rows else []
    rows: list[list[str | Text]] = [
        [
            str(place),
            *(format_parameter(row.values[name]) for name in names),
            str(row.n),
            format_value(row.mean, unit),
            "n/a" if row.n < 2 else f"{format_value(row.low, unit)} to {format_value(row.high, unit)}",
            format_value(row.worst, unit),
        ]
        for place, row in enumerate(ranking.rows[:top], 1)
    ]
    shown = f"{home.name}: top {len(rows)} of {len(ranking.rows):,} by the mean of {metric} over {', '.join(ranking.over)}"
    out.print(table(("rank", *names, "n", f"mean {metric}", "95 % interval", "worst"), rows, title=shown))
    if few := sum(row.n < ranking.most for row in ranking.rows):
        say(f"{few:,} of them have fewer than {ranking.most} trials, and come after the others")
    if ranking.left_out:
        say("left out: " + ", ".join(f"{n:,} {reason}" for reason, n in ranking.left_out.items()))
    say("Intervals: Student's t, over replicates on the same bars; they show what luck in training does, not what other bars would.")


def describe(found: Judgement) -> list[tuple[str, str | Text]]:
    """Puts what is known about a study's winner into lines: (name, words). docs/verdict.md explains each."""
    judged = found.assessment
    lines: list[tuple[str, str | Text]] = []
    opened = f"opened {found.looks.openings}×" if found.looks.openings else "sealed"
    if found.board.empty:
        lines.append(("verdict", Text("n/a: no trial was completed, so there is no winner", "yellow")))
    elif not found.has_winner:
        lines.append(("verdict", Text("n/a: no trial meets the constraints, so there is no winner", "yellow")))
    elif judged is None and found.reference is not None and found.skill is not None:
        words = reference_words(found.reference, *found.skill)
        lines.append(("verdict", Text(words, "bold green" if found.reference.better else "yellow")))
    elif judged is None:
        whose = f"trial {found.board['trial'].iloc[0]}; a run that ends keeps the best" if found.kept else "these trials"
        lines.append(("verdict", Text(f"n/a: {found.elsewhere or f'no daily returns were kept of {whose}'}", "yellow")))
    else:
        style = {"survives": "bold green", "loses money": "red"}.get(judged.verdict.code, "yellow")
        lines.append(("verdict", Text(str(judged.verdict), style)))
        if judged.deflation is not None:
            lines.append(("looks", _looks(found, judged.deflation)))
            low, high = (judged.intervals["sharpe"].low[0], judged.intervals["sharpe"].high[0])
            lines.append(("Sharpe", f"95 % interval {low:.2f} to {high:.2f}, annualised, of daily returns"))
        if judged.superiority:
            each = (f"{name} p {p_value(result.trial_p_values[judged.winner])}" for name, result in judged.superiority.items())
            lines.append(("against", f"{', '.join(each)} (SPA)"))
    if found.has_winner and found.study is not None:
        lines += _agreement(found, found.study)
    if found.position is not None:
        lines.append(("winner", found.position.words()))
    gains = dict.fromkeys(f"; trial {n}: {_told(found.told, gain)}" for n, gain in found.holdout)
    lines.append(("holdout", f"none: {found.no_holdout}" if found.no_holdout else opened + "".join(gains)))
    return lines


def _told(metric: Metric, value: float) -> str:
    from results.leaderboard import format_value, shown_unit

    return f"{value:+.2%}" if metric.name == "total_return" else f"{metric.name} {format_value(value, shown_unit(metric))}"


def reference_words(test: ReferenceTest, metric: Metric, value: float) -> str:
    """Returns a skill with what is shown of it: "skill 3.10% over the last close; DM p …"; of another metric its name and value."""
    if metric.name != "skill":
        return f"{_told(metric, value)}; {test}"
    return f"{_told(metric, value)} over the last close; {test.words(value)}"


def _looks(found: Judgement, deflation: Deflation) -> str:
    """Says which looks at the data were clustered into how many, and which could only be counted one by one."""
    rest = deflation.looks - found.kept
    if not rest:
        return f"{deflation.looks:,}, clustered into {deflation.effective:.3g} independent trials"
    others = found.looks.trials - found.looks.own
    where = "elsewhere" if found.looks.own <= found.kept else "others" if others else "not kept"
    clustered = f"{found.kept:,} clustered into {deflation.effective:.3g} independent"
    return f"{deflation.looks:,}: {clustered}, {rest:,} {where} counted singly"


def _agreement(found: Judgement, study: Assessment) -> list[tuple[str, str | Text]]:
    """What halves of the data and folds say of the order of the trials, or why they cannot say anything."""
    from results.validity.overfitting import SPLITS

    pbo, stable = study.overfitting, found.stability
    short = f"{study.evidence.periods} days, {2 * SPLITS} are needed"
    one = found.returns is None or len(set(found.returns.folds.tolist())) < 2
    level = "there is only one fold" if one else "in one of the folds all trials are equal"
    in_halves = "how often the best of one half is below the middle in the other"
    in_folds = "" if stable is None else f"(Kendall's W; chance gives {1 / stable.folds:.2g}, 1 is the same order in every fold)"
    return [
        ("overfitting", f"PBO n/a: {study.no_choice or short}" if pbo is None else f"PBO {share(pbo.pbo)}: {in_halves}"),
        (
            "folds",
            f"rank stability n/a: {study.no_choice or level}" if stable is None else f"rank stability {stable.kendall_w:.2f} {in_folds}",
        ),
    ]


@app.command()
def promote(
    study: NameArg,
    trial: Annotated[str | None, typer.Argument(help="Trial number or id; default the leaderboard's first.", show_default=False)] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Open a holdout that has been opened before; recorded, and held against it.")
    ] = False,
    dir: DirOpt = Path("runs"),
) -> None:
    """Open the sealed holdout for one configuration, once and on the record; interrupted, the same command goes on."""
    from cluster.cache import Store
    from results.leaderboard import format_value, shown_unit
    from sweeps.asked import unfinished
    from sweeps.build_progress import BuildProgress
    from sweeps.promote import promote as open_holdout

    home = home_of(study, dir)
    if left := unfinished(home):
        say(Text(f"{home.name}: {left}; what comes later is compared with a holdout that is no secret any more", "yellow"), console=err)
    try:
        with TrainingLine("on the holdout") as told, BuildProgress(out) as building:
            made = open_holdout(home, trial, again=again, on_report=told, tables=building.watching(Store()))
    except KeyboardInterrupt:
        say("Interrupted. The opening is on record; the same command goes on with it, without --again.", console=err)
        raise typer.Exit(130) from None
    rows = [[m.name, *(format_value(part.get(m.name), shown_unit(m)) for part in (made.search, made.holdout))] for m in made.metrics]
    days = f" {made.window[0]} to {made.window[1]}" if made.window[0] else ""
    title = f"{study}, trial {made.trial}: holdout{days}, opening {made.opening}"
    out.print(table(("metric", "search", "holdout"), rows, title=title, numbers=("search", "holdout")))
    gain, before = made.holdout.get("total_return"), made.search.get("total_return")
    if gain is not None and before is not None and gain <= 0.0 < before:
        say(Text(f"  The search's {before:+.2%} is not confirmed: the holdout lost {-gain:.2%}.", "bold red"))
    if made.note:
        say(Text(f"  note         {made.note}", "yellow"))
    if made.assessment is not None:
        say(Text.assemble("  verdict      ", str(made.assessment.verdict)))
    elif made.reference is not None and made.skill is not None:
        say(f"  verdict      {reference_words(made.reference, *made.skill)}")


@app.command()
def audit(
    study: StudyArg,
    set_: SetOpt = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Configurations, spread over the space (4; 2 of trials that report).")
    ] = None,
    cuts: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Moments after which the future is changed (8; 2 of trials that report).")
    ] = None,
) -> None:
    """Change the future and require that what was decided before does not move; exit 1 if it does, 3 if that could not be tried.

    Of trials that report as they go, each is trained to its first report four times per moment, and twice besides.
    """
    from sweeps.search import Search
    from trainables.audit import Traceable, audit_steps
    from trainables.audit import audit as look
    from trainables.stepping import Stepping

    loaded = load_study(study, set_ or ())
    search = Search(loaded)
    with loaded.located():
        search.check()
    size, least = search.sampler.size, 2 if isinstance(search.trainable, Stepping) else 4
    n = min(trials or least, size)
    configs = [search.config(search.sampler.configs(i, i + 1)[0]) for i in sorted({k * (size - 1) // max(n - 1, 1) for k in range(n)})]
    with loaded.located(), out.status("changing the future"):
        if isinstance(search.trainable, Stepping):
            what = (search.trainable, loaded.data, loaded.settings, configs, search.protocol)
            report = audit_steps(*what, cuts=cuts or 2, seed=loaded.seed)
        else:
            report = look(search.packed, loaded.data, loaded.settings, configs, cuts=cuts or 8, seed=loaded.seed)
    words = {True: Text("passed", "green"), False: Text("FAILED", "bold red"), None: Text("n/a", "yellow")}
    rows: list[list[str | Text]] = [
        [finding.check, words[finding.passed], finding.stage or "", finding.detail] for finding in report.findings
    ]
    out.print(table(("check", "", "stage", "what was found"), rows, title=f"{loaded.name}: audit of {many(len(configs), 'configuration')}"))
    for note in report.notes:
        say(Text(f"  {note}", "yellow"))
    if not isinstance(search.trainable, Traceable):
        say(Text("  Without `trace` (trainables/audit/stages.py) a fill in the very bar of its decision cannot be seen.", "yellow"))
    if not report.ok:
        raise typer.Exit(1)
    if not any(x.passed for x in report.findings if x.check in ("future", "next bar", "other symbol")):
        say(Text("NOT AUDITED: no check of the future could be made; the notes say why.", "bold red"))
        if isinstance(search.trainable, Stepping):
            say("  What protects trials that report, and what to test: docs/trainables.md, and docs/chronos.md of chronos_lora.")
        raise typer.Exit(3)


@app.command()
def show(
    study: NameArg,
    trial: Annotated[str, typer.Argument(help="Trial number, or the first digits of its configuration id.")],
    dir: DirOpt = Path("runs"),
) -> None:
    """Show everything known about one trial."""
    from results import Ledger, LedgerError, reports
    from results.leaderboard import format_value, shown_unit
    from sweeps.endings import how_far
    from sweeps.history import is_imported, note_of
    from sweeps.runner import LEDGER

    home = home_of(study, dir)
    with Ledger.open(home / LEDGER, readonly=True) as ledger:
        header = ledger.header
        try:
            row = ledger.trial(trial)
        except LedgerError:
            if (found := how_far(home, trial)) is None:
                raise
            show_unfinished(header, found, [each for each in reports.read(ledger) if each.trial == found.trial])
            return
        said = list(reports.read(ledger, bytes.fromhex(row["config_id"])))
        noted = note_of(ledger, row["trial"]) if is_imported(header) else ""
    keys = ("config_id", "status", "error", "source", "worker", "ended")
    facts: list[list[str | Text]] = [[key, "stopped early" if row[key] == "stopped" else str(row[key])] for key in keys if row.get(key)]
    facts += [["note", noted]] if noted else []
    if row["failures"]:
        times = f"{len(row['failures']) + 1} times; before this it failed: "
        facts.append(["tried", times + "; ".join(dict.fromkeys(" ".join(str(error).split()) for error in row["failures"]))])
    facts.append(["seconds", "n/a" if row["seconds"] is None else f"{row['seconds']:.3g}"])
    if not row["intact"]:
        facts.append(["checksum", Text("does not match: changed after it was accepted", "bold red")])
    config, fixed = row["config"], header.spec.get("fixed", {})
    parameters = [
        [name, format_value(value), Text("default", "dim") if name not in config else "fixed" if name in fixed else "swept"]
        for name, value in {**header.defaults, **config}.items()
    ]
    values = row.get("metrics") or {}
    metrics = [[metric.name, format_value(values.get(metric.name), shown_unit(metric))] for metric in header.metrics]
    out.print(table(("", ""), facts, title=f"{header.name}, trial {row['trial']}"))
    out.print(Columns([table(("parameter", "value", ""), parameters), table(("metric", "value"), metrics)]))
    if said:
        lines, curve = report_tables(said, header.metric(header.objective), header.metric_names.index(header.objective))
        for line in lines:
            say(line)
        out.print(curve)
        say(f"  {why_command(header.name, dir, row['trial'])} says why it ended")


@app.command()
def verify(study: NameArg, dir: DirOpt = Path("runs")) -> None:
    """Prove that each point has exactly one accepted result, with a matching checksum; exit 1 if not, or not yet."""
    from sweeps.asked import asked
    from sweeps.runner import verify as verify_study

    home = home_of(study, dir)
    found = verify_study(home)
    names = ("points", "completed", "stopped", "failed", "missing", "duplicated", "corrupt", "unexpected", "vanished")
    rows = [*([name, f"{getattr(found, name):,}"] for name in names), ["certificate", found.certificate]]
    state = "verified" if found.ok else "incomplete" if found.incomplete else "NOT verified"
    out.print(table(("", ""), rows, title=f"{study}: {state}"))
    if found.incomplete:
        for line in _unfinished(study, dir, asked(home)):
            say(Text(f"  {line}", "yellow"))
    else:
        for line in found.problems:
            say(Text(f"  {line}", "red"))
    if found.stopped:
        ended = many(found.stopped, "point was stopped early and has", "points were stopped early and have")
        say(f"  {ended} the metrics of the last report; {why_command(study, dir)} says why")
    if found.failed:
        ended = many(found.failed, "point has failed and has", "points have failed and have")
        say(Text(f"  {ended} no metrics; {command_for('status', study, dir)} shows why", "yellow"))
    if not found.ok:
        raise typer.Exit(1)


def _unfinished(study: str, dir: Path, searches: list[Asked]) -> list[str]:
    """Says of each search that is not through how far it is, and which command goes on with it."""
    lines = []
    for search in searches:
        if search.known == search.points:
            continue
        options = search.options(study)
        again = "the same alphasweep run command" if options is None else command_for("run", study, dir, *options)
        which = f" ({search.words()})" if len(searches) > 1 else ""
        lines.append(f"incomplete: {search.known:,} of {search.points:,} points have a result{which}; {again} goes on")
    if len(searches) > 1 and searches[-1].known == searches[-1].points:
        lines.append(f"the latest search ({searches[-1].words()}) is complete")
    return lines
