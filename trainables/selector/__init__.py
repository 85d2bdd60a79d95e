"""The selector: which symbols to hold, decided from forecast edge, simulated order by order (docs/fills.md)."""

from trainables.selector.simulate import SelectorResult, simulate
from trainables.selector.trainable import SelectorTrainable

__all__ = ["SelectorResult", "SelectorTrainable", "simulate"]
