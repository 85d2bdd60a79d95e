import pytest

from trainables.market import Asset, MarketError, classify, make_assets


@pytest.mark.parametrize("symbol", ["BTCUSD", "sol/usd", "ETH-USD", "ETHUSDT", "LINKUSDC", "UNIFDUSD", "SOLU", "AAVEUSD"])
def test_known_coins_with_a_quote_are_crypto(symbol):
    assert classify(symbol) == "crypto"


@pytest.mark.parametrize("symbol", ["NVDA", "F", "GOOGL", "BRK.B", "BRK-B", "MU", "nflx"])
def test_plain_tickers_are_stocks(symbol):
    assert classify(symbol) == "stock"


@pytest.mark.parametrize("symbol", ["FOOUSD", "EURUSD", "FOO/USD", "XUSD", "SOL", "ETH", "0700.HK", "TOOLONG", ""])
def test_an_ambiguous_symbol_is_an_error_that_says_where_to_declare_it(symbol):
    with pytest.raises(MarketError, match=r"assets:.*asset_class"):
        classify(symbol)


def test_defaults_are_the_costs_of_the_class():
    coin, stock = make_assets(["SOLUSD", "NVDA"])
    assert (coin.maker_fee_bps, coin.taker_fee_bps, coin.half_spread_bps, coin.min_notional) == (15.0, 25.0, 0.0, 10.0)
    assert (stock.maker_fee_bps, stock.taker_fee_bps, stock.half_spread_bps, stock.min_notional) == (0.3, 0.3, 2.0, 1.0)
    assert not coin.can_short and not stock.can_short


def test_every_coin_pays_the_crypto_fee_never_a_stocks():
    assert {asset.maker_fee_bps for asset in make_assets(["BTCUSD", "ETHUSD", "SOLUSD", "LINKUSD", "UNIUSD"])} == {15.0}


def test_a_symbols_override_beats_its_class_which_beats_the_default():
    overrides = {"crypto": {"maker_fee_bps": 8, "taker_fee_bps": 9}, "ETHUSD": {"maker_fee_bps": 1.5}}
    first, second = make_assets(["BTCUSD", "ETHUSD"], overrides)
    assert (first.maker_fee_bps, first.taker_fee_bps) == (8.0, 9.0)
    assert (second.maker_fee_bps, second.taker_fee_bps) == (1.5, 9.0)


def test_a_declared_symbol_needs_no_classification():
    (asset,) = make_assets(["FOOUSD"], {"FOOUSD": {"asset_class": "crypto"}})
    assert asset == Asset("FOOUSD", "crypto", 15.0, 25.0, 0.0, min_notional=10.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"BTCUSD": {"maker_fee_bps": None}}, "missing fee"),
        ({"crypto": {"taker_fee_bps": None}}, "missing fee"),
        ({"BTCUSD": {"maker_fee": 3}}, "did you mean 'maker_fee_bps'"),
        ({"BTCUSDT": {"maker_fee_bps": 3}}, "did you mean 'BTCUSD'"),
        ({"cripto": {"maker_fee_bps": 3}}, "did you mean 'crypto'"),
        ({"crypto": {"asset_class": "stock"}}, "no such field"),
        ({"BTCUSD": {"asset_class": "bond"}}, "crypto or stock"),
        ({"BTCUSD": {"taker_fee_bps": -1}}, "negative"),
        ({"BTCUSD": {"taker_fee_bps": "25"}}, "give a number"),
        ({"BTCUSD": {"tick": 0}}, "price step"),
        ({"BTCUSD": {"can_short": 1}}, "true or false"),
        ({"BTCUSD": 15}, "give fields"),
    ],
)
def test_wrong_overrides_are_errors_with_the_nearest_spelling(overrides, message):
    with pytest.raises(MarketError, match=message):
        make_assets(["BTCUSD"], overrides)


def test_an_asset_without_a_fee_cannot_be_made():
    with pytest.raises(MarketError, match="missing fee taker_fee_bps"):
        Asset("X", "stock", 0.3, None, 2.0)


def test_shorting_by_groups_only_when_asked():
    assets = {a.symbol: a for a in make_assets(["NVDA", "EXPE", "NFLX", "BTCUSD"], {"stock": {"can_short": "groups"}})}
    assert {name: (a.can_long, a.can_short) for name, a in assets.items()} == {
        "NVDA": (True, False),
        "EXPE": (False, True),
        "NFLX": (True, True),
        "BTCUSD": (True, False),
    }


def test_a_symbol_listed_twice_is_an_error():
    with pytest.raises(MarketError, match="twice: NVDA"):
        make_assets(["NVDA", "MSFT", "NVDA"])
