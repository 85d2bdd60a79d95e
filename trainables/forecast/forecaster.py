"""Who forecasts, behind one interface: forecast tables are issued by any `Forecaster`, one table per group, read where they are kept.

A forecaster says what its values depend on (`spec`, `reach`, the bars of a group) and builds rows; `issue` asks `tables.read` for them,
so that a row is built once whoever asks. A row must have the same bits whichever rows are built with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from trainables import tables
from trainables.contract import Parameter, TrainableError, nearest
from trainables.forecast import guard
from trainables.forecast.table import FIELDS, QUANTILES, Forecasts, Piece, column_names
from trainables.market import Panel
from trainables.market.panel import PRICES
from trainables.tables import Table
from trainables.timeline import Window

HORIZONS: Final = (1, 4, 12, 24)  # of the symbol's own bars; one pass serves all, so all are kept
FORECASTERS: Final = ("naive", "empirical", "chronos2")
Done = Callable[[int], None]  # rows finished so far
Progress = Callable[[int, int], None]  # rows there so far, rows asked for


class Forecaster(Protocol):
    """What forecasts. Inherit for the defaults: a symbol alone on its own bars, prices only, no guard.

    Attributes:
        name: Of the kind.
        horizons: Bars ahead.
        reach: Bars a row may depend on, its own included; 0 is all before it.
        least: Bars a symbol must have for a forecast; rows with fewer are missing.
        guarded: Whether what it says is put through the plausibility guard (`guard.guarded`), as a model's has to be.
    """

    name: str
    horizons: tuple[int, ...]
    reach: int = 0
    least: int = 1
    guarded: bool = False

    @property
    def spec(self) -> Mapping[str, Any]:
        """What values depend on besides bars, columns and symbols, as JSON takes it."""
        ...

    @property
    def made_with(self) -> Mapping[str, str]:
        """Versions of libraries that tables depend on, and results are not told apart by."""
        return {}

    @property
    def source(self) -> str:
        """The same for people, on one line; part of what identifies results."""
        ...

    def groups(self, panel: Panel) -> list[tuple[int, ...]]:
        """Panel columns that are forecast together; must not follow from what bars hold. By default each symbol alone."""
        return [(a,) for a in range(len(panel.symbols))]

    def bars(self, panel: Panel, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Panel rows (N,) in which every symbol of a group has a bar, and float64 (K, N), everything of them that enters values."""
        rows = np.flatnonzero(panel.exists[:, list(columns)].all(axis=1))
        return rows, np.stack([getattr(panel, name)[rows, a] for a in columns for name in PRICES])

    def admit(self, issued: np.datetime64) -> None:
        """Raises if forecasts may not be issued from this time on, say because the model was trained on it; here they may."""
        return None

    def build(self, panel: Panel, columns: tuple[int, ...], rows: np.ndarray, first: int, stop: int, done: Done) -> np.ndarray:
        """Forecasts.

        Args:
            panel: Bars.
            columns: A group.
            rows: Its panel rows (N,), of `bars`.
            first, stop: Positions in `rows` to forecast at; nothing after a position may enter its forecast.
            done: To be called now and then with the rows finished so far.

        Returns:
            float64 (k·H·4·3, stop − first): for each symbol the quantiles in the order of `column_names`.
        """
        ...


def issue(
    panel: Panel, forecaster: Forecaster, windows: Window | Sequence[Window] | None = None, progress: Progress | None = None
) -> Forecasts:
    """Issues forecasts at the end of every bar, or of those in some windows.

    Args:
        panel: Bars; of a holdout that is to stay sealed, not even given.
        forecaster: Who.
        windows: Panel rows at which forecasts are wanted; contexts reach back before them. None is all rows.
        progress: Called with the rows (of all groups) that are there so far, and those asked for.

    Returns:
        Forecasts on the panel's axes, NaN outside the windows and where a symbol has no bar or too few before it.

    Raises:
        TrainableError: A window outside the panel, a group without a common bar, or whatever the forecaster raises; a fine-tuned model
            raises where it would issue in the time it was trained on.
    """
    spans = _spans(panel, windows)
    plan = []
    for columns in forecaster.groups(panel):
        rows, bars = forecaster.bars(panel, columns)
        if not len(rows) and len(columns) > 1:
            names = ", ".join(panel.symbols[a] for a in columns)
            raise TrainableError(f"{forecaster.name}: {names} are forecast together and have no bar in common; forecast them one by one")
        places = [(max(int(a), forecaster.least - 1), int(b)) for a, b in (np.searchsorted(rows, span) for span in spans)]
        plan.append((columns, rows, bars, [(a, b) for a, b in places if b > a]))
    firsts = [rows[places[0][0]] for _, rows, _, places in plan if places]
    if firsts:
        forecaster.admit(panel.times[min(firsts)])
    total, so_far = sum(b - a for _, _, _, places in plan for a, b in places), 0
    pieces: list[Piece] = []
    # Workers that ask at once begin with different groups, so that they build side by side.
    turn = os.getpid() % max(1, len(plan))
    for columns, rows, bars, places in plan[turn:] + plan[:turn]:
        if not places:
            continue
        table = _table(panel, forecaster, columns, rows, bars)
        for first, stop in places:
            tell = None if progress is None else _shifted(progress, so_far, total)
            values = tables.read(table, first, stop, _builder(panel, forecaster, columns, rows, tell))
            pieces.extend(_pieces(columns, rows[first:stop], values, len(forecaster.horizons)))
            so_far += stop - first
            if progress is not None:
                progress(so_far, total)
    return Forecasts(panel.times, panel.symbols, forecaster.horizons, tuple(pieces), panel.bar_seconds, forecaster.source)


