"""Who takes, builds and waits: without Ray, on a real store."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cache.answers import Build, Failed, Ready, Refused, Wait
from cluster.cache.claims import Claims
from cluster.cache.records import CacheError
from cluster.cache.rows import Piece
from cluster.cache.shared import SharedTables
from cluster.cache.store import Store
from trainables.tables import Table

N, REACH = 60, 4


def make(start: int = 0, stop: int = N, change: int | None = None, **spec) -> Table:
    """A table of the series' bars [start, stop), one of them altered perhaps."""
    times = np.datetime64("2025-01-01", "ns") + np.arange(start, stop) * np.timedelta64(1, "h")
    bars = np.sin(np.arange(2.0 * N)).reshape(2, N)
    if change is not None:
        bars[0, change] += 1.0
    return Table("features", {"of": "tests", **spec}, ("sum", "last"), ("BTCUSD",), times, bars[:, start:stop], REACH, "sums of BTCUSD")


def truth(table: Table, first: int, stop: int) -> np.ndarray:
    """Each row sees its bar and three before it."""
    return np.array([[table.bars[0, max(0, i - REACH + 1) : i + 1].sum(), table.bars[1, i]] for i in range(first, stop)]).reshape(-1, 2).T


class Session:
    """Claims on a clock of its own, with a list for an object store."""

    def __init__(self, root, **options):
        self.now, self.objects, self.built = 0.0, [], []
        self.store = Store(root, 10**9)
        self.claims = Claims(self.store, self.put, clock=lambda: self.now, **options)

    def put(self, values):
        self.objects.append(values.copy())
        return len(self.objects) - 1

    def claim(self, table, first, stop, who="a"):
        return self.claims.claim(copy.copy(table), first, stop, who)  # without bars, as it travels

    def deliver(self, task, table, seconds=1.0):
        self.built += task.missing
        total, answer = sum(b - a for a, b in task.missing), None
        for a, b in task.missing:
            answer = self.piece(task, table, a, b, seconds * (b - a) / total, over=b == task.missing[-1][1])
        return answer

    def piece(self, task, table, first, stop, seconds=1.0, over=False):
        return self.claims.deliver(task.lease, copy.copy(table), Piece(first, truth(table, first, stop), seconds), over)

    def rows(self, ready, first, stop):
        assert isinstance(ready, Ready) and ready.first <= first and stop <= ready.stop
        values = self.objects[ready.ref][:, ready.at : ready.at + ready.stop - ready.first]
        assert values.shape[1] == ready.stop - ready.first
        return values[:, first - ready.first : stop - ready.first]

    def read(self, table, first, stop, who="a", seconds=1.0):
        answer = self.claim(table, first, stop, who)
        if isinstance(answer, Build):
            answer = self.deliver(answer, table, seconds)
        return self.rows(answer, first, stop)


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def test_one_builds_and_the_others_wait_and_are_given_the_same_object(session) -> None:
    table = make()
    task = session.claim(table, 0, N, "one")
    assert isinstance(task, Build) and task.missing == ((0, N),)
    assert session.claims.progress(task.lease, 20)
    said = session.claim(table, 0, N, "two")
    assert said == Wait("sums of BTCUSD: one has built 20 of 60 rows") and session.claims.waiting(table.key) == said.text
    assert [(b.where, b.done, b.total) for b in session.claims.building()] == [("sums of BTCUSD", 20, 60)]
    first = session.deliver(task, table)
    second = session.claim(table, 0, N, "two")
    assert second.number == first.number and len(session.objects) == 1 and session.claims.waiting(table.key) is None
    np.testing.assert_array_equal(session.rows(second, 0, N), truth(table, 0, N))
    assert session.claims.building() == []


def test_new_rows_are_built_alone_and_the_folds_of_a_series_share_an_object(session) -> None:
    table = make()
    session.read(table, 0, 40)
    np.testing.assert_array_equal(session.read(table, 20, 50), truth(table, 20, 50))
    assert session.built == [(0, 40), (40, 50)]
    shared = {session.claim(table, a, b).number for a, b in [(0, 10), (10, 30), (5, 50), (49, 50)]}
    assert len(shared) == 1 and session.objects[-1].shape == (2, 50)
    assert sum(len(s) for s in session.claims._shared.values()) == 1  # the smaller one is let go


