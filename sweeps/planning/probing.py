"""A short timed probe: a few points of a study evaluated here and now, and nothing of it kept."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeps.planning.estimate import Pace, Span
from sweeps.study import StudyError
from trainables import outputs

if TYPE_CHECKING:
    from cluster.cache import Store
    from cluster.cache.outputs import DiskOutputs
    from trainables.stepping import Report
    from trainables.tables import Build, Table

LOADED = Span(0.9, 1.5)  # a probe is alone; where every lane is busy, lanes share caches, memory and clock
TRIES = 3  # failing packs after which a probe gives up
REPEATS = 5
LARGEST = 4096
LONG = 1.0  # seconds of a pack that is large enough


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Separates seconds = fixed + each · size by two points: the mean of the smallest packs, and of the largest.

    Returns:
        Fixed seconds of a pack and seconds of each of its configurations, neither negative; of packs of one size all is in the latter.
    """
    n, s = np.asarray(sizes, float), np.asarray(seconds, float)
    few, many = n.min(), n.max()
    low, high = float(s[n == few].mean()), float(s[n == many].mean())
    if few == many or high <= low:
        return 0.0, high / float(many)
    each = (high - low) / float(many - few)
    fixed = max(0.0, low - each * float(few))
    return fixed, (high - fixed) / float(many)


