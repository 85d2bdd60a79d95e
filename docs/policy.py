"""Trains a policy on sample markets with a planted drift and without one, and shows what it earns on days it has not seen.

python docs/policy.py [--markets 5] [--signals 0.25 0] [--set arch=nano ...]

Each market is trained on and traded twice: up to the tune window, and up to the holdout. Nothing is chosen between the two. Costs are
the market's own (coins: 15 basis points for a limit that is waited for, 25 for one that is not), fills the selector's realistic ones.
Without a signal every step of a price has mean zero given the past, so there whatever is earned is luck, or a leak.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from results.validity.resampling import confidence_intervals
from trainables.contract import check_config
from trainables.policy.trainable import PolicyTrainable
from trainables.stepping import StepContext
from trainables.timeline import Protocol

SYMBOLS = ["BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD", "UNIUSD"]
BARS = 17_520  # two years of hours: 40 % of what is visible to train on, 60 % to tune on, then 20 % holdout
BLOCK = 5  # days of a bootstrap block; the planted drift has a half-life of two
PARTS = ("tune", "holdout")
CONFIG: dict[str, Any] = {"arch": "gru", "horizons": "none", "volume": False, "calendar": False, "volatility": False, "max_positions": 2}


@dataclass(frozen=True, eq=False)
class Traded:
    """What a trained policy did in a window.

    Attributes:
        signal: Planted in the market: information ratio per bar of someone who knows the drift.
        market: Seed of the market, and of the training.
        part: "tune" or "holdout".
        metrics: Of the last epoch.
        returns: Of each day.
        low, high: Block-bootstrap 95 % interval of the mean daily return.
        hold: Mean daily return of holding all symbols in equal parts, without costs.
        seconds: CPU time of training and scoring.
    """

    signal: float
    market: int
    part: str
    metrics: Mapping[str, float]
    returns: np.ndarray
    low: float
    high: float
    hold: float
    seconds: float


def trade(signal: float, market: int, part: str, changes: Mapping[str, Any], bars: int = BARS) -> Traded:
    """Trains and trades one market."""
    policy = PolicyTrainable()
    data = {"source": "sample", "bars": bars, "signal": signal, "seed": market, "symbols": SYMBOLS}
    prepared = policy.prepare(data, {}, Protocol(folds=1), "search" if part == "tune" else "holdout")
    config = {**prepared.defaults, **check_config(policy, {**CONFIG, **changes})}
    began = time.process_time()
    with TemporaryDirectory() as folder:
        *_, last = policy.evaluate(config, StepContext(prepared.inputs, Path(folder), seed=market))
    seconds = time.process_time() - began
    returns = np.asarray(last.returns, float)
    found = confidence_intervals(returns[:, None], periods_per_year=365.0, block=BLOCK, seed=market)["mean_return"]
    hold = float(np.mean(prepared.benchmarks["buy and hold"]))
    return Traded(signal, market, part, last.metrics, returns, float(found.low[0]), float(found.high[0]), hold, seconds)


def measure(signals: Sequence[float], markets: Sequence[int], changes: Mapping[str, Any], bars: int = BARS) -> list[Traded]:
    """Trades every market with every signal, in both parts."""
    return [trade(s, m, part, changes, bars) for s in signals for m in markets for part in PARTS]


def pooled(found: Sequence[Traded], signal: float, part: str) -> tuple[float, float, float]:
    """Mean daily return of all markets, with the interval of their mean: each market is one observation (Student's t)."""
    from scipy.stats import t

    means = np.array([x.returns.mean() for x in found if x.signal == signal and x.part == part])
    if len(means) < 2:
        return float(means.mean()), float("nan"), float("nan")
    half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return float(means.mean()), float(means.mean()) - half, float(means.mean()) + half


def show(found: Sequence[Traded]) -> Table:
    """Lays the figures out."""
    out = Table(box=box.SIMPLE)
    for title in ("signal", "market", "part", "% a day", "95 % interval", "total", "trades", "exposure", "held %/day", "CPU s"):
        out.add_column(title, justify="right")
    for x in found:
        cells = (f"{x.signal:g}", str(x.market), x.part, f"{100 * x.returns.mean():+.2f}", f"{100 * x.low:+.2f} to {100 * x.high:+.2f}")
        rest = (f"{x.metrics['total_return']:+.1%}", f"{x.metrics['trades']:.0f}", f"{x.metrics['exposure']:.0%}")
        out.add_row(*cells, *rest, f"{100 * x.hold:+.2f}", f"{x.seconds:.0f}")
    for signal in dict.fromkeys(x.signal for x in found):
        for part in PARTS:
            mean, low, high = pooled(found, signal, part)
            interval = f"{100 * low:+.2f} to {100 * high:+.2f}"
            out.add_row(f"{signal:g}", "all", part, f"{100 * mean:+.2f}", interval, "", "", "", "", "", style="bold")
    return out


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--markets", type=int, default=5, help="how many, seeds from 1")
    parser.add_argument("--signals", type=float, nargs="*", default=[0.25, 0.0])
    parser.add_argument("--bars", type=int, default=BARS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="parameters of the policy")
    options = parser.parse_args()
    changes = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in options.set)}
    Console(width=120).print(show(measure(options.signals, range(1, options.markets + 1), changes, options.bars)))


if __name__ == "__main__":
    main()
