from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.chronos2.tiny import disturbed, holey
from trainables.chronos2.preaug import PREAUGS
from trainables.chronos2.tasks import COVARIATES, MAJORS, PATCH, Pick, base_symbol, encode, make_tasks, sample
from trainables.contract import TrainableError
from trainables.market.sample import sample_panel
from trainables.timeline import Window

COINS = ("BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD")
ALL, TRAIN = Window(0, 900), Window(100, 600)


@pytest.fixture(scope="module")
def panel():
    return sample_panel(symbols=(*COINS, "NVDA", "MSFT"), bars=900)


def batches(tasks, count=20, horizon=24, **kw):
    rng = np.random.default_rng(1)
    return [sample(tasks, rng, 48, 128, horizon, **kw) for _ in range(count)]


def same(a, b):
    return all(
        np.array_equal(x.context, y.context, equal_nan=True) and np.array_equal(x.future, y.future, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def test_a_task_holds_open_high_low_close_of_the_symbols_own_bars(panel):
    gap = np.arange(300, 340)
    tasks = make_tasks(holey(panel, "ETHUSD", gap), ALL, TRAIN)
    by_name = dict(zip(tasks.groups, tasks.tasks, strict=True))
    eth, nvda = by_name[("ETHUSD",)], by_name[("NVDA",)]
    assert np.array_equal(eth.rows, np.setdiff1d(np.arange(900), gap))
    assert np.array_equal(eth.targets, np.stack([getattr(panel, n)[eth.rows, 1] for n in ("open", "high", "low", "close")]))
    assert np.array_equal(nvda.rows, np.flatnonzero(panel.exists[:, 4])) and len(nvda.rows) < 300
    assert eth.covariates.shape == (0, len(eth.rows))


def test_covariates_are_made_from_raw_prices_as_specified(panel):
    holed = holey(panel, "BTCUSD", [5, 6])
    task = make_tasks(holed, ALL, TRAIN, "all").tasks[0]
    o, h, low, c = task.targets
    v = holed.volume[task.rows, 0]
    change = np.r_[0.0, (c[1:] - c[:-1]) / c[:-1]]  # across the gap: from the last bar there is
    expected = np.stack([v, np.log1p(v), change, (h - low) / c, (c - o) / o]).astype(np.float32)
    assert COVARIATES["all"] == ("volume", "log_volume", "return_1h", "range_pct", "body_pct")
    np.testing.assert_allclose(task.covariates, expected, rtol=1e-6)
    few = make_tasks(holed, ALL, TRAIN, "returns").tasks[0]
    assert np.array_equal(few.covariates, task.covariates[2:])


def test_majors_are_found_by_base_symbol_whatever_the_quote_currency():
    assert [base_symbol(s) for s in ("BTCUSD", "ETH/USDT", "sol-usdc", "UNIUSD", "AAPL")] == ["BTC", "ETH", "SOL", "UNI", "AAPL"]
    panel = sample_panel(symbols=("LINKUSD", "BTCUSD", "NVDA", "ETHUSD", "LTCUSD", "SOLUSD"), bars=600)
    tasks = make_tasks(panel, Window(0, 600), Window(0, 500), grouping="majors")
    assert tasks.groups == (("LINKUSD", "SOLUSD"), ("BTCUSD", "ETHUSD"), ("NVDA",), ("LTCUSD",))
    assert MAJORS[0] == ("BTC", "ETH")
    pair = tasks.tasks[1]
    assert np.array_equal(pair.targets[4:], make_tasks(panel, Window(0, 600), Window(0, 500)).tasks[3].targets)


def test_all_is_one_group_of_each_asset_class(panel):
    assert make_tasks(panel, ALL, Window(0, 700), grouping="all").groups == (COINS, ("NVDA", "MSFT"))
    few = make_tasks(panel, ALL, TRAIN, grouping="all")  # stocks have too few bars in it to train on as a group
    assert few.groups == (COINS, ("NVDA",), ("MSFT",))


def test_a_group_has_the_common_bars_of_its_symbols_and_covariates_of_each(panel):
    tasks = make_tasks(holey(panel, "BTCUSD", np.arange(50, 60)), ALL, TRAIN, "returns", "majors")
    pair = tasks.tasks[0]
    assert tasks.groups[0] == ("BTCUSD", "ETHUSD")
    assert np.array_equal(pair.rows, np.setdiff1d(np.arange(900), np.arange(50, 60)))
    assert pair.targets.shape == (8, 890) and pair.covariates.shape == (6, 890) and pair.n_rows == 14
    np.testing.assert_allclose(pair.covariates[4], (pair.targets[5] - pair.targets[6]) / pair.targets[7], rtol=1e-5)


def test_a_group_with_too_few_common_training_bars_falls_apart_and_says_so(panel):
    short = Window(100, 100 + 8 * PATCH - 1)
    tasks = make_tasks(panel, ALL, short, grouping="majors")
    assert ("BTCUSD",) in tasks.groups and ("ETHUSD",) in tasks.groups
    assert any("BTCUSD, ETHUSD" in note and "127" in note for note in tasks.notes)
    assert make_tasks(panel, ALL, Window(100, 100 + 8 * PATCH), grouping="majors").groups[0] == ("BTCUSD", "ETHUSD")


def test_clusters_find_what_moves_together_and_see_the_train_window_only(panel):
    rng = np.random.default_rng(0)
    factors = rng.normal(0.0, 0.01, (2, 900))
    arrays = {name: np.array(getattr(panel, name)) for name in ("open", "high", "low", "close")}
    for c, factor in enumerate([factors[0], factors[1], factors[0], factors[1]]):  # SOL follows BTC, LINK follows ETH
        price = 100.0 * np.exp(np.cumsum(factor + rng.normal(0.0, 0.001, 900)))
        for name, move in (("open", 1.0), ("high", 1.01), ("low", 0.99), ("close", 1.0)):
            arrays[name][:, c] = price * move
    moved = replace(panel, **arrays)
    tasks = make_tasks(moved, ALL, Window(0, 700), grouping="correlation", clusters=2)
    assert tasks.groups == (("BTCUSD", "SOLUSD"), ("ETHUSD", "LINKUSD"), ("NVDA",), ("MSFT",))
    one = make_tasks(moved, ALL, Window(0, 700), grouping="correlation", clusters=1)
    assert one.groups == (COINS, ("NVDA", "MSFT"))  # never coins with stocks
    mixed = {name: np.array(getattr(moved, name)) for name in arrays}
    for name in arrays:  # after the train window, SOL follows ETH
        mixed[name][700:, 2] = getattr(moved, name)[700:, 1]
    assert make_tasks(replace(moved, **mixed), ALL, Window(0, 700), grouping="correlation", clusters=2).groups == tasks.groups


def test_training_reads_nothing_outside_the_train_window(panel):
    for kw in ({}, {"covariates": "all", "grouping": "majors"}, {"grouping": "correlation"}):
        before = batches(make_tasks(panel, ALL, TRAIN, **kw))
        assert same(before, batches(make_tasks(disturbed(panel, slice(600, 900)), ALL, TRAIN, **kw)))
        assert not same(before, batches(make_tasks(disturbed(panel, slice(590, 600)), ALL, TRAIN, **kw)))
        if "covariates" not in kw:  # the first return of a window is from the bar before it
            assert same(before, batches(make_tasks(disturbed(panel, slice(0, 100)), ALL, TRAIN, **kw)))


def test_cuts_cover_the_train_window_to_its_last_bar_and_no_further(panel):
    tasks = make_tasks(panel, ALL, TRAIN)
    task = tasks.tasks[0]
    rng = np.random.default_rng(0)
    column, seen = task.targets[3].astype(np.float32), set()
    for _ in range(600):
        batch = sample(tasks, rng, 1, 64, 24)
        if batch.context[3, -1] in column:
            end = int(np.flatnonzero(column == batch.context[3, -1])[0])
            assert np.array_equal(batch.future[3], column[end + 1 : end + 25])
            seen.add(end)
    low, high = tasks.cuts(task, 24)
    assert (low, high) == (100 + 23, 600 - 24)
    assert low <= min(seen) <= low + 30 and high - 30 <= max(seen) < high


def test_a_batch_follows_from_the_generator_given_and_leaves_the_global_one(panel):
    tasks = make_tasks(panel, ALL, TRAIN, "returns", "majors")
    before = np.random.get_state()[1].copy()
    assert same(batches(tasks), batches(tasks))
    assert np.array_equal(before, np.random.get_state()[1])


def test_rows_of_a_window_share_a_group_and_covariates_have_no_future(panel):
    tasks = make_tasks(panel, ALL, TRAIN, "returns", "majors")
    batch = batches(tasks, 1)[0]
    bounds = [*batch.offsets, len(batch.context)]
    sizes = np.diff(bounds)
    assert set(sizes) <= {7, 14} and 48 <= sizes.sum() < 48 + 14
    for i, (start, stop) in enumerate(pairwise(bounds)):
        assert (batch.group_ids[start:stop] == i).all()
        targets = 4 * (stop - start) // 7
        assert np.isfinite(batch.future[start : start + targets]).all() and np.isnan(batch.future[start + targets : stop]).all()
        assert len({int(np.isnan(row).sum()) for row in batch.context[start:stop]}) == 1


@pytest.mark.parametrize("name", list(PREAUGS))
def test_a_preaug_is_fitted_on_the_context_and_gives_the_raw_future_back(panel, name):
    task = make_tasks(panel, ALL, TRAIN, "returns").tasks[0]
    picks, firsts = [Pick(task, 300), Pick(task, 120), Pick(task, 400)], [100, 100, 100]
    batch = encode(picks, firsts, 96, 12, PREAUGS[name])
    changed = make_tasks(disturbed(panel, slice(301, 313)), ALL, TRAIN, "returns").tasks[0]
    other = encode([Pick(changed, 300)], [100], 96, 12, PREAUGS[name])
    np.testing.assert_array_equal(other.context[:, -96:], batch.context[:7])
    raw = encode(picks, firsts, 96, 12)
    assert np.array_equal(batch.context[4:7], raw.context[4:7], equal_nan=True)  # covariates stay as they are
    for members, state in batch.states:
        future = np.stack([batch.future[batch.offsets[i] : batch.offsets[i] + 4] for i in members])
        back = PREAUGS[name].inverse(future[:, :, None, :], state, median=0)[:, :, 0]
        truth = np.stack([raw.future[batch.offsets[i] : batch.offsets[i] + 4] for i in members])
        np.testing.assert_allclose(back, truth, rtol=2e-5)


def test_short_contexts_are_padded_on_the_left(panel):
    task = make_tasks(panel, ALL, TRAIN).tasks[0]
    batch = encode([Pick(task, 119), Pick(task, 300)], [100, 100], 64)
    assert batch.future.shape == (8, 0)
    assert np.isnan(batch.context[:4, :44]).all() and np.array_equal(batch.context[:4, 44:], task.targets[:, 100:120].astype(np.float32))


def test_what_cannot_be_is_a_message(panel):
    with pytest.raises(TrainableError, match=r"covariates: 'return' .*did you mean 'returns'"):
        make_tasks(panel, ALL, TRAIN, "return")
    with pytest.raises(TrainableError, match="grouping"):
        make_tasks(panel, ALL, TRAIN, grouping="sector")
    with pytest.raises(TrainableError, match="must lie in the window"):
        make_tasks(panel, Window(0, 500), TRAIN)
    with pytest.raises(TrainableError, match="needs 48 bars"):
        sample(make_tasks(panel, ALL, Window(100, 140)), np.random.default_rng(0), 8, 64, 24)
    empty = make_tasks(panel, ALL, Window(0, 0), grouping="correlation")
    with pytest.raises(TrainableError, match="train window"):
        assert empty.train_end


def test_train_end_is_the_last_bar_training_may_see(panel):
    assert make_tasks(panel, ALL, TRAIN).train_end == panel.times[599]
    stocks = panel.select(["NVDA", "MSFT"])
    assert make_tasks(stocks, ALL, TRAIN).train_end == panel.times[np.flatnonzero(panel.exists[:600, 4])[-1]]


def test_the_digest_changes_with_what_training_sees(panel):
    digests = {
        make_tasks(panel, ALL, TRAIN).digest,
        make_tasks(panel, ALL, Window(100, 601)).digest,
        make_tasks(panel, ALL, TRAIN, "returns").digest,
        make_tasks(panel, ALL, TRAIN, grouping="majors").digest,
        make_tasks(disturbed(panel, [3]), ALL, TRAIN).digest,
    }
    assert len(digests) == 5
    assert make_tasks(panel, ALL, TRAIN).digest in digests
