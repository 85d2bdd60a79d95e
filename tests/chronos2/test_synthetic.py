import re
from pathlib import Path

import numpy as np
import pytest

from trainables.chronos2 import synthetic
from trainables.chronos2.pretrain import (
    BASELINES,
    CONTEXT,
    HORIZON,
    STRUCTURED,
    Recipe,
    _print,
    baselines,
    evaluate,
    held_out,
    main,
    pretrain,
    save,
)
from trainables.market.sample import sample_panel

SEED = 11
PAGE = (Path(__file__).parents[2] / "docs" / "small_model.md").read_text(encoding="utf-8")


def generator(seed=SEED):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def market():
    return synthetic.market_windows(synthetic.markets(synthetic.TRAINING_MARKETS, 2, 1_500))


@pytest.fixture(scope="module")
def scores():
    from trainables.chronos2.model import load_base

    return evaluate(load_base("small", device="cpu"), held_out(seed=0))


@pytest.mark.parametrize("family", [synthetic.profiles, synthetic.mixtures, synthetic.views])
def test_a_family_makes_the_rows_asked_for_and_the_same_again(family):
    sizes = np.array([1, 3, 2])
    made = family(generator(), sizes, 300)
    assert made.shape == (6, 300)
    assert np.isfinite(made).all()
    assert (made.std(axis=1) > 0).sum() >= 5
    assert np.array_equal(made, family(generator(), sizes, 300))
    assert not np.array_equal(made, family(generator(1), sizes, 300))
    assert family(generator(), np.array([], int), 300).shape == (0, 300)


def test_autoregression_is_the_recursion():
    noise = generator().normal(size=(2, 50))
    decay = np.array([[0.5], [1.0]])
    expected = np.zeros((2, 50))
    for t in range(50):
        expected[:, t] = decay[:, 0] * (expected[:, t - 1] if t else 0) + noise[:, t]
    assert np.allclose(synthetic.autoregressive(decay, noise), expected)


def test_a_groups_profiles_repeat_daily_or_weekly_and_are_shared():
    made = synthetic.profiles(generator(), np.full(200, 2), 24 * 14)
    a, b = made[::2], made[1::2]
    weekly = np.array([np.corrcoef(row[:168], row[168:])[0, 1] for row in a])
    alike = np.array([abs(np.corrcoef(x, y)[0, 1]) for x, y in zip(a, b, strict=True)])
    strangers = np.array([abs(np.corrcoef(x, y)[0, 1]) for x, y in zip(a, np.roll(b, 1, axis=0), strict=True)])
    assert np.median(weekly) > 0.6
    assert np.median(alike) > 0.6 > 0.3 > np.median(strangers)


def test_a_late_view_follows_its_source():
    made = synthetic.views(generator(), np.full(300, 2), 400)
    late, level = [], []
    for x, y in zip(made[::2], made[1::2], strict=True):
        lags = range(-synthetic.LONGEST_LAG, synthetic.LONGEST_LAG + 1)
        inner = slice(synthetic.LONGEST_LAG, 400 - synthetic.LONGEST_LAG)
        related = [abs(np.corrcoef(x[inner], np.roll(y, lag)[inner])[0, 1]) for lag in lags]
        late.append(max(related))
        level.append(related[synthetic.LONGEST_LAG])
    assert (np.array(late) > 0.6).mean() > 0.3
    assert (np.array(late) - np.array(level) > 0.1).mean() > 0.3


def test_markets_are_the_sample_markets_own_process_under_seeds_no_study_uses():
    assert synthetic.HELD_OUT_MARKETS >= 2**62
    made = synthetic.markets(synthetic.HELD_OUT_MARKETS, 1, 600, (0.1,))[0]
    panel = sample_panel(bars=600, seed=synthetic.HELD_OUT_MARKETS, signal=0.1)
    for k, symbol in enumerate(made):
        have = np.isfinite(panel.close[:, k])
        assert symbol.shape == (9, have.sum())
        assert np.array_equal(symbol[3], panel.close[have, k].astype(np.float32))
        assert np.array_equal(symbol[4], panel.volume[have, k].astype(np.float32))
        assert np.isfinite(symbol).all()


def test_training_and_held_out_markets_cannot_meet():
    most = Recipe().markets * 2**32  # a seed of 32 bits, and no evaluation has a seed above it
    assert synthetic.HELD_OUT_MARKETS + 2_001 * 2**32 < synthetic.TRAINING_MARKETS
    assert synthetic.TRAINING_MARKETS + most < 2**64


def test_windows_keep_prices_in_order_and_two_coins_in_the_same_hours(market):
    rows = market(generator(), np.array([4, 9, 8]), 280)
    assert rows.shape == (21, 280)
    for first in (0, 4, 13, 17):
        opens, high, low, close = rows[first : first + 4]
        assert (high >= np.maximum(opens, close)).all()
        assert (low <= np.minimum(opens, close)).all()
    pairs = [np.diff(np.log(market(generator(s), np.array([8]), 280)[[3, 7]])) for s in range(8)]
    assert np.mean([np.corrcoef(pair)[0, 1] for pair in pairs]) > 0.3


def test_a_batch_holds_whole_groups_of_all_families(market):
    batches = [synthetic.draw(generator(s), market, 64, 100) for s in range(30)]
    for batch in batches:
        assert batch.values.shape == (len(batch.groups), 100)
        assert batch.values.dtype == np.float32
        assert np.isfinite(batch.values).all()
        assert 64 <= len(batch.groups) <= 72
        assert (np.diff(batch.groups) >= 0).all()
    sizes = np.concatenate([np.bincount(batch.groups) for batch in batches])
    assert set(sizes) == {1, 2, 3, 4, 8, 9}


