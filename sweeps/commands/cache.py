"""The `alphasweep cache` commands: the forecasts, features and outputs of stages that studies share."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands.console import SetOpt, StudyArg, load_study, out, say, table

if TYPE_CHECKING:
    from cluster.cache import Entry, Store
    from cluster.cache.answers import Usage
    from cluster.cache.outputs import OutputUse

app = typer.Typer(help="Forecasts and features that studies share: look at them, make them beforehand, remove them.", no_args_is_help=True)

KeyArg = Annotated[str, typer.Argument(help="Key of a table, or how it begins, from `alphasweep cache ls`.", show_default=False)]
_SYMBOLS = 3  # named in a line
_MOST = 10_000  # configurations of a sampled space whose tables are made beforehand


@app.command()
def ls(each: Annotated[bool, typer.Option("--each", help="A line, with its key, for each table: of every symbol.")] = False) -> None:
    """List the tables, and the outputs of stages, on this machine, the most recently used first."""
    from cluster.cache import Store, default_limit, default_root
    from cluster.cache.outputs import KIND

    entries = sorted(Store().entries(), key=lambda e: e.used, reverse=True)
    if not entries:
        say(f"Nothing in {default_root()} yet.")
        return
    together: dict[str, list[Entry]] = {}
    for entry in entries:
        what = entry.spec.get("stage") if entry.kind == KIND else sorted(entry.spec.items())
        together.setdefault(entry.key if each else f"{entry.kind} {what}", []).append(entry)
    rows = []
    for some in together.values():
        symbols = sorted({symbol for entry in some for symbol in entry.symbols})
        days = [stamp for entry in some for stamp in (entry.first, entry.last) if stamp is not None]
        rows.append(
            [
                *([some[0].key[:8]] if each else []),
                some[0].kind,
                _what(some[0]) if each or some[0].kind != KIND else f"{some[0].spec.get('stage', '')}, {len(some)} of it",
                ", ".join(symbols) if len(symbols) <= _SYMBOLS else f"{', '.join(symbols[:_SYMBOLS])} and {len(symbols) - _SYMBOLS} more",
                f"{sum(entry.rows for entry in some):,}" if some[0].kind != KIND else "–",
                f"{min(days):%Y-%m-%d} – {max(days):%Y-%m-%d}" if days else "–",
                _amount(sum(entry.bytes for entry in some)),
                _seconds(sum(entry.seconds for entry in some)),
                "in use" if any(entry.held for entry in some) else _ago(some[0].used),
            ]
        )
    title = f"{_counted(entries)}, {_amount(sum(entry.bytes for entry in entries))} of {_amount(default_limit())}, in {default_root()}"
    names = (*(["key"] if each else []), "kind", "of", "symbols", "rows", "days", "size", "built in", "used")
    out.print(table(names, rows, title=title, numbers=("rows", "size", "built in")))


@app.command()
def show(key: KeyArg) -> None:
    """Show one table or output: what it holds and depends on, and whether its files are what was written."""
    from cluster.cache import Store
    from cluster.cache.outputs import KIND, DiskOutputs

    store = Store()
    entry = _find(store, key)
    lines = [
        ("key", entry.key),
        ("kind", entry.kind),
        *((str(name), _text(value)) for name, value in entry.spec.items()),
        *([] if entry.kind == KIND else _rows_of(entry)),
        ("size", _amount(entry.bytes)),
        ("built in", _seconds(entry.seconds)),
        ("created", f"{_stamp(entry.created)} UTC"),
        ("used", f"{_stamp(entry.used)} UTC{', held by a running study' if entry.held else ''}"),
    ]
    for name, value in lines:
        say(f"{name:<12} {value}")
    problems = DiskOutputs(store.root, store.limit).check(entry.key) if entry.kind == KIND else store.check(entry.key)
    for line in problems:
        say(Text(line, "red"))
    if problems:
        say("It is built again when somebody asks for it.")
        raise typer.Exit(1)
    say("checked      every file is as it was written")


@app.command()
def gc(
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Keep at most this much, 5GB say; default $ALPHASWEEP_CACHE_LIMIT or 20GB.")
    ] = None,
    older: Annotated[str | None, typer.Option(metavar="AGE", help="Remove what was not used for so long, 30d or 12h say.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Remove everything that no running study holds.")] = False,
) -> None:
    """Remove tables and outputs, the least recently used first; never what a running study holds."""
    from cluster.cache import Store
    from cluster.cache.outputs import DiskOutputs
    from cluster.cache.settings import size

    store = Store()
    DiskOutputs(store.root, store.limit).sweep()
    gone = store.collect(0 if all else size(limit, "--limit") if limit else None, _age(older) if older else None)
    left = store.entries()
    say(f"Removed {_counted(gone)}, {_amount(sum(e.bytes for e in gone))}; {len(left)} left, {_amount(sum(e.bytes for e in left))}.")
    for note in store.use.notes:
        say(Text(note, "yellow"))


@app.command()
def warm(study: StudyArg, set_: SetOpt = None) -> None:
    """Make every table a study will ask for, so that its trials only read."""
    from cluster.cache import Store
    from cluster.cache.answers import Usage
    from cluster.cache.outputs import session_of
    from sweeps.build_progress import BuildProgress
    from sweeps.search import Search
    from trainables import outputs
    from trainables.contract import Warms, check_config
    from trainables.pipeline import Pipeline
    from trainables.tables import offered

    loaded = load_study(study, set_ or ())
    store = Store()
    with (
        loaded.located(),
        BuildProgress(out) as progress,
        offered(progress.watching(store)),
        session_of(store) as built,
        outputs.offered(built),
    ):
        search = Search(loaded)
        search.check()
        prepared, left = search.prepare(), 0
        if isinstance(search.trainable, Warms):
            left = max(search.sampler.size - _MOST, 0)
            for config in search.sampler.configs(0, search.sampler.size - left):
                complete = {**prepared.defaults, **check_config(search.trainable, search.config(config))}
                if isinstance(search.trainable, Pipeline):
                    search.trainable.warm(complete, prepared.inputs, loaded.seed)  # which its outputs follow from
                else:
                    search.trainable.warm(complete, prepared.inputs)
    for line in output_lines(built.use(), search.sampler.size - left):
        say(line)
    for line in usage_lines(Usage(use=store.use)) or [Text(f"{loaded.name}: {loaded.trainable} asks for no tables.")]:
        say(line)
    if left:
        say(Text(f"Tables of the first {_MOST:,} configurations were made; the other {left:,} may ask for more while they run.", "yellow"))


def usage_lines(usage: Usage) -> list[Text]:
    """Says what was had of a cache, and what went wrong; nothing if no tables were asked for."""
    use, lines = usage.use, []
    if use.tables:
        found = f"{use.rows_found:,} rows found ({_seconds(use.seconds_saved)} saved)"
        built = f"{use.rows_built:,} built in {_seconds(use.seconds_built)}"
        apart = f"; {_amount(usage.shared_bytes)} in memory for {usage.readers} workers, apart {_amount(usage.apart_bytes)}"
        lines.append(Text(f"Cache: {use.tables} tables, {found}, {built}{apart if usage.readers else ''}."))
    return [*lines, *(Text(note, "yellow") for note in use.notes)]


def output_lines(use: OutputUse, configurations: int) -> list[Text]:
    """Says what a pipeline's configurations shared, and what went wrong; nothing without a pipeline."""
    lines = []
    if total := sum(use.used.values()):
        each = ", ".join(f"{stage.rpartition('.')[2]} {count:,}" for stage, count in sorted(use.used.items()))
        built = sum(use.built.values())
        apart = f"{configurations:,} configurations, {configurations * len(use.used):,} without sharing"
        found = f"{total - built:,} found ({_seconds(use.seconds_saved)} saved), {built:,} built in {_seconds(use.seconds_built)}"
        lines.append(Text(f"Stages: {total:,} outputs ({each}) for {apart}; {found}."))
    return [*lines, *(Text(note, "yellow") for note in use.notes)]


