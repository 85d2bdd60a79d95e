from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.packs import PackResult
from results import Header, Ledger, Metric, series
from search_spaces import Space, make_sampler
from sweeps.feed import CHUNK, LARGEST_PACK, LEAST_SECONDS, MOST_FLYING, PACK_COST, Backlog, Point, StudyFeed, Tally
from sweeps.study import StudyError

METRICS = (Metric("score", "max", "ratio"),)


def header() -> Header:
    context = {"trainable": "toy", "version": "1", "data_fingerprint": "d", "protocol": {"defaults": {"x": 0}}, "seed": 0}
    return Header(name="s", spec={}, context=context, metrics=METRICS, objective="score")


class Bench:
    """A feed over a real ledger, and a worker that can be told what to do."""

    def __init__(
        self,
        path: Any,
        values: Any,
        slots: int = 2,
        create: bool = True,
        days: int = 0,
        trials: int | None = None,
        any_order: bool = False,
    ):
        self.ledger = Ledger.create(path, header()) if create else Ledger.open(path)
        self.ledger.begin_session({})
        self.space = Space.parse({"x": values})
        sampler = make_sampler("grid", self.space, trials=trials, seed=0)
        self.tally = Tally(sampler.size)
        plan = self.ledger.add_plan(self.space.to_dict(), {"sampler": "grid"}, sampler.size)
        self.backlog = Backlog(sampler, dict, self.ledger, plan, lambda points: set(), self.tally, any_order)
        self.reports: list[int] = []
        self.feed = StudyFeed(
            self.backlog, self.ledger, plan, self.tally, "score", slots, lambda t: self.reports.append(t.done), Path(path).parent, days
        )
        self.sizes: list[int] = []

    def evaluated(self, seconds_each: float) -> list[list[int]]:
        """Runs the study and returns the values of x, by pack."""
        packs = []
        while (task := self.feed.next()) is not None:
            packs.append([point.config["x"] for point in self.feed._flying[task.attempt]])
            self.finish(task, seconds_each)
        return packs

    def finish(self, task: Any, seconds_each: float = 1e-4, errors: dict[int, str] | None = None) -> None:
        self.sizes.append(len(task.points))
        metrics = np.array([[float(p)] for p in task.points])
        self.feed.deliver(PackResult(task.attempt, metrics, errors or {}, seconds_each * len(task.points)))

    def run(self, seconds_each: float = 1e-4) -> None:
        while (task := self.feed.next()) is not None:
            self.finish(task, seconds_each)


@pytest.fixture
def path(tmp_path: Any) -> str:
    return str(tmp_path / "ledger.sqlite")


def test_packs_grow_towards_a_second_of_work_and_every_point_is_taken_once(path: str) -> None:
    bench = Bench(path, list(range(30_000)))
    bench.run(seconds_each=1e-3)
    assert bench.tally.done == 30_000 and bench.feed.exhausted
    assert bench.ledger.counts()["completed"] == 30_000
    assert bench.sizes[0] == 16 and 500 <= max(bench.sizes) <= 2000
    assert bench.reports == sorted(bench.reports)


@pytest.mark.parametrize("any_order", [True, False])
def test_the_last_packs_are_worth_what_they_cost_unless_results_decide_what_comes_next(path: str, any_order: bool) -> None:
    bench = Bench(path, list(range(30_000)), any_order=any_order)
    bench.run(seconds_each=1e-3)
    usual = max(bench.sizes)
    after = bench.sizes[bench.sizes.index(usual) :]
    least = LEAST_SECONDS / 1e-3 - 1
    assert after[-2] < usual and (min(after[:-1]) >= least if any_order else after[-3] < least)


def test_where_order_does_not_matter_packs_are_of_configurations_that_are_alike(path: str) -> None:
    bench = Bench(path, {"int": [0, 99_999]}, trials=30_000, any_order=True)
    packs = bench.evaluated(1e-3)
    assert sorted(x for pack in packs for x in pack) == sorted(point["x"] for point in bench.backlog._sampler.configs(0, 30_000))
    full = [pack for pack in packs if len(pack) >= 500]
    assert len(full) > 20
    # An eighth of the values or so, where a pack in any order has nearly all; but for those that end one window and begin the next.
    assert np.median([max(pack) - min(pack) for pack in full]) < 0.25 * 100_000


