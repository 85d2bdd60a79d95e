"""Times forecast tables: rolling origins a second beside a loop over chronos-forecasting's own pipeline.

    python benchmarks/forecasts.py                 # 200 origins, the embedded model, context 512, one thread
    python benchmarks/forecasts.py --origins 1000 --json forecasts.json

An origin is an issue time of one symbol: p10, p50 and p90 of open, high, low and close, 1, 4, 12 and 24 bars ahead. Three ways to get
them, each from the same model in the same process, by turns:

* ours: `issue`, from the panel to the repaired table.
* one call per origin and horizon: what builds a cache of one file per horizon.
* one call per origin: once for the furthest horizon, of which the nearer ones are steps.

The last two are `Chronos2Pipeline.predict_quantiles` on one window (4 variates) at a time, without guard or repair. What the pipeline
predicts must be ours to the rounding of float32 once its quantiles are in order, or the program stops. (Asked for 1, 4 or 12 bars alone it
answers a little otherwise than for 24, up to 3 in 10,000 here: the model then has one output patch instead of two.)
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from trainables.chronos2.forecaster import Chronos2  # noqa: E402
from trainables.chronos2.model import load_base  # noqa: E402
from trainables.forecast import HORIZONS, QUANTILES, Forecasts, issue  # noqa: E402
from trainables.market import Panel, sample_panel  # noqa: E402
from trainables.market.panel import PRICES  # noqa: E402
from trainables.timeline import Window  # noqa: E402

TOLERANCE = 1e-5  # of a price


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--origins", type=int, default=200, help="origins of ours; the loops get a tenth of them, at least 5")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-rows", type=int, default=64)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    panel = sample_panel(["BTCUSD"], bars=given.context + given.origins)
    forecaster = Chronos2(context=given.context, batch_rows=given.batch_rows, device="cpu")
    window = Window(given.context, given.context + given.origins)
    pipeline = load_base("small", device="cpu", dtype="float32")
    few = np.linspace(*window, max(5, given.origins // 10), endpoint=False).astype(int)
    ways: dict[str, Any] = {
        "ours": (given.origins, lambda: issue(panel, forecaster, window)),
        "one call per origin and horizon": (len(few), lambda: loop(pipeline, panel, few, given.context, each=True)),
        "one call per origin": (len(few), lambda: loop(pipeline, panel, few, given.context, each=False)),
    }
    made = {name: work() for name, (_, work) in ways.items()}  # warms up
    check(made["ours"], pipeline, panel, few, given.context)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.repeats):
        for name, (_, work) in ways.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    rates = {name: count / float(np.median(seconds[name])) for name, (count, _) in ways.items()}
    found = {
        "rates": rates,
        "ratios": {name: rates["ours"] / rate for name, rate in rates.items()},
        "seconds": seconds,
        "origins": {name: count for name, (count, _) in ways.items()},
        "context": given.context,
        "batch_rows": given.batch_rows,
        "machine": {"processor": processor(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "chronos-forecasting", "numpy")},
    }
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def loop(pipeline: Any, panel: Panel, rows: np.ndarray, context: int, each: bool) -> np.ndarray:
    """Forecasts one window at a time, float64 (n, H, 4, 3); with `each` one call per horizon."""
    out = np.empty((len(rows), len(HORIZONS), len(PRICES), len(QUANTILES)))
    bars = np.stack([getattr(panel, name)[:, 0] for name in PRICES]).astype(np.float32)
    for i, row in enumerate(rows):
        past = bars[None, :, row + 1 - context : row + 1]
        for k, h in enumerate(HORIZONS) if each else [(slice(None), max(HORIZONS))]:
            quantiles = pipeline.predict_quantiles(past, h, list(QUANTILES), context_length=context)[0][0].numpy()
            out[i, k] = quantiles[:, h - 1] if each else quantiles[:, [ahead - 1 for ahead in HORIZONS]].transpose(1, 0, 2)
    return out


def check(ours: Forecasts, pipeline: Any, panel: Panel, rows: np.ndarray, context: int) -> None:
    """Stops unless open and close, which the guard only puts in order, are what the pipeline predicts."""
    bars = np.stack([getattr(panel, name)[:, 0] for name in PRICES]).astype(np.float32)
    chosen = [pipeline.quantiles.index(level) for level in QUANTILES]
    for row in rows:
        theirs = np.sort(pipeline.predict(bars[None, :, row + 1 - context : row + 1], max(HORIZONS))[0].numpy(), axis=1)[:, chosen]
        for h in HORIZONS:
            for f, field in ((0, "open"), (3, "close")):
                mine = [ours.quantile(field, level, h)[row, 0] for level in QUANTILES]
                if not ours.heuristic(h)[row, 0] and not np.allclose(mine, theirs[f, :, h - 1], rtol=TOLERANCE):
                    raise SystemExit(f"{field}, row {row}, {h} bars ahead: {mine} differs from the pipeline's {theirs[f, :, h - 1]}")


def show(found: dict[str, Any]) -> None:
    title = f"rolling origins, embedded model, context {found['context']}, one thread"
    table = Table(title=title, caption="CPU seconds of the process, medians; OHLC, p10/p50/p90, 1, 4, 12 and 24 bars ahead")
    table.add_column("")
    for heading in ("origins/s", "ours is × faster", "origins timed"):
        table.add_column(heading, justify="right")
    for name, rate in found["rates"].items():
        ratio = "" if name == "ours" else f"{found['ratios'][name]:.1f}"
        table.add_row(name, f"{rate:,.1f}", ratio, f"{found['origins'][name]:,}")
    Console().print(table)


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
