"""The selector: which symbols to hold, decided from forecast edge, simulated order by order (docs/fills.md)."""

from pathlib import Path

from trainables.kernel_cache import kernels_of

with kernels_of(Path(__file__).parent):
    from trainables.selector import account, candidates, legacy, realistic, tally  # noqa: F401

from trainables.selector.simulate import SelectorResult, simulate
from trainables.selector.trainable import SelectorTrainable

__all__ = ["SelectorResult", "SelectorTrainable", "simulate"]
