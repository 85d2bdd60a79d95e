"""Walks the best published configuration from the published rules to honest ones, a rule at a time, and draws what each rule was worth.

python docs/walk.py [--seeds 30] [--logits 0 0 2 2] [--out docs/img/walk.png]

Every market is the sample market, once with a planted signal and once without. On each, the record's grid of 27 configurations is
swept under the published rules on ten days, as it was; the winner is kept and the rules are then replaced, cumulatively.
Log growth adds up over steps, so it is the unit of every change: 0.10 is about 10 % in ten days.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from search_spaces import Space
from trainables.market import make_assets, sample_panel
from trainables.selector import SelectorTrainable
from trainables.selector.options import encode
from trainables.selector.simulate import evaluate
from trainables.timeline import Protocol

SIGNAL = 0.25  # the library's: information ratio per bar of someone who knows the planted drift exactly
BARS = 4320  # 180 days
SPAN = 10.0  # days: growth is told per ten days, whatever the length of the window
MIDPOINT = (0.0, 0.0, 2.0, 2.0)  # logits: buy and sell half-way to the forecast low and high
GRID = list(
    Space.parse(
        {"intensity": [2.0], "min_edge": [0.002, 0.003, 0.004], "risk_weight": [0.15, 0.2, 0.25], "dip_threshold": [0.0, 0.0025, 0.005]}
    ).points()
)
# What the published runs were charged (SPEC A.5): two coins without a record paid a stock's fee; one fee for every kind of fill.
AS_STOCK = {"maker_fee_bps": 0.278, "taker_fee_bps": 0.278, "half_spread_bps": 0.0}
PUBLISHED_COSTS = {"crypto": {"taker_fee_bps": 15.0}, "stock": AS_STOCK, "SOLUSD": AS_STOCK, "LINKUSD": AS_STOCK}
# Window: the part of the protocol it is, and the protocol. All three share one sealed holdout, the last fifth.
WINDOWS = {
    "ten days": ("search", Protocol(folds=1, tune="10d")),
    "tune": ("search", Protocol(folds=1)),
    "holdout": ("holdout", Protocol(folds=1)),
}


@dataclass(frozen=True, eq=False)
class Step:
    """What holds from a step on.

    Attributes:
        name: What it replaces.
        label: The same for the picture.
        profile: The simulator.
        changes: Parameters other than the profile's and the configuration's.
        costs: Fees by symbol or class; None for the defaults.
        window: One of `WINDOWS`.
    """

    name: str
    label: str
    profile: str = "realistic"
    changes: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] | None = None
    window: str = "ten days"


FREE = {"fill_buffer": 0.0, "slippage": 0.0}
STEPS = (
    Step("published rules", "published\nrules", "legacy", {}, PUBLISHED_COSTS),
    Step("lag 1: fill a bar later", "lag 1: fill\na bar later", "legacy", {"lag": 1}, PUBLISHED_COSTS),
    Step("rank, then see what fills", "rank, then\nsee what fills", "legacy", {"lag": 1, "fillable_only": False}, PUBLISHED_COSTS),
    Step("realistic order of events", "realistic order\nof events", changes=FREE, costs=PUBLISHED_COSTS),
    Step("trade through by 5 bps", "trade through\nby 5 bps", changes={"slippage": 0.0}, costs=PUBLISHED_COSTS),
    Step("real fees and slippage", "real fees\nand slippage"),
    Step("the whole tune period", "whole tune\nperiod", window="tune"),
    Step("the sealed holdout", "sealed\nholdout", window="holdout"),
)


@dataclass(frozen=True, eq=False)
class Walk:
    """The walks of many markets.

    Attributes:
        growth: Log growth per ten days, (markets, steps).
        trades: Round trips per ten days, (markets, steps).
        days: Length of each step's window, (steps,).
    """

    growth: np.ndarray
    trades: np.ndarray
    days: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Mean log growth at each step, (steps,)."""
        return self.growth.mean(axis=0)

    @property
    def change(self) -> np.ndarray:
        """What each step did in the mean, (steps,); the first is what there was. They add up to the last level."""
        return np.diff(self.level, prepend=0.0)

    @property
    def error(self) -> np.ndarray:
        """Standard error of `change`, (steps,); NaN with one market. Markets are paired: the same one before and after."""
        markets = len(self.growth)
        if markets == 1:
            return np.full(len(self.days), np.nan)
        return np.diff(self.growth, axis=1, prepend=0.0).std(axis=0, ddof=1) / markets**0.5


