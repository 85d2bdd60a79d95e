"""Pages are tested in a real browser; where there is none, tests that need one are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results.pages import page as pages
from results.pages.grid import Column

COLUMNS = (
    Column("trial", "Trial", "integer"),
    Column("sharpe", "Sharpe", "number", digits=2, direction="max", help="Annualised; n/a below 60 days."),
    Column("total_return", "Return", "percent", digits=1, direction="max"),
    Column("max_drawdown", "Max drawdown", "percent", digits=1, direction="max"),
    Column("deflated", "Deflated Sharpe", "number", digits=3, direction="max", rounding="down"),
    Column("trades", "Trades", "integer"),
    Column("win_rate", "Win rate", "percent", digits=1),
    Column("exposure", "Exposure", "percent", digits=0),
    Column("fee", "Fee", "number", unit="bps"),
    Column("min_edge", "Min edge", "number"),
    Column("hold", "Hold", "integer", unit="bars"),
    Column("learning_rate", "Learning rate", "number"),
    Column("rank", "LoRA rank", "integer"),
    Column("optimizer", "Optimizer"),
    Column("universe", "Universe"),
    Column("seconds", "Duration", "seconds", direction="min"),
    Column("sortino", "Sortino", "number", digits=2, direction="max"),
    Column("turnover", "Turnover", "number", digits=1),
    Column("status", "Status", tones={"completed": "good", "stopped": "muted", "failed": "bad"}),
    Column("config_id", "Configuration", hidden=True),
)


def trials(count: int, seed: int = 0) -> pd.DataFrame:
    """A table such as a study gives: 20 columns, some values missing."""
    rng = np.random.default_rng(seed)
    sharpe = rng.normal(0.4, 0.9, count)
    sharpe[rng.random(count) < 0.07] = np.nan
    return pd.DataFrame(
        {
            "trial": np.arange(count),
            "sharpe": sharpe,
            "total_return": sharpe * 0.11 + rng.normal(0, 0.05, count),
            "max_drawdown": -np.abs(rng.normal(0.12, 0.06, count)),
            "deflated": np.clip(rng.beta(2, 3, count), 0, 0.999),
            "trades": rng.poisson(240, count),
            "win_rate": rng.beta(30, 28, count),
            "exposure": rng.beta(5, 3, count),
            "fee": rng.choice([1.0, 2.5, 5.0, 10.0], count),
            "min_edge": rng.choice([0.002, 0.004, 0.006, 0.008], count),
            "hold": rng.integers(4, 48, count),
            "learning_rate": 10 ** rng.uniform(-5, -2, count),
            "rank": rng.choice([8, 16, 32, 64], count),
            "optimizer": rng.choice(["adamw", "lion", "sgd"], count),
            "universe": rng.choice(["crypto-20", "us-large-100", "etf-core"], count),
            "seconds": rng.exponential(40, count),
            "sortino": sharpe * 1.4 + rng.normal(0, 0.1, count),
            "turnover": rng.gamma(3, 2, count),
            "status": rng.choice(["completed", "stopped", "failed"], count, p=[0.85, 0.12, 0.03]),
            "config_id": [f"{number:016x}" for number in rng.integers(0, 2**62, count)],
        }
    )


class Opened:
    """A page in the browser, and what went wrong on it."""

    def __init__(self, browser: Any, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **settings})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.add_init_script("addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))")

    def show(self, html: str, folder: Path) -> Any:
        file = folder / "page.html"
        file.write_text(html, encoding="utf-8")
        self.page.goto(file.as_uri())
        self.page.evaluate("Promise.all([...document.querySelectorAll('.grid')].map((element) => element.grid.ready))")
        return self.page


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    made: list[Opened] = []

    def make(**settings: Any) -> Opened:
        made.append(Opened(browser, **settings))
        return made[-1]

    yield make
    for one in made:
        one.context.close()


@pytest.fixture(scope="module")
def script(browser: Any) -> Iterator[Any]:
    """Runs an expression with the page's own functions: `script("written(value, column)", value=1.5, column={…})`."""
    page = browser.new_page()
    folder = Path(pages.__file__).parent
    source = "\n".join((folder / name).read_text() for name in ("format.js", "filters.js", "order.js", "unpack.js", "csv.js"))

    def run(expression: str, **given: Any) -> Any:
        names = ", ".join(given)
        body = f"{source}\nreturn (async ({{{names}}}) => ({expression}))(given)"
        return page.evaluate("([body, given]) => new Function('given', body)(given)", [body, given])

    yield run
    page.close()
