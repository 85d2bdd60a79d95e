"""What the best trials earned: equity and drawdown beside the benchmarks, and each fold by itself."""

from __future__ import annotations

from results.pages.grid import Column
from results.pages.page import Html, escape, join, section, table
from sweeps.report import charts
from sweeps.report.alternatives import of_equity
from sweeps.report.drawings import Drawings, missing
from sweeps.report.gather import Gathered
from sweeps.report.part import Missing
from sweeps.report.returns import Curves
from sweeps.report.sections.leaderboard import label_notice

_STRENGTH = 0.5  # of the strongest tint, so that text on it stays readable


def equity(g: Gathered, drawings: Drawings) -> Html:
    """Returns the accounts, drawn and as a table."""
    title = "Equity and drawdown"
    if isinstance(g.curves, Missing):
        return section("equity", title, missing(g.curves.why))
    columns = (
        "account",
        Column("rank", kind="integer"),
        Column("gain", kind="percent"),
        Column("deepest drawdown", kind="percent", help="At the ends of days; within a day it can be deeper"),
    )
    rows = table(columns, [(line.name, line.rank, line.total, line.deepest) for line in g.curves.lines], caption="Accounts")
    said = of_equity(g.curves)
    drawn = drawings.place("accounts", charts.equity(g.curves), said, size="tall", caption=_note(g.curves), table=rows, log=True)
    n = len(g.curves.trials)
    drawn = join([label_notice(g.label), drawn])
    return section(
        "equity", title, drawn, note=f"The first {f'{n} rows' if n > 1 else 'row'} of the leaderboard beside doing something simple."
    )


def _note(curves: Curves) -> str:
    said = "Daily returns of the tune windows one after the other, after all costs; every fold begins flat. Benchmarks pay no costs."
    if missing_rows := curves.asked - len(curves.trials):
        said += f" Of {missing_rows:,} of the first {curves.asked:,} rows no daily returns are kept."
    if curves.lost:
        said += f" {curves.lost:,} files of returns are missing or damaged, and left out."
    return said


def folds(g: Gathered, drawings: Drawings) -> Html:
    """Returns accounts by fold."""
    title = "Fold by fold"
    if isinstance(g.curves, Missing):
        return section("folds", title, missing(g.curves.why))
    note = (
        "Annualised Sharpe ratio of daily returns in each tune window, with the gain below it. The bluer the better, the redder the worse."
    )
    return section("folds", title, heat(g.curves), note=note)


def heat(curves: Curves) -> Html:
    """Returns accounts by fold as a table whose cells are tinted by their Sharpe ratio."""
    heads = "".join(f'<th scope="col" class="number" title="{a} to {b}">fold {k}</th>' for k, (a, b) in enumerate(curves.folds, 1))
    top = max((abs(float(v)) for line in curves.lines for v in line.sharpe if v == v), default=0.0) or 1.0
    body = []
    for line in curves.lines:
        cells = "".join(_cell(float(s), float(gain), top) for s, gain in zip(line.sharpe, line.gain, strict=True))
        place = "" if line.rank is None else str(line.rank)
        body.append(f'<tr><td class="number">{place}</td><th scope="row">{escape(line.name)}</th>{cells}</tr>')
    head = f'<thead><tr><th scope="col" class="number">rank</th><th scope="col">account</th>{heads}</tr></thead>'
    made = f'<table class="heat">{head}<tbody>{"".join(body)}</tbody></table>'
    return Html(f'<div class="scroll" tabindex="0" role="region" aria-label="Sharpe ratio and gain by fold">{made}</div>')


def _cell(ratio: float, gain: float, top: float) -> str:
    if ratio != ratio:
        return '<td class="cell">n/a</td>'
    colour = "37, 99, 168" if ratio > 0 else "198, 40, 40"
    tint = f"background:rgba({colour}, {min(1.0, abs(ratio) / top) * _STRENGTH:.2f})"
    return f'<td class="cell" style="{tint}">{ratio:.2f}<small>{gain:+.1%}</small></td>'
