"""Sweeps a market without an edge under the legacy and the realistic fill rules, and draws what each reports.

python docs/null_market.py [--seeds 20] [--logits 3 4 2 2] [--out docs/img/null_market.png]

Every market is the sample market with signal 0: each step of the price has mean zero given the past, so no strategy earns
anything before costs. Profit found here was made by the rules.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from search_spaces import Space
from sweeps import Study
from trainables.selector import SelectorTrainable
from trainables.selector.options import encode
from trainables.selector.simulate import evaluate

BLOCK = 48  # bars of a bootstrap block: two days, the memory of the sample market's volatility
DRAWS = 1000
LEVEL = 95.0  # per cent
PER_DAY = 24 * 100  # from a mean per bar to per cent a day
FREE = {"cost_multiplier": 0.0, "slippage": 0.0, "fill_buffer": 0.0}  # the buffer costs 5 bps a fill: nobody is paid for it


@dataclass(frozen=True, eq=False)
class Rules:
    """A profile with parameters changed for every configuration."""

    name: str
    profile: str
    changes: Mapping[str, Any] = field(default_factory=dict)


LEGACY, REALISTIC = Rules("legacy", "legacy"), Rules("realistic", "realistic")
GROSS = Rules("realistic, no costs", "realistic", FREE)
MAIN = (LEGACY, REALISTIC, GROSS)
ABLATION = (
    LEGACY,
    Rules("lag 1: an order fills in the next bar", "legacy", {"lag": 1}),
    Rules("fillable_only false: rank, then fill", "legacy", {"fillable_only": False}),
    Rules("both", "legacy", {"lag": 1, "fillable_only": False}),
    Rules("both, no costs", "legacy", {"lag": 1, "fillable_only": False, "cost_multiplier": 0.0}),
    Rules("dip_threshold 0: no dip filter", "legacy", {"dip_threshold": 0.0}),
    Rules("fill_buffer 5 bps: trade through", "legacy", {"fill_buffer": 0.0005}),
    Rules("cost_multiplier 5/3: 25 for 15 bps", "legacy", {"cost_multiplier": 25 / 15}),
    Rules("cost_multiplier 0: no fees", "legacy", {"cost_multiplier": 0.0}),
    Rules("reentry in the bar of an exit", "legacy", {"reentry": True}),
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sweep of one market.

    Attributes:
        rules: What it was simulated under.
        returns: Total return of each configuration, (n,).
        mean: Mean bar return of each configuration, (n,).
        low, high: Bootstrap interval of `mean`, each configuration by itself, (n,).
        margin: Half width of the interval of each `mean` that holds for all n at once, (n,).
        winner: The configuration with the best Sortino ratio, as the profile computes it.
        days: Time of each point of `curve`.
        curve: The winner's equity in multiples of initial cash.
    """

    rules: Rules
    returns: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    margin: np.ndarray
    winner: int
    days: np.ndarray
    curve: np.ndarray

    @property
    def significant(self) -> bool:
        """Whether the winner's profit is beyond chance, the number of tries allowed for."""
        return bool(self.mean[self.winner] > self.margin[self.winner])


