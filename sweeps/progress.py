"""What a person sees while a study runs: a line with rate, time left and best so far; below it the trials at work, where these report."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from sweeps.commands.console import many, table
from sweeps.feed import Tally

if TYPE_CHECKING:
    from cluster.cache.answers import Building
    from sweeps.steps import Running

_WINDOW = 30.0  # seconds the rate looks back, at most
_STEADY = 3.0  # seconds after the first pack or report from which a rate means something
_EVERY = 10.0  # seconds between lines where output is not a terminal
_QUIET = 60.0  # seconds without a report after which it is said how long that is
_SHOWN = 12  # trials at work
_WIDEST = 10_000  # columns: of a table that nothing cuts short
_JUDGED = {"asha": "rung", "median": "judged"}  # what the column is called that says where a trial can be stopped


class StudyProgress:
    """A progress bar on a terminal; where output goes to a file, a line at the start, every ten seconds, and at the end.

    Trials that report are in a table below the bar; in a file there is a line for each that ends, and between reports that are far
    apart the lines say how long nothing has been heard.
    """

    def __init__(self, console: Console, objective: str, unit: str = ""):
        self._console, self._objective, self._unit = console, objective, unit
        self._tally, self._latest = Tally(0), ""
        self._bar = _Bar(
            self._below,
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}"),
            TextColumn("[cyan]{task.fields[pace]}"),
            # The only one that may break: a narrow terminal gets a second line, not numbers cut short.
            TextColumn("{task.fields[best]}", markup=False, table_column=Column(no_wrap=False)),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("loading data", total=None, count="", pace="", best="")
        self._recent: deque[tuple[float, int]] = deque()
        self._first = math.nan
        self._line, self._printed = "loading data", ""
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._clock.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        if self._clock.is_alive():
            self._over.set()
            self._clock.join()
            if self._printed not in ("", self._line):
                self._print()

    def prepared(self) -> None:
        """Says that data are loaded and what has a result already is looked up."""
        self._line = "reading results"
        self._bar.update(self._task, description=self._line)

    def update(self, tally: Tally) -> None:
        """Shows the state before the first pack and after each."""
        have, running = tally.known + tally.done, tally.running or ()
        count = f"{have:,} of {tally.total:,}"
        best = "" if math.isnan(tally.best) else f"best {self._objective} {self._value(tally.best)}"
        if tally.failed:
            best = f"{tally.failed:,} failed  {best}".rstrip()
        if tally.stopped:
            best = f"{tally.stopped:,} stopped  {best}".rstrip()
        best = f"{best}  {tally.note}".strip()
        begun = tally.packs > 0 or tally.running is not None
        pace = self._pace(tally) if begun else "starting Ray"
        part = sum(each.step / each.last for each in running if each.last)
        self._bar.update(self._task, description="", completed=have + part, total=tally.total, count=count, pace=pace, best=best)
        self._line = "  ".join(part for part in (count, pace, best) if part)
        self._tally, self._latest = tally, tally.news or self._latest
        if self._clock.is_alive():
            if tally.news:
                self._console.print(Text(tally.news), soft_wrap=True)
            elif not begun:
                self._print()

    @property
    def line(self) -> str:
        """The state in a line, as of the latest update."""
        return self._line

    def _value(self, value: float) -> str:
        """Returns a value of the objective, "…" before there is one."""
        return "…" if math.isnan(value) else f"{value:.2%}" if self._unit == "fraction" else f"{value:.4g}"

    def _below(self) -> Iterable[RenderableType]:
        """Shows the tables being built, the trials at work, and the latest of these that ended."""
        for made in self._tally.building:
            yield Text(_building(made), "dim")
        running = sorted(self._tally.running or (), key=lambda each: each.trial)
        if running:
            yield self._table(running)
            if len(running) > _SHOWN:
                yield Text(f"… and {len(running) - _SHOWN:,} more at work")
            if quiet := _quiet(running):
                yield Text(quiet, "dim")
        if self._latest and running:
            yield Text(self._latest, "dim")

    def _table(self, running: Sequence[Running]) -> Table:
        """Shows trials at work. On a narrow terminal first the training loss is left out, then the rung."""
        rung = [_JUDGED[each.rule] for each in running if each.ladder][:1]
        loss = ["loss"] if any(each.loss is not None for each in running) else []
        made = self._columns(running, (*rung, *loss))
        for dropped in (rung, ()):
            if self._console.measure(made, options=self._console.options.update(max_width=_WIDEST)).maximum <= self._console.width:
                break
            made = self._columns(running, dropped)
        return made

    def _columns(self, running: Sequence[Running], extra: Sequence[str]) -> Table:
        names = list(dict.fromkeys(name for each in running for name in each.swept))
        numbers = ("trial", "step", *extra, self._objective, "s/step", "left")
        rows = []
        for each in running[:_SHOWN]:
            cells = {"trial": str(each.trial), "step": f"{each.step:,} of {each.last:,}", self._objective: self._value(each.value)}
            cells |= {"loss": _loss(each), **{name: _rung(each) for name in extra if name != "loss"}}
            cells |= dict(zip(("s/step", "left"), _times(each), strict=True))
            swept = [_plain(each.swept[name]) if name in each.swept else "–" for name in names]
            rows.append([cells["trial"], *swept, *(cells[name] for name in numbers[1:])])
        return table(("trial", *names, *numbers[1:]), rows, numbers=numbers)

    def _pace(self, tally: Tally) -> str:
        """Returns rate and time left, "…" until they mean something.

        Results read from the ledger are no work, and the first pack waited for Ray: neither counts. Packs grow at first, so the rate
        looks back over half of the time only. Of trials that report, steps are counted from the first report on, which comes after
        setting up: they say more than how many trials have ended. The time left is less if some are stopped.
        """
        now = time.monotonic()
        steps = tally.running is not None
        made = tally.steps if steps else tally.done
        left = tally.steps_left if steps else tally.total - tally.known - tally.done
        if not made:
            return "…" if left else ""
        if not self._recent:
            self._first = now
        self._recent.append((now, made))
        while len(self._recent) > 2 and self._recent[1][0] <= now - min(_WINDOW, (now - self._first) / 2):
            self._recent.popleft()
        began, done = self._recent[0]
        rate = (made - done) / (now - began) if now - self._first >= _STEADY else 0.0
        if not rate:
            return "…" if left else ""
        shown = (f"{rate:,.0f}" if rate >= 100 else f"{rate:.2g}") + (" steps/s" if steps else "/s")
        return f"{shown}, {clock(left / rate)} left{' if all go on' if steps else ''}" if left else shown

    def _tick(self) -> None:
        while not self._over.wait(_EVERY):
            self._print()

    def _print(self) -> None:
        for made in self._tally.building:
            self._console.print(Text(_building(made)), soft_wrap=True)
        self._printed = self._line
        quiet = _quiet(self._tally.running or ())
        self._console.print(Text(f"{self._printed}  {quiet}" if quiet else self._printed), soft_wrap=True)


class _Bar(Progress):
    """A progress bar with something below it that is made anew whenever the screen is."""

    def __init__(self, below: Callable[[], Iterable[RenderableType]], *columns: Any, **options: Any):
        self._below = below
        super().__init__(*columns, **options)

    def get_renderable(self) -> RenderableType:
        """Returns the bar and what is below it."""
        return Group(super().get_renderable(), *self._below())


def _building(made: Building) -> str:
    how = f"{made.done:,} of {made.total:,} rows" if made.total else "by another process"
    return f"building {made.where}: {how}, {made.seconds:.0f} s"


def _rung(made: Running) -> str:
    """Returns how many of its rungs a trial has passed; under the median rule the step from which it is judged."""
    if not made.ladder:
        return "–"
    return f"from {made.ladder[0]:,}" if made.rule == "median" else f"{bisect_right(made.ladder, made.step)} of {len(made.ladder)}"


def _loss(made: Running) -> str:
    if made.loss is None:
        return "–"
    return "…" if math.isnan(made.loss) else f"{made.loss:.4g}"


def _times(made: Running) -> tuple[str, str]:
    """Returns seconds a step and the time left, "…" before there is a pace."""
    if math.isnan(made.pace):
        return "…", "…"
    return f"{made.pace:.2g}", clock(max(0.0, (made.last - made.step) * made.pace - (time.monotonic() - made.heard)))


def _quiet(running: Sequence[Running]) -> str:
    """Says how long nothing has been heard of the trials at work, once that is long.

    Of those that are at their first report of the session, which comes after setting up, at once: the longest of them.
    """
    now, waiting = time.monotonic(), [each for each in running if not each.reported]
    if waiting:
        who = f"trial {waiting[0].trial}" if len(waiting) == 1 else f"{len(waiting):,} trials"
        return f"{who} working for {now - min(each.heard for each in waiting):.0f} s on the first report"
    since = min((now - each.heard for each in running), default=0.0)
    return f"{many(len(running), 'trial')} at work, {clock(since)} since the last report" if since >= _QUIET else ""


def clock(seconds: float) -> str:
    """Returns a time as h:mm:ss, rounded up."""
    wait = math.ceil(seconds)
    return f"{wait // 3600}:{wait // 60 % 60:02}:{wait % 60:02}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
