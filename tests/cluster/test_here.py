from __future__ import annotations

import numpy as np

from cluster.here import run_here
from cluster.packs import PackResult, PackTask


class Feed:
    def __init__(self, *packs: tuple[int, ...]):
        self.left, self.got = [PackTask(i, points) for i, points in enumerate(packs)], []

    def next(self) -> PackTask | None:
        return self.left.pop(0) if self.left else None

    @property
    def exhausted(self) -> bool:
        return not self.left

    @property
    def ahead(self) -> bool:
        return False

    def deliver(self, result: PackResult) -> None:
        self.got.append(result)

    def crashed(self, attempt: int, error: str) -> None:
        raise AssertionError(error)


def squares(points, inputs):
    if 3 in points:
        raise ValueError("three")
    return np.array([[inputs * p * p] for p in points], float)


def test_packs_are_evaluated_one_after_another_and_what_fails_stands_alone() -> None:
    feed = Feed((1, 2), (3, 4))
    assert run_here(feed, squares, 2.0, 1, seconds=60.0)
    first, second = feed.got
    assert first.metrics.ravel().tolist() == [2.0, 8.0] and first.errors == {} and first.attempt == 0
    assert np.isnan(second.metrics[0, 0]) and second.metrics[1, 0] == 32.0 and second.errors == {0: "ValueError: three"}


def test_what_time_does_not_allow_is_left() -> None:
    feed = Feed((1,), (2,))
    assert not run_here(feed, squares, 1.0, 1, seconds=0.0)
    assert feed.got == [] and len(feed.left) == 2
