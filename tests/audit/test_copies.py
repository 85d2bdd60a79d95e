"""A changed market comes in the files, columns and stamps of the study's own."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.metrics import Metric
from tests.audit.leaks import MomentumCurve
from trainables.audit import audit
from trainables.audit.copies import Source
from trainables.audit.entrance import study_panel
from trainables.audit.perturb import perturb
from trainables.contract import Evaluation, Parameter, Prepared
from trainables.market import load_market, sample_panel

FRAME = sample_panel(["BTCUSD", "ETHUSD"], 300).frame()
ONE = FRAME[FRAME["symbol"] == "BTCUSD"].drop(columns="symbol").reset_index(drop=True)


def spelled(frame, how):
    times = pd.DatetimeIndex(frame["timestamp"])
    spellings = {
        "offset": times.strftime("%Y-%m-%d %H:%M:%S+00:00"),
        "zulu": times.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "minutes": times.strftime("%Y-%m-%d %H:%M"),
        "seconds": times.asi8 // 10**9,
        "milliseconds": times.asi8 // 10**6,
    }
    return frame.assign(timestamp=spellings[how])


def rewritten(source, tmp_path, panel=None, **data):
    data = {"source": str(source), **data}
    own = load_market(data)[0]
    made = Source.read(data, own).write(panel(own) if panel else own, tmp_path / "copy")
    return own, made


def changed(panel, row=200):
    return perturb(panel, "scaled", row, np.random.default_rng(1))


@pytest.mark.parametrize("how", ["offset", "zulu", "minutes", "seconds", "milliseconds"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_an_unchanged_copy_of_a_csv_is_the_same_file_whatever_its_spelling(tmp_path, how, newest_first):
    table = spelled(ONE, how).rename(columns={"timestamp": "Date", "volume": "Vol"}).assign(trades=7)[:: -1 if newest_first else 1]
    table.to_csv(tmp_path / "BTCUSD.csv", index=False)
    own, made = rewritten(tmp_path / "BTCUSD.csv", tmp_path, assume_tz="UTC")
    assert made["source"].endswith("BTCUSD.csv") and set(made) == {"source", "assume_tz"}
    assert Path(made["source"]).read_text() == (tmp_path / "BTCUSD.csv").read_text()
    own, made = rewritten(tmp_path / "BTCUSD.csv", tmp_path, changed, assume_tz="UTC")
    copy, wanted = pd.read_csv(made["source"]), changed(own)
    assert list(copy.columns) == list(table.columns)
    # The old rows are there as they were, the new ones in the same spelling, without what nobody can know.
    assert list(copy["Date"]) == list(table["Date"])
    before = copy.iloc[::-1] if newest_first else copy
    assert (before["trades"][:200] == 7).all() and before["trades"][200:].isna().all()
    assert load_market(made)[0].fingerprint == wanted.fingerprint


def test_several_symbols_in_one_file_stay_in_one_file_in_its_order(tmp_path):
    for order in (["timestamp", "symbol"], ["symbol", "timestamp"]):
        table = FRAME.sort_values(order, kind="stable").rename(columns={"symbol": "Symbol"})
        table.to_csv(tmp_path / "all.csv", index=False)
        own, made = rewritten(tmp_path / "all.csv", tmp_path, changed)
        copy = pd.read_csv(made["source"])
        assert list(copy["Symbol"]) == list(table["Symbol"]) and "symbols" not in made
        assert load_market(made)[0].fingerprint == changed(own).fingerprint


def test_a_symbol_that_is_left_alone_in_a_file_keeps_its_name(tmp_path):
    late = FRAME[(FRAME["symbol"] == "BTCUSD") | (FRAME["timestamp"] > FRAME["timestamp"].iloc[150])]
    late.to_csv(tmp_path / "all.csv", index=False)
    _, made = rewritten(tmp_path / "all.csv", tmp_path, lambda panel: panel.between(end=panel.times[100]))
    assert load_market(made)[0].symbols == ("BTCUSD",)


def test_parquet_stays_parquet_with_its_index_and_types(tmp_path):
    ONE.assign(volume=ONE["volume"].astype(int)).set_index("timestamp").to_parquet(tmp_path / "BTCUSD.parquet")
    own, made = rewritten(tmp_path / "BTCUSD.parquet", tmp_path, changed)
    copy, table = pd.read_parquet(made["source"]), pd.read_parquet(tmp_path / "BTCUSD.parquet")
    assert copy.index.equals(table.index) and copy.index.name == "timestamp" and copy["volume"].dtype == table["volume"].dtype
    pd.testing.assert_frame_equal(copy[:200], table[:200])
    assert load_market(made)[0].fingerprint == changed(own).fingerprint


def test_a_folder_stays_a_folder_with_files_of_its_kinds(tmp_path):
    (tmp_path / "bars" / "crypto").mkdir(parents=True)
    ONE.to_csv(tmp_path / "bars" / "crypto" / "BTCUSD.csv.gz", index=False)
    FRAME[FRAME["symbol"] == "ETHUSD"].to_parquet(tmp_path / "bars" / "ETHUSD.parquet")
    own, made = rewritten(tmp_path / "bars", tmp_path, changed, bars=250, start="2024-01-01")
    assert own.n_bars == 250 and load_market(made)[0].fingerprint == changed(own).fingerprint
    root = tmp_path / "copy" / "bars"
    assert sorted(str(x.relative_to(root)) for x in root.rglob("*.*")) == ["ETHUSD.parquet", "crypto/BTCUSD.csv.gz"]
    assert gzip.decompress((root / "crypto" / "BTCUSD.csv.gz").read_bytes()).startswith(b"timestamp,open,high,low,close,volume\n")
    assert "a folder of 2 CSV and Parquet files" in Source.read({"source": str(tmp_path / "bars")}, own).describe()


def test_a_study_of_other_times_fits_its_keys_to_a_copy(tmp_path):
    ONE.to_csv(tmp_path / "BTCUSD.csv", index=False)
    data = {"bars": 100, "start": "2024-01-02", "end": "2024-01-10", "assets": {"crypto": {"maker_fee_bps": 1}}}
    null = sample_panel(["BTCUSD"], 1000, start="2024-01-01")
    _, made = rewritten(tmp_path / "BTCUSD.csv", tmp_path, lambda panel: null, **data)
    assert load_market(made)[0].n_bars == 1000 and made["bars"] == 1000


class ReadsOneCsv(MomentumCurve):
    """Somebody's own way to read: no market, no classes, one file."""

    def prepare(self, data, settings, *cut):
        table = pd.read_csv(data["source"], parse_dates=["timestamp"], index_col="timestamp")
        return Prepared({"moves": table[["close"]].pct_change().fillna(0.0)}, "", {}, {"bars": 3})