def walk(market: int, signal: float, logits: Sequence[float] = MIDPOINT) -> np.ndarray:
    """Walks one market.

    Args:
        market: Seed of the market.
        signal: Strength of the planted drift.
        logits: The fixed actions.

    Returns:
        float64 (3, steps): log growth and trades per ten days, days of the window.
    """
    panel = sample_panel(bars=BARS, seed=market, signal=signal)
    trainable, grid, prepared, found = SelectorTrainable(), GRID, {}, []
    for step in STEPS:
        key = (step.profile, step.costs is None, step.window)
        if key not in prepared:
            charged = replace(panel, assets=make_assets(panel.symbols, step.costs))
            part, protocol = WINDOWS[step.window]
            settings = {"profile": step.profile, "forecast_window": 48, "logits": list(logits)}
            prepared[key] = trainable.prepare_panel(charged, settings, protocol, part)
        made = prepared[key]
        [inputs], cash = made.inputs.parts, made.inputs.initial_cash
        table = encode([{**made.defaults, **point, **step.changes} for point in grid], step.profile)
        result = evaluate(inputs, table, profile=step.profile, initial_cash=cash, equity=True)
        assert result.equity is not None
        growth = np.log(result.equity.iloc[-1].to_numpy() / cash)
        best = int(growth.argmax())
        grid = [grid[best]]  # the first sweep chooses; from then on there is one configuration
        days = inputs.panel.n_bars / 24
        found.append((growth[best] * SPAN / days, result.metrics["trades"][best] * SPAN / days, days))
    return np.array(found).T


def measure(markets: Iterable[int], signal: float, logits: Sequence[float] = MIDPOINT) -> Walk:
    """Walks every market."""
    growth, trades, days = np.stack([walk(market, signal, logits) for market in markets], axis=1)
    return Walk(growth, trades, days[0])


def percent(growth: float) -> str:
    """Formats log growth as the return it is."""
    rounded = round(100 * float(np.expm1(growth)))
    return signed(f"{rounded:+,} %") if rounded else "0 %"


def effect(growth: float) -> str:
    """Formats log growth as it is."""
    rounded = round(float(growth), 2)
    return signed(f"{rounded:+.2f}") if rounded else "0.00"


def signed(number: str) -> str:
    """Gives a number a proper minus sign."""
    return number.replace("-", "−")


def rows(walk: Walk) -> list[tuple[str, ...]]:
    """Returns the table's rows: name, days, trades, median return, its range over markets, mean change in log growth."""
    made = []
    for i, step in enumerate(STEPS):
        low, high = percent(walk.growth[:, i].min()).removesuffix(" %"), percent(walk.growth[:, i].max())
        change = effect(walk.change[i]) + (f" ± {walk.error[i]:.2f}" if np.isfinite(walk.error[i]) else "")
        trades, middle = (np.median(x[:, i]) for x in (walk.trades, walk.growth))
        made.append((step.name, f"{walk.days[i]:.0f}", f"{trades:.0f}", percent(middle), f"{low} to {high}", change))
    return [*made, ("sum", "", "", "", "", effect(walk.level[-1]))]


def whole(walk: Walk) -> str:
    """Returns what the whole holdout returned, in the median market."""
    return percent(float(np.median(walk.growth[:, -1])) * walk.days[-1] / SPAN)


def report(walk: Walk, signal: float) -> Table:
    """Makes the table of one strength of the signal."""
    title = f"Per ten days, signal {signal:g}, seeds 1 to {len(walk.growth)}"
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    for place, head in enumerate(("rules, cumulative", "days", "trades", "median", "range", "change in log")):
        made.add_column(head, justify="right" if place else "left")
    for row in rows(walk):
        made.add_row(*row)
    return made


