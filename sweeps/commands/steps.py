"""Commands and lines about trials that report: why one ended, what it said on the way."""

from __future__ import annotations

import math
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from sweeps.commands.console import DirOpt, NameArg, command_for, home_of, many, out, say, table

if TYPE_CHECKING:
    from results.metrics import Metric
    from results.records import Header
    from results.reports import ReportRow
    from sweeps.endings import Ending
    from sweeps.search import Search

app = typer.Typer()
BARS = "▁▂▃▄▅▆▇█"
_ROWS = 12  # of a table of reports
_WIDTH = 40  # of a sparkline
_EVERY = 10.0  # seconds between lines where output is not a terminal
_QUIET = 60.0  # seconds between two reports after which there is a line all the same
_COLOURS = {"completed": "green", "stopped": "yellow", "diverged": "red", "failed": "red"}

WHY_HELP = (
    "Say why a trial ended, or how far it is.\n\n"
    "For a trial that was stopped early: the rung at which it was judged, its value there, the cut-off, its place of how many, and the "
    "trials that were ahead with what became of them. For one that was completed: where it was judged and stayed, or why it never was. For "
    "one that diverged or failed: where, and the error. Only for trainables that report as they go; docs/studies.md explains schedulers."
)


@app.command(name="why", help=WHY_HELP)
def why_(
    study: NameArg,
    trial: Annotated[str, typer.Argument(help="Trial number, or the first digits of its configuration id.")],
    dir: DirOpt = Path("runs"),
) -> None:
    """Say why a trial ended, or how far it is."""
    from sweeps.endings import why

    found = why(home_of(study, dir), trial)
    say(Text.assemble((f"{study}, trial {found.trial}: ", "bold"), (found.words, _COLOURS.get(found.status, ""))))
    for name, words in _facts(found):
        say(f"  {name:<12} {words}")
    if found.ahead:
        _say_ahead(found)
    if found.judged:
        _say_judged(found)
    if not found.replayed:
        say(Text("  Places at rungs n/a: the study ran under another scheduler or objective than it was created with.", "yellow"))


def _facts(found: Ending) -> list[tuple[str, str]]:
    """Returns what is known of a trial beside its ending, as (name, words)."""
    from search_spaces.stopping import SCHEDULERS
    from sweeps.endings import reach

    lines = [("parameters", parameters(found.swept))] if found.swept else []
    if found.status in ("stopped", "diverged", "completed"):
        lines.append(("scheduler", f"{found.rule}: {SCHEDULERS.get(found.rule, 'unknown')}"))
    if found.status in ("stopped", "diverged", "failed"):
        lines.append(("reached", reach(found.step, found.last)))
    lines += [("judged", words) for words in judged_words(found)]
    return [*lines, *(("note", f"step {step:,}: {note}") for step, note in found.notes)]


def judged_words(found: Ending) -> list[str]:
    """Returns where a trial was judged and went on, in words; none where nothing was to be judged, or it cannot be worked out again."""
    from results.leaderboard import format_value, shown_unit

    if found.rule not in ("asha", "median") or not found.replayed or found.status not in ("completed", "running", "waiting"):
        return []
    lines, median, unit = [], found.rule == "median", shown_unit(found.metric)
    if found.judged:
        last = found.judged[-1]
        one, name = last.decision, found.metric.name
        fate = "behind, but that was its last step" if one.stop else "it stayed"
        value, cutoff = format_value(last.value, unit), format_value(one.cutoff, unit)
        compared = f"its best {name} so far {value} and the median {cutoff}" if median else f"{name} {value} and the cut-off {cutoff}"
        at = _at([item.step for item in found.judged])
        lines.append(f"{at}: {fate}; at step {last.step:,} {compared}, place {one.rank:,} of {one.of:,}")
    if found.alone:
        had = max(others for _, others in found.alone)
        came = f"at most {had:,} had" if had else "none had"
        lines.append(f"not {_at([step for step, _ in found.alone])}: that takes {found.least:,} other trials that have come as far; {came}")
    if not lines and found.step:
        lines.append("nowhere: none of its reports came at a step from which the scheduler judges")
    return lines