def _counted(entries: list[Entry]) -> str:
    from cluster.cache.outputs import KIND

    made = sum(entry.kind == KIND for entry in entries)
    return f"{len(entries) - made} tables" + (f" and {made} outputs" if made else "")


def _rows_of(entry: Entry) -> list[tuple[str, str]]:
    return [
        ("symbols", ", ".join(entry.symbols)),
        ("columns", f"{len(entry.columns)}: {', '.join(entry.columns[:8])}{', …' if len(entry.columns) > 8 else ''}"),
        ("rows", f"{entry.rows:,} in {entry.segments} files, {_stamp(entry.first)} to {_stamp(entry.last)} UTC"),
    ]


def _find(store: Store, key: str) -> Entry:
    from cluster.cache import CacheError

    entries = [entry for entry in store.entries() if entry.key.startswith(key.lower())]
    if len(entries) != 1:
        what = "no table has a key that begins so" if not entries else f"{len(entries)} tables have keys that begin so; give more of it"
        raise CacheError(f"{key}: {what}. `alphasweep cache ls` lists them.")
    return entries[0]


def _what(entry: Entry) -> str:
    """What a table is of, from the short ones of what identifies it."""
    name = str(entry.spec.get("forecaster", ""))
    rest = [f"{k}={_text(v)}" for k, v in entry.spec.items() if isinstance(v, (int, float, str)) and _short(k, v)]
    return " ".join([name, *rest]).strip()


def _short(key: str, value: Any) -> bool:
    hashed = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{16,}", value)
    return key not in ("forecaster", "version") and not hashed and value not in ("", "none", 0)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _age(text: str) -> timedelta:
    from cluster.cache import CacheError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)(h|d|w)", text.strip())
    if match is None:
        raise CacheError(f"--older: {text!r} is not an age. Write it as 12h, 30d or 2w.")
    return timedelta(hours=float(match[1]) * {"h": 1, "d": 24, "w": 168}[match[2]])


def _amount(count: int) -> str:
    from cluster.cache.settings import amount

    return amount(count)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1e3 * seconds:.0f} ms"


def _stamp(stamp: datetime | None) -> str:
    return "–" if stamp is None else f"{stamp:%Y-%m-%d %H:%M}"


def _ago(stamp: datetime) -> str:
    seconds = (datetime.now(UTC) - stamp).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "now"


__all__ = ["app", "output_lines", "usage_lines"]