def test_a_trainable_that_reads_one_csv_is_audited_even_if_its_symbol_is_unknown(tmp_path):
    spelled(ONE, "minutes").to_csv(tmp_path / "btc.csv", index=False)
    report = audit(ReadsOneCsv(), {"source": str(tmp_path / "btc.csv"), "column": "close"}, {}, [{"bars": 2}], cuts=2, null_bars=500)
    assert report.finding("entrance").passed and report.finding("future").passed, str(report)
    assert report.finding("null market").passed is not False and "a CSV file, btc.csv" in " ".join(report.notes)

    class Peeks(ReadsOneCsv):
        def position(self, moves, bars):
            return (moves.shift(-1) > 0.0).astype(float)

    report = audit(Peeks(), {"source": str(tmp_path / "btc.csv")}, {}, [{"bars": 2}], cuts=2, null_bars=500)
    assert report.finding("future").passed is False


def test_a_trainable_that_cannot_run_on_a_copy_says_what_the_copy_was(tmp_path):
    ONE.to_csv(tmp_path / "BTCUSD.csv", index=False)

    class Pinned(ReadsOneCsv):
        def prepare(self, data, settings, *cut):
            if data["source"] != str(tmp_path / "BTCUSD.csv"):
                raise KeyError("elsewhere")
            return super().prepare(data, settings)

    report = audit(Pinned(), {"source": str(tmp_path / "BTCUSD.csv")}, {}, [{"bars": 2}, {"bars": 3}], cuts=2)
    found = report.finding("entrance")
    assert found.passed is None and found.detail == (
        "could not run on a changed copy of the data: KeyError: 'elsewhere'; the copy is a CSV file, BTCUSD.csv"
        " (columns timestamp, open, high, low, close, volume); data keys passed: source"
    )
    assert report.finding("batch").passed and report.finding("future").passed is None and "see entrance" in report.finding("future").detail


def test_a_trainable_that_reads_more_than_bars_is_told_so(tmp_path):
    ONE.to_csv(tmp_path / "BTCUSD.csv", index=False)

    class Elsewhere(ReadsOneCsv):
        def prepare(self, data, settings, *cut):
            made = super().prepare(data, settings)
            if data["source"] == str(tmp_path / "BTCUSD.csv"):
                made.inputs["moves"] *= 2.0
            return made

    found = audit(Elsewhere(), {"source": str(tmp_path / "BTCUSD.csv")}, {}, [{"bars": 2}], cuts=1, checks=("entrance",)).finding(
        "entrance"
    )
    assert found.passed is None and "an unchanged copy: what but its bars" in found.detail


class Timeless:
    """No market, no time, no return."""

    name, version, objective = "timeless", "1", "score"
    parameters = (Parameter("x", 1.0, "float"),)
    metrics = (Metric("score", "max", "ratio", "how good"),)

    def prepare(self, data, settings, *cut):
        return Prepared(None, "", {}, {"x": 1.0})

    def evaluate_pack(self, configs, ctx):
        return Evaluation(pd.DataFrame({"score": [config["x"] ** 2 for config in configs]}))


def test_a_trainable_without_time_or_return_gets_reasons_and_no_verdict():
    report = audit(Timeless(), {}, {}, [{"x": 1.0}, {"x": 2.0}], cuts=1)
    assert report.ok and not report.complete and report.finding("batch").passed
    assert report.finding("future").detail == "no stage can be seen"
    assert "neither daily returns nor equity" in report.finding("null market").detail


def test_only_a_trainable_that_loads_its_data_itself_may_leave_the_class_open(tmp_path):
    ONE.to_csv(tmp_path / "btc.csv", index=False)
    assert study_panel({"source": str(tmp_path / "btc.csv"), "mine": 3}, own_loading=True).symbols == ("BTC",)
    with pytest.raises(ValueError, match="BTC"):
        study_panel({"source": str(tmp_path / "btc.csv")})