def _at(steps: Sequence[int]) -> str:
    """Returns where reports came, such as "at steps 2, 8", or "at 10 steps, 3 to 12" of more than a few."""
    if len(steps) > 4:
        return f"at {len(steps):,} steps, {steps[0]:,} to {steps[-1]:,}"
    return f"at step{'s' if len(steps) > 1 else ''} {', '.join(f'{step:,}' for step in steps)}"


def _say_ahead(found: Ending) -> None:
    from results.leaderboard import format_parameter, format_value, shown_unit

    rung = found.decision["rung"]
    what = f"mean up to step {rung:,}" if found.decision["rule"] == "median" else f"at step {rung:,}"
    names = list(dict.fromkeys(name for rival in found.ahead for name in rival.swept))
    rows = [
        [str(r.trial), format_value(r.value, shown_unit(found.metric)), *(format_parameter(r.swept.get(n)) for n in names), r.ended]
        for r in found.ahead
    ]
    title = f"ahead of it then: {found.metric.name} {what}"
    out.print(table(("trial", found.metric.name, *names, "ended"), rows, title=title, numbers=("trial", found.metric.name)))
    if (more := found.decision["rank"] - 1 - len(found.ahead)) > 0:
        say(f"  … and {more:,} more")


def _say_judged(found: Ending) -> None:
    from results.leaderboard import format_value, shown_unit

    unit, metric, median = shown_unit(found.metric), found.metric.name, found.rule == "median"
    rows = []
    for item in _thinned(found.judged):
        one = item.decision
        cells = (f"{item.step:,}", format_value(item.value, unit), f"{one.rank:,} of {one.of:,}", format_value(one.cutoff, unit))
        rows.append(list(cells) if median else [f"{one.rung:,}", *cells])
    names = ("step", f"best {metric}", "place", "median") if median else ("rung", "step", metric, "place", "cut-off")
    out.print(table(names, rows, title="judged, and not stopped", numbers=names))


def parameters(swept: Mapping[str, Any]) -> str:
    """Returns parameters on a line."""
    from results.leaderboard import format_parameter

    return ", ".join(f"{name}={format_parameter(value)}" for name, value in swept.items())