def make_forecaster(spec: Mapping[str, Any], where: str = "forecaster") -> Forecaster:
    """Makes a forecaster from plain JSON, for example {"forecaster": "chronos2", "model": "small", "context": 256}.

    Args:
        spec: `forecaster` (naive, empirical, chronos2) and its parameters: `horizons` of all; `window` and `minimum` of empirical; those
            of `trainables.chronos2.forecaster.PARAMETERS`.
        where: Path of the section, for messages.

    Raises:
        TrainableError: Names the key, what is allowed and the nearest spelling; or the model cannot be found or used.
    """
    given = dict(spec)
    name = given.pop("forecaster", None)
    if name not in FORECASTERS:
        hint = nearest(name, FORECASTERS) or "give one of " + ", ".join(FORECASTERS)
        raise TrainableError(f"{where}.forecaster: {name!r} is not allowed; {hint}")
    if name == "chronos2":
        from trainables.chronos2.forecaster import PARAMETERS, Chronos2

        return Chronos2(**_parameters(given, PARAMETERS, where, name))
    if name == "naive":
        from trainables.forecast.naive import Naive

        return Naive(**_parameters(given, (), where, name))
    from trainables.forecast.empirical import PARAMETERS as EMPIRICAL
    from trainables.forecast.empirical import Empirical

    return Empirical(**_parameters(given, EMPIRICAL, where, name))


def checked_horizons(horizons: Sequence[int], where: str = "horizons") -> tuple[int, ...]:
    """Returns distinct horizons in the given order.

    Raises:
        TrainableError: None, one below 1 or twice.
    """
    given = list(horizons) if isinstance(horizons, (list, tuple)) else None
    whole = given is not None and all(isinstance(h, (int, np.integer)) and not isinstance(h, bool) and h >= 1 for h in given)
    if not given or not whole or len(set(given)) < len(given):
        shown = horizons if given is None else given
        raise TrainableError(f"{where}: {shown!r}; give distinct whole numbers of bars, at least 1")
    return tuple(int(h) for h in given)


def _parameters(given: Mapping[str, Any], parameters: Sequence[Parameter], where: str, name: str) -> dict[str, Any]:
    known = {p.name: p for p in parameters}
    for key in given:
        if key not in known and key != "horizons":
            hint = nearest(key, [*known, "horizons"]) or "known: " + ", ".join([*known, "horizons"])
            raise TrainableError(f"{where}.{key}: {name} has no such parameter; {hint}")
    checked: dict[str, Any] = {key: known[key].check(value, f"{where}.{key}") for key, value in given.items() if key in known}
    return checked | {"horizons": checked_horizons(given.get("horizons", HORIZONS), f"{where}.horizons")}


def _spans(panel: Panel, windows: Window | Sequence[Window] | None) -> list[tuple[int, int]]:
    """Disjoint runs of the rows asked for."""
    if windows is None:
        return [(0, panel.n_bars)]
    wanted = np.zeros(panel.n_bars, bool)
    for start, stop in [windows] if isinstance(windows, Window) else windows:
        if not 0 <= start <= stop <= panel.n_bars:
            raise TrainableError(f"forecast: rows {start} to {stop} lie outside the panel's {panel.n_bars}")
        wanted[start:stop] = True
    return tables.runs(wanted)


def _table(panel: Panel, forecaster: Forecaster, columns: tuple[int, ...], rows: np.ndarray, bars: np.ndarray) -> Table:
    symbols = tuple(panel.symbols[a] for a in columns)
    together = len(columns) > 1
    names = tuple(name for symbol in symbols for name in column_names(forecaster.horizons, symbol if together else ""))
    spec, reach = {**forecaster.spec, **forecaster.made_with}, forecaster.reach
    if forecaster.guarded and reach:
        reach = max(reach, guard.REACH)
    where = f"{forecaster.source}, {', '.join(symbols)}"
    return Table("forecasts", spec, names, symbols, panel.times[rows], bars, reach, where)


def _builder(panel: Panel, forecaster: Forecaster, columns: tuple[int, ...], rows: np.ndarray, tell: Done | None) -> tables.Build:
    """Builds rows of a group's table: the forecaster's values, and for each horizon whether the guard replaced them."""
    height = len(forecaster.horizons) * len(FIELDS) * len(QUANTILES)

    def build(first: int, stop: int, done: Done) -> np.ndarray:
        def report(n: int) -> None:
            done(n)
            if tell is not None:
                tell(n)

        values = forecaster.build(panel, columns, rows, first, stop, report)
        if values.shape != (len(columns) * height, stop - first):
            raise TrainableError(
                f"{forecaster.name}: built values of shape {values.shape}; {(len(columns) * height, stop - first)} is needed"
            )
        parts: list[np.ndarray] = []
        for k, a in enumerate(columns):
            own = values[k * height : (k + 1) * height]
            flags = np.zeros((len(forecaster.horizons), stop - first))
            if forecaster.guarded:
                seen = rows[max(0, first - guard.RETURNS) : stop]
                own, flags = guard.guarded(own, np.stack([getattr(panel, name)[seen, a] for name in PRICES]), forecaster.horizons)
            parts.extend([own, flags])
        return np.concatenate(parts)

    return build


def _pieces(columns: tuple[int, ...], rows: np.ndarray, values: np.ndarray, horizons: int) -> list[Piece]:
    each = len(values) // len(columns)
    own = [values[k * each : (k + 1) * each] for k in range(len(columns))]
    return [Piece(a, rows, part[:-horizons], part[-horizons:]) for a, part in zip(columns, own, strict=True)]


def _shifted(progress: Progress, before: int, total: int) -> Done:
    return lambda n: progress(before + n, total)