def test_what_the_disk_has_is_read_and_not_built(session, tmp_path) -> None:
    table = make()
    session.read(table, 10, 40, seconds=30.0)
    later = Session(tmp_path)
    np.testing.assert_array_equal(later.read(table, 15, 20), truth(table, 15, 20))
    assert later.built == [] and later.objects[0].shape == (2, 30)  # all that is known around what was asked for
    use = later.claims.usage().use
    assert (use.rows_found, use.rows_built, use.tables) == (30, 0, 1) and use.seconds_saved == pytest.approx(30.0)


def test_an_altered_bar_costs_the_rows_that_could_see_it_and_is_never_mixed_up(session) -> None:
    table, other = make(), make(change=30)
    session.read(table, 0, N)
    for asked in (other, table, other):
        np.testing.assert_array_equal(session.read(asked, 0, 29), truth(asked, 0, 29))
        np.testing.assert_array_equal(session.read(asked, 25, N), truth(asked, 25, N))
    # 60 rows make one block on disk: the file is good as a whole or not at all.
    assert session.built[0] == (0, N) and all(b > 30 for _, b in session.built[1:])


def test_a_series_that_begins_later_takes_the_columns_that_are_its_own(session) -> None:
    whole, later = make(), make(start=7)
    session.read(whole, 0, N)
    ready = session.claim(later, 10, 20)
    # What lies before row 3 of the later series could see a bar that it does not have.
    np.testing.assert_array_equal(session.rows(ready, 10, 20), truth(later, 10, 20))
    assert (ready.first, ready.stop) == (10, 20)
    assert isinstance(session.claim(later, 0, 20), Build)


def test_a_build_without_a_sign_of_life_is_given_to_the_next_and_what_comes_late_is_kept(session) -> None:
    table = make()
    late = session.claim(table, 0, N, "one")
    session.now = 15.0
    assert session.claims.progress(late.lease, 5)
    session.now = 34.0
    assert isinstance(session.claim(table, 0, N, "two"), Wait)
    session.now = 35.1
    assert session.claims.waiting(table.key) is None
    task = session.claim(table, 0, N, "two")
    assert isinstance(task, Build) and not session.claims.progress(late.lease, 9)
    assert isinstance(session.deliver(late, table), Refused) and not session.objects
    assert session.store.load(table, 0, N).missing == []
    session.claims.failed(late.lease, ValueError("late"))  # nobody hears it
    np.testing.assert_array_equal(session.rows(session.deliver(task, table), 0, N), truth(table, 0, N))
    usage = session.claims.usage()
    assert usage.lost == 1 and usage.failed == 0
    assert usage.use.notes == ["sums of BTCUSD: one stopped building it without a word, another began again."]


@pytest.mark.parametrize("waits", [False, True])
def test_who_was_busy_and_not_dead_goes_on_where_nobody_else_has_begun(session, waits) -> None:
    table = make()
    session.read(table, 0, 10)
    task = session.claim(table, 0, N, "one")
    session.now = 50.0
    if waits:
        assert session.claims.waiting(table.key) is None and session.claims.usage().lost == 1
    np.testing.assert_array_equal(session.rows(session.deliver(task, table), 0, N), truth(table, 0, N))
    assert session.built == [(0, 10), (10, N)] and session.claims.usage().lost == 0 and not session.claims.usage().use.notes


def test_the_next_builder_begins_after_the_last_piece(session) -> None:
    table = make()
    task = session.claim(table, 0, N, "one")
    assert session.piece(task, table, 0, 25) is None
    assert session.claims.building()[0].done == 25
    session.now = 30.0
    task = session.claim(table, 0, N, "two")
    assert task.missing == ((25, N),)
    np.testing.assert_array_equal(session.rows(session.deliver(task, table), 0, N), truth(table, 0, N))
    assert session.claims.usage().use.rows_built == N