def draw(kept: Walk, null: Walk, out: Path) -> None:
    """Draws the waterfall of the market with the signal, and the levels without it."""
    import matplotlib as mpl
    from PIL import Image

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter

    loss, gain, honest, published = "#E69F00", "#56B4E9", "#0072B2", "#D55E00"  # Okabe and Ito: told apart by the colour-blind
    style: dict[Any, Any] = {"font.size": 11, "axes.spines.top": False, "axes.titlesize": 11.5, "axes.titlelocation": "left"}
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    level, last = kept.level, len(STEPS)
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(12, 5.5), layout="constrained")
        axes.bar([0, last], [level[0], level[-1]], 0.66, color=[published, honest])
        for i, (before, after) in enumerate(pairwise(level), start=1):
            axes.bar(i, after - before, 0.66, bottom=before, color=gain if after > before else loss)
            text = effect(after - before)
            axes.annotate(text, (i, max(before, after)), xytext=(0, 5), textcoords="offset points", ha="center", bbox=white)
        for i, height in enumerate((*level, level[-1])):
            axes.plot([i - 0.33, min(i + 1.33, last + 0.33)], [height, height], color="black", linewidth=0.8)
        for i, height, colour in ((0, level[0], published), (last, level[-1], honest)):
            text = f"{percent(height)}\n({effect(height)})"
            spot: dict[str, Any] = dict(xytext=(0, 5 if height > 0 else -5), va="bottom" if height > 0 else "top")
            axes.annotate(text, (i, height), textcoords="offset points", ha="center", color=colour, fontweight="bold", **spot)
        axes.plot(range(last), null.level, "D", color="#444444", markerfacecolor="white", markersize=6, label="without a signal")
        axes.axhline(0, color="black", linewidth=0.8)
        labels = [step.label for step in STEPS] + ["honest\nresult"]
        axes.set_xticks(range(last + 1), labels, fontsize=10)
        for i, colour in ((0, published), (last, honest)):
            axes.get_xticklabels()[i].set(color=colour, fontweight="bold")
        axes.tick_params(axis="x", length=0)
        low = min(level.min(), null.level.min())
        axes.set_ylim(low - 0.13, max(level[0], null.level[0]) + 0.12)
        axes.set_ylabel("log growth in ten days (adds up)")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: signed(f"{y:g}")))
        other = axes.secondary_yaxis("right")
        other.yaxis.set_major_locator(FixedLocator(list(np.log1p([-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5]))))
        other.yaxis.set_major_formatter(FuncFormatter(lambda y, _: percent(y)))
        other.set_ylabel("return in ten days")
        axes.legend(loc="upper right", frameon=False)
        axes.set_title(f"Mean of {len(kept.growth)} markets with a planted signal; each bar is what one more honest rule did")
        figure.suptitle("From the published rules to the honest result", x=0.01, ha="left", fontweight="bold")
        out.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        figure.savefig(buffer, dpi=100)
        Image.open(buffer).convert("RGB").quantize(64).save(out, optimize=True)
        plt.close(figure)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30, metavar="N", help="number of markets (seeds 1 to N)")
    parser.add_argument(
        "--logits",
        type=float,
        nargs=4,
        default=MIDPOINT,
        metavar=("BUY", "SELL", "β", "γ"),
        help="fixed actions; default 0 0 2 2, midpoint",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img" / "walk.png", help="picture to draw")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds: {options.seeds}; give at least 1")
    kept, null = (measure(range(1, options.seeds + 1), signal, options.logits) for signal in (SIGNAL, 0.0))
    console = Console()
    console.print(report(kept, SIGNAL))
    console.print(report(null, 0.0))
    console.print(f"all {kept.days[-1]:.0f} sealed days, median: {whole(kept)} with the signal, {whole(null)} without", highlight=False)
    draw(kept, null, options.out)
    console.print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
