"""How statistics are written: one form for a number wherever it is shown, rounded to the side that does not flatter."""

from __future__ import annotations

import math

NOT_AVAILABLE = "n/a"


def probability(value: float) -> str:
    """Return a deflated or probabilistic Sharpe ratio: three digits, rounded down, never 1.000.

    0.9499 must not read as the 0.95 it missed, and no sample makes a probability certain.
    """
    return NOT_AVAILABLE if math.isnan(value) else f"{min(math.floor(1000.0 * value + 1e-9) / 1000.0, 0.999):.3f}"


def p_value(value: float) -> str:
    """Return a p-value: two significant digits, rounded up, so that 0.0504 does not read as 0.05."""
    if math.isnan(value):
        return NOT_AVAILABLE
    if not 0.0 < value < 1.0:
        return f"{value:.2g}"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.2g}"


def share(value: float) -> str:
    """Return a share such as the PBO: two digits, rounded down, so that 0.497 does not read as the 0.50 it has not reached."""
    return NOT_AVAILABLE if math.isnan(value) else f"{math.floor(100.0 * value + 1e-9) / 100.0:.2f}"