def probe_packs(
    evaluate: Callable[[int, int], Any],
    size: int,
    seconds: float,
    seed: int = 0,
    told: Callable[[str], None] = lambda words: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Pace:
    """Times packs of 1, 4, 16, … neighbouring points, as a study makes them, until they take long enough or time is up.

    Args:
        evaluate: Evaluates points [start, stop) of the plan.
        size: Points of the plan.
        seconds: Not to be exceeded by much; the first evaluation, which loads and compiles, cannot be cut short.
        seed: Of where the packs begin.
        told: Gets words on how far it is.
        clock: Seconds.

    Raises:
        StudyError: Nothing could be evaluated.
    """
    rng, began, failed, made = np.random.default_rng(seed), clock(), 0, list[tuple[int, float]]()

    def timed(n: int) -> float | None:
        nonlocal failed
        start = int(rng.integers(0, size - n + 1))
        told(f"evaluating {n:,} of {size:,} configurations")
        at = clock()
        try:
            evaluate(start, start + n)
        except Exception as error:  # whatever a trainable raises: a run would count it as a failure, and go on
            failed += 1
            if failed >= TRIES and not made:
                raise StudyError(f"the first {failed} configurations failed, the last with {type(error).__name__}: {error}") from None
            return None
        taken = clock() - at
        made.append((n, taken))
        return taken

    while (first := timed(1)) is None:
        pass
    made.clear()
    n = 1
    while clock() - began + first < seconds and failed < TRIES:
        for _ in range(REPEATS if n == 1 else 1):
            taken = timed(n)
        if taken is None:
            continue
        if taken >= LONG or clock() - began + REPEATS * taken > seconds or 4 * n > min(size, LARGEST):
            break
        n *= 4
    while made and sum(1 for m, _ in made if m == n) < REPEATS and failed < TRIES and clock() - began + made[-1][1] < seconds:
        timed(n)
    if not made:
        return Pace(np.ones(1), np.array([first]), source="probe of 1, code being loaded and compiled included", loaded=Span(0.1, 1.0))
    sizes, took = np.array(made, float).T
    fixed, _ = fit(sizes.tolist(), took.tolist())
    large = sizes == sizes.max()
    own = np.maximum(took[large] - fixed, 0.0)
    warm = max(0.0, first - fixed - float(own.sum() / sizes[large].sum()))
    return Pace(sizes[large], own, fixed, warm, f"probe of {int(sizes.sum()):,}", LOADED)


def probe_steps(
    start: Callable[[int, Path], Iterator[Report]],
    points: Mapping[int, int],
    seconds: float,
    told: Callable[[str], None] = lambda words: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Pace:
    """Times the first steps of a few trials, in a temporary folder.

    Args:
        start: Begins the trial of a point in a folder.
        points: To try, in this order, each with its last step.
        seconds: Not to be exceeded by much; a trial's first report cannot be cut short.
        told: Gets words on how far it is.
        clock: Seconds.

    Raises:
        StudyError: No trial reported.
    """
    began, error, found = clock(), "", list[tuple[int, float, int, float]]()
    for k, (point, last) in enumerate(points.items()):
        if found and clock() - began > 0.7 * seconds:
            break
        until = began + seconds * (k + 1) / len(points)
        with tempfile.TemporaryDirectory(prefix="alphasweep-plan-", ignore_cleanup_errors=True) as folder:
            told(f"trial {k + 1} of {len(points)}: loading")
            at, heads = clock(), list[tuple[int, float]]()
            trial = start(point, Path(folder))
            try:
                with closing(trial):  # type: ignore[type-var]
                    for report in trial:
                        heads.append((report.step, clock() - at))
                        told(f"trial {k + 1} of {len(points)}: step {report.step:,} of {last:,}")
                        if (clock() >= until and len(heads) > 1) or report.step >= last or clock() - began > seconds:
                            break
            except Exception as raised:  # as in a run, where it is that trial's failure
                error = f"{type(raised).__name__}: {raised}"
        if heads:
            (one, first), (step, whole) = heads[0], heads[-1]
            found.append((one, first, step - one, whole - first))
    if not found:
        raise StudyError(f"no trial reported: {error or 'they ended without a report'}")
    later = [(n, s) for _, _, n, s in found if n > 0]
    pairs = np.array(later or [(n, s) for n, s, _, _ in found], float)
    mean = float(pairs[:, 1].sum() / pairs[:, 0].sum())
    # The first trial loads code as well, which a worker does once; of a single one it cannot be told apart, and is most of it.
    load, *others = [max(0.0, first - mean * one) if later else 0.0 for one, first, _, _ in found]
    fixed = float(np.mean(others)) if others else 0.0
    count, steps = len(found), sum(one + more for one, _, more, _ in found)
    source = f"probe of {steps:,} step{'' if steps == 1 else 's'} of {count} trial{'' if count == 1 else 's'}"
    return Pace(pairs[:, 0], pairs[:, 1], fixed, max(0.0, load - fixed), source, LOADED)


class Borrowed:
    """Derived tables read where they are kept, and built in memory where they are not: nothing is added to a cache."""

    def __init__(self, store: Store):
        self._store = store
        self._built: dict[tuple[str, str], np.ndarray] = {}

    def read(self, table: Table, first: int, stop: int, build: Build) -> np.ndarray:
        """Returns rows, see `trainables.tables.Tables`."""
        key = (table.key, f"{first}:{stop}:{table.depends(first, stop)}")
        if key not in self._built:
            found = self._store.load(table, first, stop)
            for a, b in found.missing:
                found.values[:, a - first : b - first] = build(a, b, lambda _: None)
            found.values.flags.writeable = False
            self._built[key] = found.values
        return self._built[key]


class BorrowedOutputs:
    """Outputs of stages taken from where they are kept, and built for this process where they are not: nothing is added to a cache."""

    def __init__(self, kept: DiskOutputs):
        self._kept, self._own = kept, outputs.OfThisProcess()
        self._seen: dict[str, Path] = {}

    def folder(self, key: str, build: outputs.Build, stage: str = "", about: Mapping[str, Any] | None = None) -> Path:
        """Returns a folder, see `trainables.outputs.Outputs`."""
        if key not in self._seen:
            self._seen[key] = self._kept.look(key) or self._own.folder(key, build, stage, about)
        return self._seen[key]

    def is_building(self, key: str) -> bool:
        """Returns False: a probe waits for nobody."""
        return False
