"""What people call the metrics: names and spellings, and which of ours each one is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from results.metrics import Direction, Metric
from sweeps.history.cells import clean, plain


@dataclass(frozen=True)
class Known:
    """A metric that is recognised by its name.

    Attributes:
        metric: As it is kept: our own where we have it.
        most: Largest size a value can have as a share of one; a larger one was written in percent without saying so.
        depth: Whether it is kept as a fall, ≤ 0, however it was written.
        percent: Name of what it is instead where the column is in percent.
        money: Name of what it is instead where the column is in money.
    """

    metric: Metric
    most: float | None = None
    depth: bool = False
    percent: str = ""
    money: str = ""


def _known(
    name: str,
    direction: Direction | None,
    unit: str,
    *,
    most: float | None = None,
    depth: bool = False,
    percent: str = "",
    money: str = "",
) -> Known:
    return Known(Metric(name, direction, unit), most, depth, percent, money)


# Our metric, and what else it is called; words, because "max_drawdown", "Max Drawdown" and "maxDrawdown" are the same words.
_TABLE: Final[tuple[tuple[Known, str], ...]] = (
    (
        _known("total_return", "max", "fraction", money="pnl"),
        "total return|total returns|totalreturn|return|returns|ret|rets|total ret|cum return|cumulative return|net return|roi|profit pct",
    ),
    (
        _known("annualised_return", "max", "fraction"),
        "annualised return|annualized return|annual return|annualised returns|annualized returns|annual returns|"
        "ann return|ann ret|cagr|yearly return",
    ),
    (_known("pnl", "max", "USD", percent="total_return"), "pnl|profit|net profit|total pnl|realised pnl|realized pnl|net pnl"),
    (_known("final_equity", "max", "USD"), "final equity|ending equity|final balance|ending balance|final value|final portfolio value"),
    (_known("final_cash", None, "USD"), "final cash|ending cash"),
    (_known("sharpe", "max", "ratio"), "sharpe|sharpe ratio|sharperatio|sharpe r"),
    (_known("sortino", "max", "ratio"), "sortino|sortino ratio|sortinoratio"),
    (_known("calmar", "max", "ratio"), "calmar|calmar ratio"),
    (_known("omega", "max", "ratio"), "omega ratio"),
    (
        _known("max_drawdown", "max", "fraction", most=1.0, depth=True),
        "max drawdown|maximum drawdown|max draw down|maxdrawdown|max dd|maxdd|mdd|drawdown|dd",
    ),
    (_known("win_rate", "max", "fraction", most=1.0), "win rate|winrate|win ratio|win pct|win percentage|wins pct|winning trades pct"),
    (
        _known("trades", None, "count"),
        "trades|num trades|n trades|no trades|no of trades|number of trades|trade count|total trades|numtrades",
    ),
    (_known("profit_factor", "max", "ratio"), "profit factor|profitfactor|pf"),
    (_known("exposure", None, "fraction", most=1.0), "exposure|time in market"),
    (_known("turnover", None, "×"), "turnover"),
    (_known("volatility", "min", "fraction"), "volatility"),
    (_known("expectancy", "max", "fraction", money="expectancy_usd"), "expectancy"),
    (_known("expectancy_usd", "max", "USD"), "expectancy usd"),
    (_known("payoff", "max", "ratio"), "payoff|payoff ratio"),
    (_known("smoothness", "min", "fraction"), "smoothness|pnl smoothness"),
    (_known("ulcer_index", "min", ""), "ulcer|ulcer index"),
    (_known("worst_fold", "max", "fraction"), "worst fold"),
    (_known("folds_won", "max", "count"), "folds won"),
    (_known("return_worst", "max", "fraction"), "return worst|worst return"),
    (_known("return_p25", "max", "fraction"), "return p25|p25 return"),
    (_known("return_mean", "max", "fraction"), "return mean|mean return"),
    (_known("sortino_worst", "max", "ratio"), "sortino worst|worst sortino"),
    (_known("sortino_p25", "max", "ratio"), "sortino p25|p25 sortino"),
    (_known("robust_score", "max", ""), "robust score"),
    (_known("selection_score", "max", ""), "selection score"),
    (_known("lag_score", "max", ""), "lag score"),
    (_known("goodness", "max", ""), "goodness|goodness score"),
    (_known("score", "max", ""), "score"),
    (_known("val_loss", "min", ""), "val loss|validation loss|valid loss|valloss"),
    (_known("eval_loss", "min", ""), "eval loss|evaluation loss|evalloss"),
    (_known("test_loss", "min", ""), "test loss|testloss"),
    (_known("train_loss", None, "ratio"), "train loss|training loss|trainloss"),
    (_known("loss", "min", ""), "loss"),
    (_known("mae", "min", "", percent="mae_percent"), "mae|mean absolute error"),
    (_known("mae_percent", "min", "%"), "mae percent"),
    (_known("rmse", "min", ""), "rmse|root mean squared error"),
    (_known("mse", "min", ""), "mse|mean squared error"),
    (_known("mape", "min", "fraction"), "mape|smape"),
    (_known("r2", "max", ""), "r2|r squared"),
    (_known("skill", "max", "fraction"), "skill"),
    (_known("skill_mae", "max", "fraction"), "skill mae"),
    (_known("crps", "min", "fraction"), "crps"),
    (_known("wql", "min", "fraction"), "wql|weighted quantile loss"),
    (_known("pinball", "min", "fraction"), "pinball|pinball loss|quantile loss"),
    (
        _known("sign_accuracy", "max", "fraction", most=1.0),
        "sign accuracy|direction accuracy|directional accuracy|direction acc|dir acc|dir accuracy|hit rate",
    ),
    (_known("accuracy", "max", "fraction", most=1.0), "accuracy|acc"),
    (_known("ic", "max", "ratio"), "ic|information coefficient|rank ic"),
)
METRICS: Final[dict[str, Known]] = {known.metric.name: known for known, _ in _TABLE}
_PHRASES: Final[dict[tuple[str, ...], Known]] = {
    tuple(phrase.split()): known for known, phrases in _TABLE for phrase in (*phrases.split("|"), known.metric.name.replace("_", " "))
}
_LONGEST: Final = max(map(len, _PHRASES))

# Words beside a metric's name that say on what it was measured, and so make it another one: "val sharpe", "return 30d".
_BESIDE: Final = re.compile(
    r"\d{1,4}(?:h|hr|hrs|d|w|m|mo|y|yr|day|days|bars)?|p\d{1,2}|f\d|val|valid|validation|test|train|eval|oos|holdout|live|paper|mean|avg|"
    r"average|median|worst|best|final|last|net|gross|daily|hourly|monthly|weekly|cv|fold|out|of|in|sample"
)
_SAME: Final = {"valid": "val", "validation": "val", "avg": "mean", "average": "mean"}
_UNIT_WORDS: Final = {"%": "%", "pct": "%", "percent": "%", "perc": "%", "percentage": "%", "usd": "USD", "usdt": "USD", "bps": "bps"}
_UNIT: Final = re.compile(
    r"[(\[]\s*(%|pct|percent|bps|\$|€|£|usdt?|eur|x|×|ratio|fraction|s|secs?|seconds|min|minutes|h|hours)\s*[)\]]|(%)|(\$)", re.I
)
_UP: Final = re.compile(r"[↑▲]|[(\[]\s*(?:higher|more|larger)[^()\[\]]*[)\]]", re.I)
_DOWN: Final = re.compile(r"[↓▼]|[(\[]\s*(?:lower|less|smaller)[^()\[\]]*[)\]]", re.I)
_PNL: Final = re.compile(r"\b(?:p\s?&\s?l|p/l|pnl)\b", re.I)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD: Final = re.compile(r"[\W_]+")
_MOST_NAME: Final = 60


@dataclass(frozen=True)
class Label:
    """The heading of a column.

    Attributes:
        text: As it reads.
        name: In snake case, what a parameter of it is called; "" where there is none.
        words: Lower case, without units.
        unit: "%", "bps", "USD", "x", "s", "min", "h", or "" where it says none.
        direction: What an arrow in it says is better.
    """

    text: str
    name: str
    words: tuple[str, ...]
    unit: str = ""
    direction: Direction | None = None


def label(cell: str) -> Label:
    """Reads the heading of a column."""
    text = plain(cell)
    direction: Direction | None = "max" if _UP.search(text) else "min" if _DOWN.search(text) else None
    bare = _PNL.sub("pnl", _DOWN.sub(" ", _UP.sub(" ", text)))
    found = _UNIT.search(bare)
    unit = _unit(next(filter(None, found.groups()))) if found else ""
    rest = _UNIT.sub(" ", bare)
    words = [word for word in _NO_WORD.split(_CAMEL.sub(" ", rest).casefold()) if word]
    given = [word for word in words if word in _UNIT_WORDS]
    unit = unit or (_UNIT_WORDS[given[0]] if given else "")
    # A parameter keeps its unit in its name: `stop_loss_pct` is what its code calls it.
    named = rest if any(_NO_WORD.split(rest)) else bare.replace("%", " percent ").replace("$", " usd ")
    name = "_".join(word for word in _NO_WORD.split(named.casefold()) if word)[:_MOST_NAME].rstrip("_")
    return Label(text, name, tuple(word for word in words if word not in _UNIT_WORDS), unit, direction)


def recognise(heading: Label) -> tuple[Known, str] | None:
    """Returns which metric a column is by its heading, and the name to keep it by; None where it is none.

    The longest known phrase decides, if all other words say on what it was measured.
    """
    words = heading.words
    whole = tuple(word for word in _NO_WORD.split(heading.name) if word)  # ours have units in their names too
    for exact in (_PHRASES.get(whole), _PHRASES.get((*words, "pct")) if heading.unit == "%" else None):
        if exact is not None:
            return exact, exact.metric.name
    for size in range(min(_LONGEST, len(words)), 0, -1):
        for start in range(len(words) - size + 1):
            known = _PHRASES.get(words[start : start + size])
            beside = [*words[:start], *words[start + size :]]
            if known is not None and all(_BESIDE.fullmatch(word) for word in beside):
                where = "_".join([known.metric.name, *(_SAME.get(word, word) for word in beside)])
                return known, where[:_MOST_NAME]
    return None


def named(name: str) -> str:
    """Returns the name a column is known by, however it is spelt."""
    return label(name).name or clean(name)


def _unit(text: str) -> str:
    text = text.casefold()
    if text in _UNIT_WORDS:
        return _UNIT_WORDS[text]
    return {"$": "USD", "€": "USD", "£": "USD", "eur": "USD", "×": "x", "ratio": "", "fraction": ""}.get(text, text.rstrip("s")[:3] or "s")