@pytest.mark.parametrize(("any_order", "seconds"), [(False, 1e-3), (True, 0.07)])
def test_where_it_matters_or_configurations_are_slow_they_come_by_number(path: str, any_order: bool, seconds: float) -> None:
    bench = Bench(path, {"int": [0, 99_999]}, trials=6_000, any_order=any_order)
    made = [x for pack in bench.evaluated(seconds) for x in pack]
    assert made == [point["x"] for point in bench.backlog._sampler.configs(0, 6_000)]


@pytest.mark.parametrize("any_order", [True, False])
def test_results_elsewhere_are_looked_for_thousands_at_a_time(path: str, any_order: bool) -> None:
    asked: list[int] = []

    def reuse(points: list[Point]) -> set[bytes]:
        asked.append(len(points))
        return {point.config_id for point in points}

    bench = Bench(path, {"int": [0, 99_999]}, trials=20_000, any_order=any_order)
    bench.backlog._reuse = reuse
    assert bench.backlog.take(1) == [] and bench.backlog.drained and bench.tally.known == 20_000
    assert len(asked) == -(-20_000 // CHUNK)


def test_arranged_packs_of_a_session_that_was_killed_are_made_up_for_by_the_next(path: str) -> None:
    first = Bench(path, {"int": [0, 99_999]}, trials=20_000, any_order=True)
    for _ in range(6):
        first.finish(first.feed.next(), 1e-3)
    lost = first.feed.next()
    first.ledger.close()
    second = Bench(path, {"int": [0, 99_999]}, create=False, trials=20_000, any_order=True)
    assert first.tally.done + sum(map(len, second.evaluated(1e-3))) == 20_000 and len(lost.points) > 100
    assert second.ledger.counts()["completed"] == 20_000


def test_with_many_workers_packs_are_as_long_as_a_driver_takes_to_hand_one_to_each(path: str) -> None:
    bench = Bench(path, {"int": [0, 999_999]}, slots=1000)
    for _ in range(6):
        bench.finish(bench.feed.next(), seconds_each=0.1)
    each = 1000 * PACK_COST / 0.1  # workers × seconds of the driver, in configurations
    assert 0.9 * each < bench.sizes[-1] <= each


def test_with_many_workers_packs_are_small_enough_to_be_held_all_at_once(path: str) -> None:
    bench = Bench(path, {"int": [0, 9_999_999]}, slots=1000)
    for _ in range(8):
        bench.finish(bench.feed.next(), seconds_each=1e-6)
    assert bench.sizes[-1] == MOST_FLYING // 1000


def test_packs_never_exceed_the_largest_and_the_rest_is_shared_at_the_end(path: str) -> None:
    bench = Bench(path, {"int": [0, 99_999]})
    bench.run(seconds_each=1e-5)
    assert max(bench.sizes) <= LARGEST_PACK
    assert bench.sizes[-1] <= bench.sizes[-2] <= max(bench.sizes)


def test_slow_configurations_go_one_at_a_time(path: str) -> None:
    bench = Bench(path, list(range(40)))
    bench.run(seconds_each=30.0)
    assert bench.sizes[1:] == [1] * 24  # after the first 16


def test_the_next_session_takes_only_what_has_no_result(path: str) -> None:
    first = Bench(path, list(range(100)))
    done = first.feed.next()
    lost = first.feed.next()
    first.finish(done)
    first.ledger.close()
    second = Bench(path, list(range(100)), create=False)
    second.run()
    assert set(lost.points) <= set(range(100)) - set(done.points)
    assert second.tally.known == len(done.points) and second.tally.done == 100 - len(done.points)
    assert second.ledger.counts()["completed"] == 100


def test_a_configuration_met_again_in_another_plan_is_not_evaluated_again(path: str) -> None:
    first = Bench(path, [1, 2, 3])
    first.run()
    first.ledger.close()
    second = Bench(path, [3, 4, 1], create=False)
    second.run()
    assert sum(second.sizes) == 1 and second.tally.known == 2


def test_equal_values_spelled_differently_are_one_configuration(path: str) -> None:
    bench = Bench(path, [0, 1])
    bench.run()
    bench.ledger.close()
    again = Bench(path, [1.0, 0.0], create=False)  # 0 is also the parameter's default, which a configuration may leave out
    again.run()
    assert sum(again.sizes) == 0


def test_a_pack_that_kills_its_worker_is_halved_until_the_culprit_stands_alone(path: str) -> None:
    bench = Bench(path, list(range(64)), slots=1)
    deaths = 0
    while (task := bench.feed.next()) is not None:
        if 13 in task.points:
            deaths += 1
            bench.feed.crashed(task.attempt, "the worker process died")
        else:
            bench.finish(task)
    counts = bench.ledger.counts()
    assert (counts["completed"], counts["failed"]) == (63, 1)
    assert deaths <= np.log2(16) + 2
    [failure] = bench.ledger.failures(5)
    assert failure["trial"] == 13 and "died" in failure["error"] and "twice" in failure["error"]
    assert bench.tally.failed == 1 and bench.feed.exhausted


def test_failed_points_are_kept_with_their_message(path: str) -> None:
    bench = Bench(path, [5, 6, 7, 8], slots=1)
    bench.finish(bench.feed.next(), errors={2: "ValueError: no"})
    assert bench.ledger.counts()["failed"] == 1
    assert bench.ledger.failures(1)[0]["error"] == "ValueError: no"


def test_stopping_hands_out_nothing_more_and_keeps_what_comes_in(path: str) -> None:
    bench = Bench(path, list(range(100)))
    task = bench.feed.next()
    bench.feed.stopping = True
    assert bench.feed.next() is None and bench.feed.exhausted
    bench.finish(task)
    assert bench.ledger.counts()["completed"] == len(task.points)


def test_a_late_result_of_a_lost_pack_changes_nothing(path: str) -> None:
    bench = Bench(path, list(range(16)), slots=1)
    task = bench.feed.next()
    bench.feed.crashed(task.attempt, "the worker process died")
    with pytest.raises(KeyError):
        bench.feed.deliver(PackResult(task.attempt, np.zeros((16, 1)), {}, 0.1))
    bench.run()
    assert bench.ledger.counts()["completed"] == 16


def test_best_follows_the_objective(path: str) -> None:
    bench = Bench(path, list(range(50)))
    bench.run()
    assert bench.tally.best == 49.0


def test_daily_returns_are_kept_with_their_checksum_and_only_of_accepted_packs(path: str) -> None:
    bench = Bench(path, list(range(100)), days=5)
    rng = np.random.default_rng(0)
    sent = {}
    first = bench.feed.next()
    bench.feed.crashed(first.attempt, "the worker process died")
    while (task := bench.feed.next()) is not None:
        returns = rng.normal(size=(len(task.points), 5)).astype(np.float32)
        sent |= dict(zip(task.points, returns, strict=True))
        metrics = np.array([[float(p)] for p in task.points])
        bench.feed.deliver(PackResult(task.attempt, np.hstack([metrics, returns]), {}, 0.01))
    ids, matrix = series.read(bench.ledger, Path(path).parent)
    assert matrix.shape == (100, 5) and len(set(ids)) == 100
    trials = {bytes.fromhex(row.config_id): row.trial for row in bench.ledger.frame().itertuples()}
    for key, row in zip(ids, matrix, strict=True):
        np.testing.assert_array_equal(row, sent[trials[key]])
    victim = next((Path(path).parent / series.FOLDER).iterdir())
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    assert len(series.read(bench.ledger, Path(path).parent)[0]) < 100  # damaged evidence is left out, not believed


def test_of_a_large_study_a_bounded_subset_is_kept_chosen_by_identity_alone() -> None:
    rng = np.random.default_rng(1)
    ids = [rng.bytes(16) for _ in range(20_000)]
    kept = sum(series.is_kept(key, 1_000_000) for key in ids)
    assert 130 < kept < 270  # 1 % of them, whatever they earned
    assert all(series.is_kept(key, 10_000) and series.is_kept(key, None) for key in ids[:100])


def test_a_run_in_which_everything_fails_is_stopped_with_the_cause(path: str) -> None:
    bench = Bench(path, list(range(500)))
    with pytest.raises(StudyError, match=r"all of the first .* failed.* ValueError: no such thing.*--retry-failed"):
        while (task := bench.feed.next()) is not None:
            bench.finish(task, errors=dict.fromkeys(range(len(task.points)), "ValueError: no such thing"))
    assert 64 <= bench.ledger.counts()["failed"] < 200


def test_a_run_in_which_every_worker_dies_is_stopped(path: str) -> None:
    bench = Bench(path, list(range(500)))
    with pytest.raises(StudyError, match=r"12 workers died .* out of memory"):
        while (task := bench.feed.next()) is not None:
            bench.feed.crashed(task.attempt, "out of memory")
