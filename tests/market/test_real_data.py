"""Real bars, where a folder with them lies beside the repository."""

from pathlib import Path

import numpy as np
import pytest

from trainables.market import load_market, summarise

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real bars in ../shared/data")


def test_two_years_of_crypto_load_with_their_gaps():
    panel, problems = load_market({"source": str(DATA / "crypto_1h")})
    assert len(panel.symbols) == 9 and panel.n_bars == 18_880 and panel.bar_seconds == 3600.0
    table = summarise(problems)
    gaps = table[table["reason"] == "gap"]
    assert set(gaps["symbol"]) == set(panel.symbols) and (gaps["count"] == 5).all()
    assert (table["severity"] == "warning").all()
    steps = np.diff(panel.times) / np.timedelta64(1, "h")
    assert (steps > 1).sum() == 5
    assert (panel.tradable == panel.exists).all()


def test_crypto_and_stocks_of_different_offsets_share_an_axis():
    source = [str(DATA / "crypto_1h_2025"), str(DATA / "stocks_1h")]
    panel, problems = load_market({"source": source, "start": "2025-11-01", "end": "2025-12-31"})
    assert panel.bar_seconds == 3600.0
    coin, share = panel.symbols.index("BTCUSD"), panel.symbols.index("NVDA")
    assert not (panel.tradable[:, coin] & panel.tradable[:, share]).any()  # full hours and half hours
    minutes = (panel.times.astype("datetime64[m]").astype(int) % 60)[panel.tradable[:, share]]
    assert set(minutes) == {30}
    sessions = panel.times[panel.session_last[:, share]].astype("datetime64[D]")
    assert len(sessions) == 38  # of 40: this source has no 12:30 bar on the two early closes
    assert not np.isin(np.array(["2025-11-27", "2025-11-28", "2025-12-24", "2025-12-25"], "datetime64[D]"), sessions).any()
    stubs = {(p.symbol, str(p.timestamp)) for p in problems if p.reason == "off-grid"}
    assert ("NVDA", "2025-11-28 18:00:00+00:00") in stubs


def test_daily_stocks_load_without_a_problem():
    panel, problems = load_market({"source": str(DATA / "daily")})
    assert problems == [] and panel.bar_seconds == 86400.0
    assert panel.tradable.all()
