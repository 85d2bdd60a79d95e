"""A study at a moment, as a frame for a terminal; what does not fit is left out from below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.leaderboard import format_parameter, format_value, shown_unit
from sweeps.commands.console import table
from sweeps.commands.steps import sparkline
from sweeps.live.state import Now
from sweeps.live.words import best_words, count_words, ended_words, pace_words, since_words, state_words, worker_words
from sweeps.progress import clock

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.live.working import Working

CURVE: Final = 40  # characters
BAR: Final = 24
LEAST_ROWS: Final = 3  # of the leaderboard, however small the terminal
MOST_ROWS: Final = 20
MOST_WORKING: Final = 12
_WIDEST: Final = 10_000  # columns: of a table that nothing cuts short
COLOURS: Final = {"running": "green", "finished": "green", "starting": "cyan", "stopped": "yellow", "killed": "yellow", "failed": "red"}


def frame(now: Now, board: pd.DataFrame | None, width: int, height: int | None = None, every: float = 0.0) -> Group:
    """Returns what `watch` shows.

    Args:
        now: The study.
        board: Its leaderboard, more rows than fit; None where nothing is to be ranked yet.
        width: Characters there are.
        height: Lines there are; None shows all.
        every: Seconds between looks, said below; 0 leaves that out.
    """
    head = list(_head(now, width))
    foot = [Text(f"every {every:g} s; Ctrl-C ends the view, not the run", "dim")] if every else []
    if height is None:
        return Group(*head, *_board(board, width, MOST_ROWS), *_work(now, width, MOST_WORKING), *foot)
    room = height - _lines([*head, *foot], width)
    least = _board(board, width, LEAST_ROWS)
    work = _fitting(lambda rows: _work(now, width, rows), MOST_WORKING, room - _lines(least, width), width)
    ranked = _fitting(lambda rows: _board(board, width, rows), MOST_ROWS, room - _lines(work, width), width)
    return Group(*head, *ranked, *work, *foot)


def _fitting(make: Callable[[int], list[RenderableType]], most: int, room: int, width: int) -> list[RenderableType]:
    """Returns a table with as many rows as there is room for, none where not even one fits."""
    rows = most
    while rows > 0:
        made = make(rows)
        if (over := _lines(made, width) - room) <= 0:
            return made
        rows = min(rows - 1, max(1, rows - over)) if rows > 1 else 0
    return []


def _head(now: Now, width: int) -> Iterator[RenderableType]:
    began = str(now.pulse.session.get("started") or "")[:16].replace("T", " ")
    session = f"session {now.sessions} began {began} UTC" if began else "no session yet"
    yield Text.assemble((now.home.name, "bold"), "  ", (state_words(now), COLOURS.get(now.pulse.state, "yellow")), "  ", (session, "dim"))
    bar = Table.grid(padding=(0, 1, 0, 0))
    if now.total:
        done = ProgressBar(total=now.total, completed=min(now.have, now.total), width=BAR)
        bar.add_row(done, Text(count_words(now)), Text(pace_words(now), "cyan"))
    else:
        bar.add_row(Text(count_words(now)), Text(pace_words(now), "cyan"))
    yield bar
    if best := best_words(now):
        since = since_words(now)
        room = max(8, min(CURVE, width - len(best) - len(since) - 4))
        yield Text.assemble((best, "bold"), "  ", (sparkline(now.curve.sampled(room)), "cyan"), "  ", (since, "dim"))
    facts = [("workers", worker_words(now)), ("ended", ended_words(now)), ("budget", "; ".join(now.budget))]
    if now.failure is not None:
        facts.append(("failed", f"trial {now.failure[0]}: {now.failure[1]}"))
    for name, words in facts:
        if words:
            yield Text.assemble((f"{name:<8} ", "dim"), (words, "red" if name == "failed" else ""), overflow="ellipsis", no_wrap=True)


def _work(now: Now, width: int, most: int) -> list[RenderableType]:
    if not now.working or not now.alive:
        return []
    unit, metric = shown_unit(now.metric), now.metric.name
    shown = now.working[:most]
    rung = {"asha": ["rung"], "median": ["judged"]}.get(now.rule, []) if any(made.ladder for made in shown) else []
    names = list(dict.fromkeys(name for made in shown for name in made.swept))
    made = _working_table(shown, names, rung, metric, unit)
    for where in (rung, []):  # parameters give way first, then the rung
        if Console(width=_WIDEST).measure(made).maximum <= width:
            break
        made = _working_table(shown, [], where, metric, unit)
    more = len(now.working) - len(shown)
    return [made, *([Text(f"… and {more:,} more at work")] if more > 0 else [])]


def _working_table(shown: Sequence[Working], names: Sequence[str], rung: Sequence[str], metric: str, unit: str) -> Table:
    numbers = ("trial", "step", *rung, metric, "s/step", "left")
    rows = []
    for made in shown:
        step = f"{made.step:,} of {made.last:,}" if made.last else f"{made.step:,}"
        where = [(f"from {made.ladder[0]:,}" if made.ladder else "–") if rung == ["judged"] else made.rung] if rung else []
        pace = "…" if math.isnan(made.pace) else f"{made.pace:.2g}"
        left = "…" if math.isnan(made.left) else clock(made.left)
        swept = [format_parameter(made.swept[name]) if name in made.swept else "–" for name in names]
        rows.append([str(made.trial), *swept, step, *where, format_value(made.value, unit), pace, left])
    return table(("trial", *names, *numbers[1:]), rows, numbers=numbers, title="at work")


def _board(board: pd.DataFrame | None, width: int, rows: int) -> list[RenderableType]:
    if board is None or board.empty:
        return [Text("nothing to rank before a first trial is completed", "dim")]
    from results.leaderboard import render

    shown = board.head(rows)
    shown.attrs = board.attrs
    made = render(shown, width=width)
    made.caption = None
    return [made]


def _lines(parts: Sequence[RenderableType], width: int) -> int:
    console = Console(width=width, height=1000, force_terminal=False)
    return sum(len(console.render_lines(part, pad=False)) for part in parts)