def test_rows_that_kill_two_builders_are_not_given_to_a_third(session) -> None:
    table = make()
    for who in "abc":  # the second one gets further than the first
        task = session.claim(table, 0, N, who)
        assert isinstance(task, Build)
        if who == "b":
            session.piece(task, table, 0, 5)
        session.now += 30.0
    answer = session.claim(table, 0, N, "d")
    assert isinstance(answer, Failed) and "building sums of BTCUSD killed its worker twice" in str(answer.error)
    assert isinstance(session.claim(table, 10, 20), Build)  # other rows may do


def test_signs_of_life_that_came_while_the_keeper_was_busy_are_not_missed(session) -> None:
    slow, quick = make(), make(other=1)
    task = session.claim(slow, 0, N)
    put = session.claims._put

    def busy(values):
        session.now += 100.0
        return put(values)

    session.claims._put = busy
    session.read(quick, 0, N)
    assert session.claims.progress(task.lease, 1)


def test_a_failure_is_everyones_for_as_long_as_it_took_and_then_tried_again(session) -> None:
    table = make()
    task = session.claim(table, 0, N)
    session.now = 5.0
    session.claims.failed(task.lease, ValueError("BTCUSD: no weights"))
    for who in "bcd":
        answer = session.claim(table, 0, N, who)
        assert isinstance(answer, Failed) and str(answer.error) == "BTCUSD: no weights"
    assert isinstance(session.claim(table, 0, 5), Build)  # other rows may do
    session.claims.close()
    session.now = 10.1
    assert isinstance(session.claim(table, 0, N), Build)
    assert session.claims.usage().failed == 1


def test_a_failure_that_comes_again_is_remembered_for_twice_as_long(session) -> None:
    table, builds = make(), 0
    for _ in range(70):
        session.now += 1.01
        answer = session.claim(table, 0, N)
        if isinstance(answer, Build):
            builds += 1
            session.claims.failed(answer.lease, CacheError("RuntimeError: device-side assert"))
    assert builds == 7  # after about 0, 1, 3, 7, 15, 31 and 63 seconds


def test_a_build_that_somebody_stopped_is_left_to_the_next(session) -> None:
    table = make()
    session.claims.failed(session.claim(table, 0, N).lease, None)
    assert isinstance(session.claim(table, 0, N, "two"), Build)


def test_another_study_on_the_same_folder_is_waited_for(session, tmp_path) -> None:
    table, other = make(), Session(tmp_path)
    task = other.claim(table, 0, N)
    loads = []
    load = session.store.load
    session.store.load = lambda *about: loads.append(about) or load(*about)
    assert session.claim(table, 0, N) == Wait("sums of BTCUSD: another study builds it")
    session.now = 3.0
    for _ in range(5):
        assert isinstance(session.claim(table, 0, N), Wait) and session.claims.waiting(table.key)
    assert len(loads) == 1  # waiting reads nothing
    assert [(b.where, b.seconds) for b in session.claims.building()] == [("sums of BTCUSD", 3.0)]
    other.deliver(task, table)
    session.now += 0.5
    assert session.claims.waiting(table.key) is None and session.claims.building() == []
    np.testing.assert_array_equal(session.read(table, 0, N), truth(table, 0, N))
    assert session.built == []


def test_another_study_that_gives_up_leaves_the_build_to_this_one(session, tmp_path) -> None:
    table, other = make(), Session(tmp_path)
    other.claim(table, 0, N)
    assert isinstance(session.claim(table, 0, N), Wait)
    other.claims.close()
    session.now += 0.5
    assert isinstance(session.claim(table, 0, N), Build)
    assert isinstance(other.claim(table, 0, N), Wait)


def test_beyond_its_room_the_keeper_lets_go_of_what_was_asked_for_longest_ago(tmp_path) -> None:
    session = Session(tmp_path, room=2.5 * 2 * N * 8)
    tables = [make(number=i) for i in range(3)]
    for table in tables:
        session.now += 1.0
        session.read(table, 0, N)
    session.now += 1.0
    assert len(session.objects) == 3
    session.read(tables[1], 0, N)
    assert len(session.objects) == 3
    np.testing.assert_array_equal(session.read(tables[0], 0, N), truth(tables[0], 0, N))
    assert len(session.objects) == 4 and len(session.built) == 3  # read again, not built
    assert session.claims.usage().shared_bytes == 2 * 2 * N * 8
    use = session.claims.usage().use
    assert (use.rows_found, use.seconds_saved, use.rows_built) == (0, 0.0, 3 * N)  # what this run built it did not save


