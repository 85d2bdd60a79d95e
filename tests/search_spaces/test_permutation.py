from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.permutation import Permutation


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), st.integers())
def test_it_is_a_bijection_of_every_size(size: int, seed: int) -> None:
    assert sorted(Permutation(size, seed)(np.arange(size)).tolist()) == list(range(size))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(2**20, 2**200), st.sampled_from([2**62 - 1, 2**62, 2**62 + 1, 2**63, 2**64 + 1, 2**128, 2**130 + 1])),
    st.integers(0, 9),
    st.data(),
)
def test_images_are_distinct_inside_and_the_same_one_by_one(size: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 64))
    order = Permutation(size, seed)
    images = order(np.arange(start, start + 64, dtype=object)).tolist()
    assert len(set(images)) == 64 and all(0 <= i < size for i in images)
    assert [int(order(np.array([i], dtype=object))[0]) for i in range(start, start + 8)] == images[:8]


@pytest.mark.parametrize("size", [5, 7, 24])
def test_the_first_two_places_are_uniform_over_seeds(size: int) -> None:
    n = 3000
    images = [tuple(Permutation(size, seed)(np.arange(2)).tolist()) for seed in range(n)]
    for place in (0, 1):
        counts = Counter(image[place] for image in images)
        chi2 = sum((counts[k] - n / size) ** 2 / (n / size) for k in range(size))
        assert chi2 < (size - 1) + 5 * (2 * (size - 1)) ** 0.5
    assert len(set(images)) > 0.95 * min(size * (size - 1), n)
