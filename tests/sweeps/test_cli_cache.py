from __future__ import annotations

import re

import pytest

from cluster.cache import Store

STUDY = """
name: small
description: Forecasts of three kinds under one grid.
trainable: selector_forecast
data: {source: sample, bars: 900, signal: 0.25, seed: 7, symbols: [BTCUSD, ETHUSD]}
settings: {logits: [3, 4, 2, 2]}
protocol: {folds: 2, holdout: 10%}
space:
  forecaster: [naive, empirical, chronos2]
  min_edge: [0.0, 0.0005, 0.001, 0.002]
fixed: {context: 64}
search: {sampler: grid}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALPHASWEEP_CACHE", str(tmp_path / "tables"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "small.yaml").write_text(STUDY)
    return tmp_path


def alphasweep(capsys, *args):
    from sweeps.cli import main

    try:
        main(list(args))
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.slow
def test_a_run_builds_each_table_once_and_a_second_study_finds_them(place, capsys):
    code, text = alphasweep(capsys, "run", "small.yaml")
    assert code == 0, text
    line = re.search(r"Cache: 6 tables, 0 rows found .*, ([\d,]+) built in .*; .* in memory for \d workers, apart .*\.", text)
    assert line, text
    built = int(line[1].replace(",", ""))
    code, text = alphasweep(capsys, "run", "small.yaml", "--set", "name=other", "--set", "space.min_edge=[0.003]", "--fresh")
    assert code == 0 and re.search(rf"Cache: 6 tables, {built:,} rows found \(.* saved\), 0 built", text), text
    assert not any(entry.held for entry in Store().entries())


def test_tables_are_made_beforehand_listed_shown_and_removed(place, capsys):
    assert "Nothing in" in alphasweep(capsys, "cache", "ls")[1]
    code, text = alphasweep(capsys, "cache", "warm", "small.yaml", "--set", "space.forecaster=[naive, empirical]")
    assert code == 0 and re.search(r"Cache: 4 tables, 0 rows found \(0 ms saved\), [\d,]+ built in", text), text
    code, text = alphasweep(capsys, "cache", "warm", "small.yaml", "--set", "space.forecaster=[naive, empirical]")
    assert re.search(r"Cache: 4 tables, [\d,]+ rows found \(.*\), 0 built", text), text
    text = alphasweep(capsys, "cache", "ls")[1]
    assert "4 tables" in text and "BTCUSD, ETHUSD" in text and "naive" in text and "window=168" in text
    text = alphasweep(capsys, "cache", "ls", "--each")[1]
    keys = re.findall(r"^ ([0-9a-f]{8}) ", text, re.MULTILINE)
    assert len(keys) == 4
    code, text = alphasweep(capsys, "cache", "show", keys[0])
    assert code == 0 and "every file is as it was written" in text and "52: close" not in text and "open_p10_h1" in text
    code, text = alphasweep(capsys, "cache", "gc", "--older", "1h")
    assert code == 0 and "Removed 0 tables" in text
    code, text = alphasweep(capsys, "cache", "gc", "--all")
    assert code == 0 and re.search(r"Removed 4 tables, .*; 0 left", text), text


def test_a_damaged_table_is_named_and_built_again(place, capsys):
    alphasweep(capsys, "cache", "warm", "small.yaml", "--set", "space.forecaster=[naive]")
    entry = Store().entries()[0]
    file = min((place / "tables" / "forecasts" / entry.key).glob("*.arrow"))
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    code, text = alphasweep(capsys, "cache", "show", entry.key[:10])
    assert code == 1 and "built again when somebody asks" in text, text
    code, text = alphasweep(capsys, "cache", "warm", "small.yaml", "--set", "space.forecaster=[naive]")
    assert code == 0 and file.name in text and " 0 built" not in text, text
    assert alphasweep(capsys, "cache", "show", entry.key)[0] == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "ffff"), "ffff: no table has a key that begins so"),
        (("gc", "--older", "soon"), "--older: 'soon' is not an age"),
        (("gc", "--limit", "lots"), "--limit: 'lots' is not a size"),
    ],
)
def test_wrong_words_are_told_in_a_line(place, capsys, args, message):
    code, text = alphasweep(capsys, "cache", *args)
    assert code == 2 and message in text and "Traceback" not in text


def test_what_is_left_out_or_stays_is_said(place, capsys, monkeypatch):
    monkeypatch.setattr("sweeps.commands.cache._MOST", 3)
    text = alphasweep(capsys, "cache", "warm", "small.yaml", "--set", "space.forecaster=[naive, empirical]")[1]
    assert "Tables of the first 3 configurations were made; the other 5 may ask for more" in text
    stray = next((place / "tables" / "forecasts").iterdir()) / f"20241399T000000_20250101T000000_5rows_1ms_{'0' * 32}_{'0' * 32}.arrow"
    stray.touch()
    assert alphasweep(capsys, "cache", "ls")[0] == 0
    monkeypatch.setattr("cluster.cache.evict.evict", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    code, text = alphasweep(capsys, "cache", "gc", "--all")
    assert code == 0 and "cannot be removed (Permission denied)" in text


def test_a_study_without_tables_says_so(place, capsys):
    text = alphasweep(capsys, "cache", "warm", "lora_ranks", "--set", "data.bars=2000")[1]
    assert "asks for no tables" in text