def test_a_row_that_is_read_twice_was_saved_once(tmp_path) -> None:
    Session(tmp_path).read(make(), 0, N, seconds=30.0)
    session = Session(tmp_path)
    for first, stop in [(0, 10), (5, 20)]:
        session.claims.lost(session.claim(make(), first, stop).number)
    use = session.claims.usage().use
    assert (use.rows_found, use.rows_built) == (N, 0) and use.seconds_saved == pytest.approx(30.0)


def test_no_hold_is_given_back_while_the_run_lasts(session, tmp_path) -> None:
    for number in range(70):
        session.read(make(number=number), 0, 5)
    assert Store(tmp_path).collect(limit=0) == []
    session.claims.close()
    assert len(Store(tmp_path).collect(limit=0)) == 70


def test_asking_about_another_study_does_not_keep_the_keeper_waiting(session, tmp_path) -> None:
    table, looks = make(), []
    with Store(tmp_path).building(table.key):
        session.claim(table, 0, N)
        look = session.store.is_building
        session.store.is_building = lambda key: looks.append(key) or look(key)
        session.store.building = lambda *about, **named: pytest.fail("waits for the lock")
        for _ in range(20):
            session.now += 0.1
            assert session.claims.waiting(table.key) and isinstance(session.claim(table, 0, N), Wait)
        assert len(looks) in (3, 4)
    session.now += 1.0
    assert session.claims.waiting(table.key) is None


def test_an_object_that_was_lost_is_made_again(session) -> None:
    table = make()
    session.read(table, 0, N)
    session.claims.lost(session.claim(table, 0, N).number)
    np.testing.assert_array_equal(session.read(table, 0, N), truth(table, 0, N))
    assert session.built == [(0, N)] and len(session.objects) == 2


def test_what_cannot_be_kept_on_disk_is_shared_all_the_same(tmp_path) -> None:
    session, table = Session(tmp_path), make()
    session.store.limit = 10
    np.testing.assert_array_equal(session.read(table, 0, N), truth(table, 0, N))
    np.testing.assert_array_equal(session.read(table, 0, N, "b"), truth(table, 0, N))
    assert session.built == [(0, N)] and "are not kept" in session.claims.usage().use.notes[0]


def test_a_full_object_store_leaves_no_lock_behind(session, tmp_path) -> None:
    table, other, put = make(), Session(tmp_path), session.claims._put

    def full(values):
        raise MemoryError("the object store is full")

    task = session.claim(table, 0, 40)
    session.claims._put = full
    with pytest.raises(MemoryError):
        session.deliver(task, table)
    with pytest.raises(MemoryError):
        session.claim(table, 0, 40)
    np.testing.assert_array_equal(other.read(table, 0, N), truth(table, 0, N))
    assert other.built == [(40, N)]  # what was delivered is on disk
    session.claims._put = put
    np.testing.assert_array_equal(session.read(table, 0, N), truth(table, 0, N))


def test_without_a_session_rows_are_built_once_and_a_note_says_why(tmp_path) -> None:
    table, tables, calls = make(), SharedTables(None), []

    def build(first, stop, done):
        calls.append((first, stop))
        return truth(table, first, stop)

    for first, stop in [(0, N), (5, 20), (7, 7)]:
        values = tables.read(table, first, stop, build)
        np.testing.assert_array_equal(values, truth(table, first, stop))
        assert not values.flags.writeable
    assert calls == [(0, N)] and tables.notes == ["sums of BTCUSD: built for one process only. The Ray session is over."]
    with pytest.raises(CacheError, match=r"sums of BTCUSD: built \(2, 3\) for rows 0 to 5 of 60; expected \(2, 5\)"):
        tables.read(make(other=1), 0, 5, lambda first, stop, done: np.zeros((2, 3)))


class _Keeper:
    """What a worker sends without waiting for an answer."""

    class progress:  # noqa: N801
        @staticmethod
        def remote(*about):
            pass


