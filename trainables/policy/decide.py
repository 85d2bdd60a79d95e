"""What a policy decides: its networks run over windows that end at each bar, as they would be live, and what becomes of it.

Only the last step of a window counts: in training every step of a window decides, but the first ones know less than a policy that runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from trainables.policy.data import Series
from trainables.policy.decode_torch import Orders, decode_logits
from trainables.policy.losses import make_loss
from trainables.policy.nets import PolicyNet
from trainables.policy.options import Chosen
from trainables.policy.soft import simulate

BATCH: Final = 128  # windows of every forward pass: larger ones leave the cache, fewer may round otherwise, and a live bar is but one
TRIMMED: Final = 0.2  # share of the answers left out on either side of the mean (SPEC F.4)


def logits_at(
    nets: Sequence[PolicyNet], features: np.ndarray, depth: np.ndarray, places: np.ndarray, contexts: Sequence[int]
) -> np.ndarray:
    """Returns what networks answer at the end of windows, the trimmed mean over networks and window lengths.

    An answer's bits do not depend on how many windows are asked about together.

    Args:
        nets: In eval mode.
        features: float32 (N, F), a symbol's bars in a row.
        depth: int64 (N,), valid bars in a row up to each.
        places: int64 (n,), where windows end.
        contexts: Lengths of the windows.

    Returns:
        float32 (n, 4); NaN where a window is not whole.
    """
    device = next(nets[0].parameters()).device
    whole = np.flatnonzero(depth[places] >= max(contexts))
    out = np.full((len(places), 4), np.nan, np.float32)
    source = torch.from_numpy(features)
    with torch.inference_mode():
        for start in range(0, len(whole), BATCH):
            rows = whole[start : start + BATCH]
            ends = np.resize(places[rows], BATCH)  # filled up with windows that are there already
            answers = []
            for length in contexts:
                # An mlp's last step sees so many bars and no more.
                seen = min(length, nets[0].spec.window) if nets[0].spec.arch == "mlp" else length
                windows = source[torch.from_numpy(ends[:, None] + np.arange(1 - seen, 1))].to(device)
                answers += [net(windows)[:, -1, :4].float() for net in nets]
            out[rows] = _trimmed(torch.stack(answers)).cpu().numpy()[: len(rows)]
    return out


def _trimmed(answers: torch.Tensor) -> torch.Tensor:
    if len(answers) == 1:
        return answers[0]
    cut = int(TRIMMED * len(answers))
    return answers.sort(0).values[cut : len(answers) - cut].mean(0)


@dataclass(frozen=True, eq=False)
class Decisions:
    """Orders decided at the end of bars of a `Series`.

    Attributes:
        places: int64 (n,) positions in the series.
        orders: float64 (4, n): buy price, sell price, buy amount, sell amount; NaN where there is no decision.
    """

    places: np.ndarray
    orders: np.ndarray


def decide(nets: Sequence[PolicyNet], series: Series, chosen: Chosen, places: np.ndarray) -> Decisions:
    """Runs a policy; an amount below `least_amount` is 0."""
    c = chosen.config
    logits = logits_at(nets, series.features, series.depth, places, chosen.contexts)
    close, _, _, low, high = (torch.from_numpy(x[places][None].astype(np.float64)) for x in series.market)
    made = decode_logits(torch.from_numpy(logits)[None], close, low, high, mode=c["decode"], offset=c["decode_offset"])
    orders = np.stack([x[0].numpy() for x in made])
    orders[2:][orders[2:] < c["least_amount"]] = 0.0
    return Decisions(places, orders)


def validate(decisions: Decisions, series: Series, chosen: Chosen) -> list[tuple[float, float]]:
    """Trades each symbol alone with all the money, whole fills (SPEC F.6): (sortino, return) of every symbol that has bars."""
    c, found = chosen.config, []
    for a in np.unique(series.symbol[decisions.places]):
        mine = series.symbol[decisions.places] == a
        places = decisions.places[mine]
        if len(places) <= c["lag"]:
            continue
        close, high, low = (torch.from_numpy(x[places][None].astype(np.float64)) for x in series.market[:3])
        orders = Orders(*(torch.from_numpy(x[mine][None]) for x in decisions.orders))
        made = simulate(
            close,
            high,
            low,
            *orders,
            fee=float(series.fee[a] * c["cost_multiplier"]),
            temperature=0.0,
            fill_buffer=c["fill_buffer"],
            lag=c["lag"],
            leverage=c["leverage"],
            can_long=bool(series.can_long[a]),
            can_short=bool(series.can_short[a] and c["allow_short"]),
            margin_rate=c["margin_rate"] if c["leverage"] > 1.0 else 0.0,
            hours=torch.from_numpy(series.hours[places][None].astype(np.float64)),
        )
        sortino = make_loss({"name": "sortino", "return_weight": 0.0}).scores(made.returns, float(series.periods[a]), made.present)
        found.append((float(sortino[0]), float(made.equity[0, -1]) - 1.0))
    return found


def selector_orders(decisions: Decisions, series: Series, shape: tuple[int, int], config: Mapping[str, Any], p50: np.ndarray) -> np.ndarray:
    """Puts decisions where the selector reads them.

    Args:
        decisions: Of a fold.
        series: The fold.
        shape: Rows and symbols of the panel.
        config: A complete configuration.
        p50: float64 (3, rows, symbols), forecast high, low and close, for `rank: forecast`.

    Returns:
        float64 (7, rows, symbols), as `SelectorInputs.orders`. With `rank: amount` forecasts are such that, under edge_mode high, a
        candidate's score after costs is its amount.
    """
    out = np.full((7, *shape), np.nan)
    rows, symbol = series.rows[decisions.places], series.symbol[decisions.places]
    out[:4, rows, symbol] = decisions.orders
    if config["rank"] == "forecast":
        out[4:] = p50
        return out
    cost = 2.0 * series.fee[symbol] * config["cost_multiplier"]
    buy, sell = decisions.orders[0] * (1.0 - config["offset"]), decisions.orders[1] * (1.0 + config["offset"])
    sell = np.maximum(sell, buy)
    out[4, rows, symbol] = buy * (2.0 + cost)  # (ph − b)/b − 2f = 1
    out[5, rows, symbol] = -sell * cost  # (s − pl)/s − 2f = 1
    out[6, rows, symbol] = decisions.orders[0]
    return out