def bootstrap(returns: np.ndarray, seed: int) -> np.ndarray:
    """Resamples mean returns by circular blocks (Politis and Romano 1992), the same blocks for every configuration.

    Args:
        returns: Bar returns, float64 (T, n).
        seed: Of the draws.

    Returns:
        Means, float64 (DRAWS, n).
    """
    rows, n = returns.shape
    total = np.concatenate([np.zeros((1, n)), np.cumsum(np.concatenate([returns, returns[:BLOCK]]), axis=0)])
    blocks = (total[BLOCK : BLOCK + rows] - total[:rows]) / BLOCK
    starts = np.random.default_rng(seed).integers(0, rows, (-(-rows // BLOCK), DRAWS))
    return np.mean([blocks[start] for start in starts], axis=0)


def sweep(market: int, many: Iterable[Rules], logits: Sequence[float] | None = None) -> list[Sweep]:
    """Evaluates the library's selector grid on one null market.

    Args:
        market: Seed of the market.
        many: Rules to evaluate under.
        logits: The fixed actions; default those of the study.
    """
    study = Study.load("selector_grid", ["data.bars=2160", "data.signal=0", f"data.seed={market}"])
    points = list(Space.parse(study.space).points())
    prepared = {}
    found = []
    for rules in many:
        if rules.profile not in prepared:
            settings = study.settings | {"profile": rules.profile} | ({"logits": list(logits)} if logits else {})
            prepared[rules.profile] = SelectorTrainable().prepare(study.data, settings)
        made = prepared[rules.profile]
        table = encode([{**made.defaults, **point, **rules.changes} for point in points], rules.profile)
        cash = made.inputs.initial_cash
        result = evaluate(made.inputs.parts[0], table, profile=rules.profile, initial_cash=cash, equity=True)
        assert result.equity is not None
        curves = np.concatenate([np.ones((1, len(points))), result.equity.to_numpy() / cash])
        days = (result.equity.index - result.equity.index[0]).total_seconds().to_numpy() / 86400
        returns = curves[1:] / curves[:-1] - 1
        mean, draws = returns.mean(axis=0), bootstrap(returns, market)
        low, high = np.percentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=0)
        error = np.maximum(draws.std(axis=0), 1e-12)  # a configuration that never trades has none
        most = np.percentile((np.abs(draws - mean) / error).max(axis=1), LEVEL)
        winner = int(result.metrics[study.objective].fillna(-np.inf).argmax())
        found.append(Sweep(rules, curves[-1] - 1, mean, low, high, most * error, winner, days, curves[1:, winner]))
    return found


def measure(markets: Iterable[int], many: Sequence[Rules], logits: Sequence[float] | None = None) -> dict[Rules, list[Sweep]]:
    """Sweeps every market under every set of rules; returns the sweeps by rules, in the order of the markets."""
    columns = zip(*(sweep(market, many, logits) for market in markets), strict=True)
    return dict(zip(many, map(list, columns), strict=True))


def percent(fraction: float) -> str:
    """Formats a return."""
    return f"{100 * fraction:+,.0f} %".replace("-", "−")


def report(found: Mapping[Rules, list[Sweep]]) -> Iterable[Table]:
    """Yields what each profile reports, what the intervals say of it, and what is left of legacy when one rule is switched."""
    markets = len(found[LEGACY])
    best = {rules: np.array([s.returns[s.winner] for s in sweeps]) for rules, sweeps in found.items()}
    middles = {rules: (np.median(best[rules]), np.median([s.returns for s in sweeps])) for rules, sweeps in found.items()}
    beyond = {rules: f"{sum(s.significant for s in sweeps)} of {markets}" for rules, sweeps in found.items()}

    heads: tuple[str, ...] = ("rules", "winner, median", "lowest", "highest", "all 54, median")
    rows = [(rules.name, *map(percent, (middles[rules][0], best[rules].min(), best[rules].max(), middles[rules][1]))) for rules in MAIN]
    yield table(f"90 days without an edge, seeds 1 to {markets}", heads, rows)

    heads = ("rules", "mean", "above 0", "around 0", "below 0", "winner, beyond chance")
    rows = []
    for rules in MAIN:
        means = np.array([s.mean.mean() for s in found[rules]]) * PER_DAY
        error = f" ± {means.std(ddof=1) / markets**0.5:.2f}" if markets > 1 else ""
        low, high = np.concatenate([s.low for s in found[rules]]), np.concatenate([s.high for s in found[rules]])
        shares = [f"{100 * np.mean(x):.1f} %" for x in (low > 0, (low <= 0) & (high >= 0), high < 0)]
        rows.append((rules.name, f"{means.mean():+.2f}{error}".replace("-", "−"), *shares, beyond[rules]))
    yield table("Mean return, % a day, and where its 95 % interval lies", heads, rows)

    heads = ("rule", "winner, median", "all 54, median", "winner, beyond chance")
    rows = [("nothing" if rules is LEGACY else rules.name, *map(percent, middles[rules]), beyond[rules]) for rules in ABLATION]
    yield table("Legacy with one rule switched", heads, rows)


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Makes a table of names and figures."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for place, head in enumerate(heads):
        made.add_column(head.replace(", ", ",\n"), justify="right" if place else "left")
    for row in rows:
        made.add_row(*row)
    return made


def draw(found: Mapping[Rules, list[Sweep]], out: Path) -> None:
    """Draws the winners' equity and the intervals of their mean returns."""
    import matplotlib as mpl
    from PIL import Image

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    colours = {LEGACY: "#D55E00", REALISTIC: "#0072B2", GROSS: "#6b6b6b"}  # Okabe and Ito: told apart by the colour-blind
    names = {LEGACY: "legacy", REALISTIC: "realistic", GROSS: "realistic,\nno costs"}
    style: dict[Any, Any] = {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11.5,
        "axes.titlelocation": "left",
    }
    with plt.rc_context(style):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), width_ratios=[1.15, 1], layout="constrained")
        for rules in (LEGACY, REALISTIC):
            for s in found[rules]:
                left.plot(s.days[::6], s.curve[::6], color=colours[rules], linewidth=0.8, alpha=0.45)
            rows = min(len(s.curve) for s in found[rules])
            middle = np.median([s.curve[:rows] for s in found[rules]], axis=0)
            left.plot(found[rules][0].days[:rows], middle, color=colours[rules], linewidth=3)
            left.annotate(
                f"{rules.name}\n{percent(np.median([s.returns[s.winner] for s in found[rules]]))}",
                (found[rules][0].days[rows - 1], middle[-1]),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=colours[rules],
                fontweight="bold",
            )
        left.axhline(1, color="black", linewidth=0.8)
        left.set_yscale("log")
        left.yaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 5, 10, 20, 50]))
        left.yaxis.set_minor_locator(NullLocator())
        left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
        left.set_xlim(0, 108)
        left.set_xticks(range(0, 91, 15))
        left.set(xlabel="day", ylabel="equity, multiples of initial cash (log)")
        left.set_title(f"Equity of the sweep's winner, {len(found[LEGACY])} markets and their median")

        for place, rules in enumerate(MAIN):
            sweeps = sorted(found[rules], key=lambda s: s.mean[s.winner])
            middle = np.array([s.mean[s.winner] for s in sweeps]) * PER_DAY
            margin = np.array([s.margin[s.winner] for s in sweeps]) * PER_DAY
            x = place + np.linspace(-0.36, 0.36, len(sweeps))
            right.errorbar(x, middle, margin, fmt="o", color=colours[rules], markersize=4, linewidth=1.3)
        right.axhline(0, color="black", linewidth=0.8)
        right.set_xticks(range(len(MAIN)), [names[rules] for rules in MAIN])
        for label, rules in zip(right.get_xticklabels(), MAIN, strict=True):
            label.set(color=colours[rules], fontweight="bold")
        right.tick_params(axis="x", length=0)
        right.set(ylabel="mean return of the winner, % a day")
        right.set_title("More than chance? 95 % intervals, 54 tries allowed for")
        figure.suptitle("The same 54 configurations on markets in which there is nothing to earn", x=0.01, ha="left", fontweight="bold")
        out.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        figure.savefig(buffer, dpi=100)
        Image.open(buffer).convert("RGB").quantize(64).save(out, optimize=True)
        plt.close(figure)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="number of markets (seeds 1 to N)")
    parser.add_argument("--logits", type=float, nargs=4, metavar=("BUY", "SELL", "β", "γ"), help="fixed actions; default as in the study")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img" / "null_market.png", help="picture to draw")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds: {options.seeds}; give at least 1")
    found = measure(range(1, options.seeds + 1), (*MAIN, *ABLATION[1:]), options.logits)
    console = Console()
    for part in report(found):
        console.print(part)
    draw(found, options.out)
    console.print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