class Direct(SharedTables):
    """Asks claims of this process, as a worker asks the actor."""

    def __init__(self, session):
        super().__init__(_Keeper())
        self.session = session

    def _ask(self, question, *about):
        return getattr(self.session.claims, question)(*about)

    def _get(self, answer):
        return self.session.objects[answer.ref]


@pytest.mark.parametrize("other_builds", [False, True])
def test_a_builder_whose_lease_ends_each_time_builds_its_rows_once(session, tmp_path, other_builds) -> None:
    table, tables, asked, others = make(), Direct(session), [], []
    session.read(table, 0, 10)

    def build(first, stop, done):
        asked.append((first, stop))
        session.now += 100.0
        if other_builds:
            others.append(session.claim(table, 0, N, "two"))
        return truth(table, first, stop)

    pause = tables._wait
    tables._wait = lambda key: (session.deliver(others[0], table), pause(key))
    np.testing.assert_array_equal(tables.read(table, 0, N, build), truth(table, 0, N))
    assert asked == [(10, N)] and session.claims.usage().lost == int(other_builds)


def test_what_nobody_takes_is_not_built_again_by_who_has_built_it(session) -> None:
    table, tables, asked, refusals = make(), Direct(session), [], []
    session.read(table, 0, 10)
    deliver = session.claims.deliver

    def refuse(name, *about):
        refusals.append(name)
        session.claims.failed(name, None)
        return deliver(name, *about) if len(refusals) > 2 else Refused()

    session.claims.deliver = refuse

    def build(first, stop, done):
        asked.append((first, stop))
        return truth(table, first, stop)

    np.testing.assert_array_equal(tables.read(table, 0, N, build), truth(table, 0, N))
    assert asked == [(10, N)] and len(refusals) == 3


@pytest.mark.parametrize("error", [ValueError, RuntimeError, ZeroDivisionError])
def test_whatever_a_build_raises_is_raised_again_without_building(session, error) -> None:
    table, asked = make(), []

    def build(first, stop, done):
        asked.append(first)
        raise error("device-side assert")

    for _ in range(20):
        with pytest.raises((error, CacheError), match="device-side assert"):
            Direct(session).read(table, 0, N, build)
    assert len(asked) == 1

    def stopped(first, stop, done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Direct(session).read(make(other=1), 0, N, stopped)
    assert isinstance(session.claim(make(other=1), 0, N), Build)


def test_what_is_at_hand_is_bounded(tmp_path) -> None:
    tables, calls = SharedTables(None, memo=2 * 2 * N * 8), []

    def build(first, stop, done):
        calls.append(first)
        return np.zeros((2, stop - first))

    for number in (0, 1, 2, 1, 2, 0):
        tables.read(make(number=number), 0, N, build)
    assert len(calls) == 4 and len(tables._held) == 2


def test_importing_the_keeper_does_not_import_ray() -> None:
    said = "import sys, cluster.cache.keeper; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], timeout=60).returncode == 0


def test_usage_adds_up(session) -> None:
    table, other = make(), make(other=1)
    session.read(table, 0, 40, "a", seconds=4.0)
    session.read(table, 0, 40, "b")
    session.read(table, 0, 40, "b")
    session.read(other, 0, N, "c", seconds=2.0)
    usage = session.claims.usage()
    row = 2 * 8
    assert (usage.use.tables, usage.readers, usage.use.rows_built, usage.use.rows_found) == (2, 3, 40 + N, 0)
    assert (usage.use.seconds_built, usage.use.bytes_built) == (6.0, (40 + N) * row)
    assert usage.shared_bytes == (40 + N) * row and usage.apart_bytes == (2 * 40 + N) * row


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, N - 1), st.integers(1, N), st.sampled_from("abc")), min_size=1, max_size=12))
def test_whatever_is_asked_in_whatever_order_the_rows_are_right(tmp_path_factory, asked) -> None:
    tables = [make(), make(change=17), make(start=9), make(stop=44), make(start=3, stop=50, change=41), make(other=1)]
    session = Session(tmp_path_factory.mktemp("tables"), room=3 * N * 8)
    for which, first, length, who in asked:
        table = tables[which]
        first = min(first, len(table.times) - 1)
        stop = min(first + length, len(table.times))
        np.testing.assert_array_equal(session.read(table, first, stop, who), truth(table, first, stop))
