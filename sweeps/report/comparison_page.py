"""A comparison as a page: the figures of the terminal, the accounts of the winners, and all trials in one table to sort and filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from results.pages.grid import Column, grid
from results.pages.page import Html, badge, escape, join, notice, page, section, table
from results.secrets import redacted
from sweeps.commands.console import command_for
from sweeps.report import charts
from sweeps.report.alternatives import of_equity
from sweeps.report.assemble import without_secrets
from sweeps.report.board import Board
from sweeps.report.columns import columns_of, rows_of
from sweeps.report.comparison import Comparison
from sweeps.report.comparison_text import facts, overlap_words, paired_words
from sweeps.report.drawings import Drawings, missing, style
from sweeps.report.part import Missing
from sweeps.report.returns import Curves, account
from sweeps.report.sections.leaderboard import IN_SAMPLE
from sweeps.report.sections.verdict import banner
from sweeps.report.sides import Side


def comparison_page(found: Comparison, folder: Path) -> str:
    """Returns the page of a comparison.

    Args:
        found: The comparison.
        folder: Of studies, as it is to stand in commands.
    """
    drawings = Drawings()
    labels = dict.fromkeys(side.label for side in found.sides if side.label)
    body = join([style(), *map(banner, labels), _standing(found), _differences(found), _winners(found, drawings), _union(found)])
    names = [side.name for side in found.sides]
    return page(
        " against ".join(names),
        without_secrets(body),
        scripts=drawings.scripts(),
        data={name: redacted(text) for name, text in drawings.data.items()},
        nav=[("standing", "Side by side"), ("differences", "What differs"), ("winners", "Winners"), ("union", "Leaderboard")],
        footer=f"{command_for('compare', names[0], folder, *names[1:])}. {IN_SAMPLE}",
    )


def _standing(found: Comparison) -> Html:
    names = [side.name for side in found.sides]
    if found.obstacles:
        head = Html(
            f'<div class="answer">{badge("not comparable", "bad")}<p>{escape("; ".join(found.obstacles))}. '
            "Figures stand side by side, and say nothing about each other.</p></div>"
        )
    else:
        said = "The same data, the same cuts of time, the same objective."
        head = Html(f'<div class="answer">{badge("comparable", "good")}<p>{said}</p></div>')
    made = table((Column("what", label=" "), *_unique(names)), facts(found), caption="Winners")
    remarks = Html("".join(f'<p class="remark">{escape(each)}</p>' for each in found.remarks))
    return section("standing", "Side by side", join([head, Html(f'<div class="wrapped">{made}</div>'), remarks]))


def _unique(names: list[str]) -> list[Column]:
    return [Column(f"study {k}", label=name) for k, name in enumerate(names, 1)]


def _differences(found: Comparison) -> Html:
    if not found.differences:
        return section("differences", "What differs", Html("<p>Their files differ in nothing that could change a result.</p>"))
    rows = [(key, *values) for key, values in found.differences]
    made = table(("key", *_unique([side.name for side in found.sides])), rows, caption="What differs")
    return section("differences", "What differs", Html(f'<div class="wrapped">{made}</div>'))


def _winners(found: Comparison, drawings: Drawings) -> Html:
    parts = [notice(paired_words(pair), "info" if pair.better else "muted") for pair in found.paired]
    parts += [Html(f'<p class="remark">Shared: {escape(overlap_words(each))}.</p>') for each in found.overlaps]
    curves = _accounts(found.sides)
    if isinstance(curves, Missing):
        return section("winners", "Winners on the same days", join([*parts, missing(curves.why)]))
    note = "Daily returns of the tune windows one after the other, after all costs. Benchmarks pay no costs."
    drawn = drawings.place("accounts", charts.equity(curves), of_equity(curves), size="tall", caption=note, log=True)
    return section("winners", "Winners on the same days", join([drawn, *parts]))


def _accounts(sides: tuple[Side, ...]) -> Curves | Missing:
    """Returns the winners' accounts, of studies that keep the same days as the first that keeps any."""
    first = next((side for side in sides if side.winner is not None), None)
    if first is None:
        return Missing("none of them keeps daily returns of its winner")
    lines = []
    for place, side in enumerate(sides, 1):
        returns = side.winner
        if (
            returns is not None
            and len(side.days) == len(first.days)
            and (side.days == first.days).all()
            and (side.folds == first.folds).all()
        ):
            assert not isinstance(side.judged, Missing)
            lines.append(account(f"{side.name}, trial {int(side.judged.board['trial'].iloc[0])}", place, returns, side.folds))
    if len(lines) < 2:
        return Missing("no two of them keep returns of the same days")
    assert not isinstance(first.judged, Missing) and first.judged.returns is not None
    benchmarks = first.judged.returns.benchmarks
    lines += [account(name, None, np.asarray(r, np.float64), first.folds) for name, r in benchmarks.items() if name != "flat"]
    spans = tuple((first.days[first.folds == fold][0], first.days[first.folds == fold][-1]) for fold in np.unique(first.folds))
    return Curves(first.days, spans, tuple(lines), len(sides))


def _union(found: Comparison) -> Html:
    title = "All in one leaderboard"
    if isinstance(found.union, Missing):
        return section("union", title, missing(found.union.why))
    metric = found.sides[0].objective
    board = Board(found.union, metric, found.metrics, found.parameters, {}, len(found.union), ())
    rows, columns = rows_of(board), columns_of(board)
    marked = bool((found.union["mark"] != "").any())
    columns = [column for column in columns if marked or column.name != "mark"]
    note = f"The best of each by {metric.name}. A metric that a study does not measure is n/a."
    if found.obstacles:
        note += " They are in one table, and not comparable."
    return section("union", title, grid("union-board", columns, rows, label=f"Trials by {metric.name}"), note=note)