def show_unfinished(header: Header, found: Ending, said: Sequence[ReportRow]) -> None:
    """Shows what is known of a trial without a result: how far it is, and what it has said."""
    say(Text.assemble((f"{header.name}, trial {found.trial}: ", "bold"), found.words))
    if found.swept:
        say(f"  {'parameters':<12} {parameters(found.swept)}")
    if said:
        lines, curve = report_tables(said, found.metric, header.metric_names.index(found.metric.name))
        for line in lines:
            say(line)
        out.print(curve)


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Draws values as a line of bars, lowest to highest; a gap is "·". Of more values than its width it draws every so manieth."""
    picked = values if len(values) <= width else [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    known = [value for value in picked if math.isfinite(value)]
    if not known:
        return "·" * len(picked)
    low, span = min(known), max(known) - min(known)
    top = len(BARS) - 1
    return "".join("·" if not math.isfinite(v) else BARS[round((v - low) / span * top) if span else top // 2] for v in picked)


def report_tables(rows: Sequence[ReportRow], metric: Metric, place: int) -> tuple[list[Text], Table]:
    """Shows the reports of a trial: a sparkline with its range and the notes as lines, and a table of step and objective.

    Args:
        rows: Reports, by step.
        metric: The objective.
        place: Of the objective among a report's metrics.
    """
    from results.leaderboard import format_value, shown_unit
    from sweeps.endings import notes_of

    values = [float(row.metrics[place]) for row in rows]
    known = [value for value in values if math.isfinite(value)]
    range_ = (
        f"{format_value(min(known), shown_unit(metric))} to {format_value(max(known), shown_unit(metric))}" if known else "never a number"
    )
    reports = f"{many(len(rows), 'report')}, steps {rows[0].step:,} to {rows[-1].step:,}"
    lines = [Text(f"  {metric.name}  {sparkline(values)}  {range_}, {reports}")]
    lines += [Text(f"  note at step {step:,}: {note}", "yellow") for step, note in notes_of(rows)]
    picked = _thinned(list(zip(rows, values, strict=True)))
    cells = [[f"{row.step:,}", format_value(value, shown_unit(metric)), _seconds(row.seconds)] for row, value in picked]
    return lines, table(("step", metric.name, "seconds"), cells, numbers=("step", metric.name, "seconds"))


def _seconds(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _thinned(rows: Sequence[Any]) -> list[Any]:
    """Returns at most a dozen rows, evenly spread, the first and the last among them."""
    if len(rows) <= _ROWS:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (_ROWS - 1))] for i in range(_ROWS)]


def scheduler_lines(search: Search) -> list[str]:
    """Returns how trials of a study will be judged, and at which of their reports; none for a trainable that evaluates packs."""
    from search_spaces.stopping import SCHEDULERS

    if not search.last_step:
        return []
    kind = search.rules().kind
    steps = f"{search.last_step:,} {getattr(search.trainable, 'fidelity', 'steps')}"
    if kind == "none":
        at = steps
    else:
        at_steps = sorted({step for step in search.judged_at().values() if step < search.last_step})
        where = f"{'at' if kind == 'asha' else 'from step'} {', '.join(f'{step:,}' for step in at_steps)}"
        at = f"judged {where if at_steps else 'nowhere before the last'} of {steps}"
    return [f"  {'scheduler':<12} {kind}: {SCHEDULERS[kind]}", f"  {'':<12} {at}"]


def ended_words(counts: Mapping[str, int]) -> str:
    """Returns how trials ended, such as "12 completed, 36 stopped early, 1 failed"; what there is none of is left out."""
    parts = [f"{counts['completed']:,} completed", f"{counts['stopped']:,} stopped early", f"{counts['failed']:,} failed"]
    return ", ".join(part for part in parts if not part.startswith("0 ")) or "none ended"


def stopped_line(study: str, dir: Path, counts: Mapping[str, int], name: str = "trials") -> str:
    """Returns the line below a leaderboard that says how many trials are not on it, and where to ask why."""
    return f"  {name:<12} {ended_words(counts)}; {why_command(study, dir)} says why" if counts["stopped"] else ""


def why_command(study: str, dir: Path, trial: int | str = "TRIAL") -> str:
    """Returns a command to copy."""
    return " ".join(["alphasweep why", shlex.quote(study), str(trial), *command_for("why", study, dir).split(" ")[3:]])


class TrainingLine:
    """How far a single trial is: a line that changes on a terminal; elsewhere one every ten seconds, or every minute between reports."""

    def __init__(self, what: str):
        self._what, self._began, self._first, self._said = what, time.monotonic(), -1, time.monotonic()
        self._heard, self._line = self._began, f"{what}: loading"
        self._status = out.status(self._line)
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Callable[[int, int], None]:
        self._status.start()
        if not out.is_terminal:
            self._clock.start()
        return self.update

    def __exit__(self, *exc: object) -> None:
        self._status.stop()
        if self._clock.is_alive():
            self._over.set()
            self._clock.join()

    def update(self, step: int, last: int) -> None:
        """Takes the step of a report."""
        from sweeps.progress import clock

        now = self._heard = time.monotonic()
        if self._first < 0:
            self._first, self._began = step, now
        line = f"{self._what}: step {step:,} of {last:,}"
        if step > self._first:
            each = (now - self._began) / (step - self._first)
            wait = math.ceil(each * max(0, last - step))
            line += f", {each:.2g} s a step, {clock(wait)} left"
        self._line = line
        self._status.update(line)
        if not out.is_terminal and now - self._said >= _EVERY:
            self._said = now
            say(line)

    def _tick(self) -> None:
        from sweeps.progress import clock

        while not self._over.wait(max(0.0, self._said + _QUIET - time.monotonic())):
            now = time.monotonic()
            if now - self._said >= _QUIET:  # otherwise a report came meanwhile
                self._said = now
                what = "the last report" if self._first >= 0 else "the start"
                say(f"{self._line} ({clock(now - self._heard)} since {what})")