def test_no_generator_touches_the_global_stream(market):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    synthetic.draw(generator(), market, 64, 100)
    synthetic.gaussian_processes(generator(), 2, 50)
    assert np.array_equal(before, np.random.get_state()[1])


def test_held_out_series_are_the_same_again_and_others_under_another_seed():
    first, again, other = held_out(1, 0.05), held_out(1, 0.05), held_out(2, 0.05)
    for name, series in first.items():
        assert series.shape[-1] == CONTEXT + HORIZON
        assert np.isfinite(series).all()
        assert np.array_equal(series, again[name])
        assert not np.array_equal(series, other[name])


def test_baselines_forecast_what_their_names_say():
    context = generator().normal(size=(3, 2, CONTEXT)).cumsum(axis=-1)
    made = baselines(context)
    assert set(made) == set(BASELINES)
    assert all(q.shape == (3, 2, 9, HORIZON) for q in made.values())
    assert (made["naive"] == context[..., -1:, None]).all()
    assert np.array_equal(made["seasonal naive"][:, :, 4], context[..., -24:])
    fifth = context[1, 0, 5:] - context[1, 0, :-5]
    assert np.allclose(made["naive + empirical"][1, 0, :, 4], context[1, 0, -1] + np.quantile(fifth, np.arange(1, 10) / 10))
    day = context[1, 0, 24:] - context[1, 0, :-24]
    assert np.allclose(made["seasonal + empirical"][1, 0, :, 4], context[1, 0, -20] + np.quantile(day, np.arange(1, 10) / 10))


def test_scores_are_those_of_the_formulas():
    class Ahead:
        """Forecasts the last value plus one unit of the standardised series at every level."""

        def predict_quantiles(self, context, horizon, quantile_levels, batch_size):
            import torch

            last = torch.from_numpy(context[..., -1:, None]) + 1.0
            return [row.expand(-1, horizon, len(quantile_levels)) for row in last], None

    x = generator().normal(size=(4, 1, CONTEXT + HORIZON)).cumsum(axis=-1)
    scores = evaluate(Ahead(), {"walks": x})
    z = x / x[..., :CONTEXT].std(axis=-1, keepdims=True)
    future, last = z[..., CONTEXT:], z[..., CONTEXT - 1 : CONTEXT]
    # With all quantiles alike the mean over symmetric levels of 2 × pinball is the absolute error.
    assert scores.loc[("walks", "naive"), "wql"] == pytest.approx(np.abs(future - last).sum() / np.abs(future).sum())
    assert scores.loc[("walks", "model"), "wql"] == pytest.approx(np.abs(future - last - 1).sum() / np.abs(future).sum(), rel=1e-5)
    step = np.abs(np.diff(z[..., :CONTEXT])).mean(axis=-1)
    assert scores.loc[("walks", "naive"), "mase"] == pytest.approx((np.abs(future - last).mean(axis=-1) / step).mean())


def test_a_few_steps_give_the_same_bits_twice_and_leave_the_global_streams_alone(tmp_path):
    import torch

    recipe = Recipe(steps=3, markets=2, market_bars=3_000, rows=16)
    made = []
    for name in ("a", "b"):
        torch.manual_seed(len(made))  # wherever the global stream is
        state = torch.get_rng_state()
        losses = []
        pipeline = pretrain(recipe, lambda step, loss, kept=losses: kept.append((step, loss)))
        assert torch.equal(state, torch.get_rng_state())
        save(pipeline, tmp_path / name)
        made.append(((tmp_path / name / "model.safetensors").read_bytes(), losses))
    assert made[0] == made[1]
    assert [step for step, _ in made[0][1]] == [1, 2, 3]
    save(pretrain(Recipe(steps=3, markets=2, market_bars=3_000, rows=16, seed=1)), tmp_path / "c")
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != made[0][0]


def test_the_command_trains_and_saves_for_everyone(tmp_path, capsys):
    main(["--out", str(tmp_path / "made"), "--steps", "2"])
    files = sorted((tmp_path / "made").iterdir())
    assert [path.name for path in files] == ["config.json", "model.safetensors"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in files)
    assert "2 steps, seed 0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([])
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--steps", "0"])


def test_the_embedded_model_beats_both_baselines_where_there_is_something_to_forecast(scores):
    for name in STRUCTURED:
        rows = scores.loc[name].wql
        assert rows["model"] < 0.95 * rows["naive + empirical"], name
        assert rows["model"] < 0.95 * rows["seasonal naive"], name


def test_the_embedded_model_is_near_the_best_forecast_of_a_random_walk_and_no_skill_is_claimed(scores):
    rows = scores.loc["random-walk market"]
    assert rows.wql["model"] < 1.10 * rows.wql["naive + empirical"]
    assert rows.mase["model"] < 1.10 * rows.mase["naive"]


def test_the_printed_table_is_the_documented_one(scores, capsys):
    _print(scores)
    printed = [re.findall(r"\d+\.\d+", line) for line in capsys.readouterr().out.splitlines()]
    documented = [re.findall(r"\d+\.\d+", line) for line in PAGE.splitlines() if line.startswith("|")]
    printed, documented = ([np.array(row, float) for row in rows if len(row) == 10] for rows in (printed, documented))
    assert len(printed) == len(documented) == scores.index.get_level_values("set").nunique()
    for shown, written in zip(printed, documented, strict=True):
        assert np.allclose(shown, written, atol=0.011)  # another processor may round otherwise


def test_the_page_names_the_fingerprint_and_the_recipe():
    from trainables.chronos2.model import fingerprint

    assert fingerprint("small") in PAGE
    assert f"{Recipe().steps:,} steps of {Recipe().rows} series, seed {Recipe().seed}" in PAGE
    for family, share in synthetic.SHARES.items():
        assert f"{share:.0%}".replace("%", " %") in PAGE, family
