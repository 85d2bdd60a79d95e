"""Which configurations exist and which comes next: the space language, grids of any size, samplers.

A space is a mapping from parameter names to

- a list: an axis of the grid; a scalar: a constant;
- `{choice: […]}`: categories; `{grid: […]}`: a list that can carry `when`;
- `{uniform: [a, b]}`, `{loguniform: [a, b]}`: continuous, or N values with `points: N`;
- `{int: [a, b]}`: whole numbers, both bounds included, with `step: s` or `log: true` (even in the logarithm when sampled);
- `{derived: "2 * rank"}`: computed from other parameters.

Any of these mappings may carry `when: "mode == 'atr' and k > 1"`: the parameter exists only where that holds. What
refers to a parameter that does not exist does not hold, and is not derived either.
"""

from __future__ import annotations

from search_spaces.errors import SpaceError
from search_spaces.samplers import SAMPLERS, Sampler, make_sampler
from search_spaces.space import Row, Space

__all__ = ["SAMPLERS", "Row", "Sampler", "Space", "SpaceError", "make_sampler"]
