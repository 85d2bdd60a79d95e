"""The command that says, before anything is spent, how a study cuts time, what is left of it, what that takes and what stopping saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from sweeps.commands.console import DirOpt, SetOpt, StudyArg, command_for, err, load_study, many, out, say, table
from sweeps.commands.steps import scheduler_lines

if TYPE_CHECKING:
    from sweeps.planning.estimate import Lanes, Pace, Span
    from sweeps.planning.recorded import Known, Sibling
    from sweeps.planning.savings import Curves, Savings
    from sweeps.search import Search
    from trainables.contract import Prepared
    from trainables.timeline import Timeline

app = typer.Typer()
BRIEF, LONG = 4.0, 60.0  # seconds of a probe that nobody asked for, and of one with --probe
ENOUGH = 100  # recorded configurations from which an estimate needs no probe
_EVERY = 10.0  # seconds between lines where messages go to a file
_SAMPLE = 1000  # configurations whose last step is looked at
_STUDIES = 3  # that are named, of those that have results

PLAN_HELP = (
    "Say what a study would take before anything is spent, and run nothing: how time is cut, how many points have a result already, "
    "the wall time and cost of the others, and what early stopping would save and miss.\n\n"
    "Seconds are those of earlier results of the same trainable and data in --dir; where there are too few, of a probe: a few points "
    "evaluated here, in seconds. Trials that report as they go, and trainables that read derived tables, are probed with --probe only. "
    "Ranges hold 90 % of what was measured.\n\n"
    "Early stopping is tried on learning curves on record, of studies whose trials were not stopped; docs/studies.md explains the table. "
    "Nothing is written: no ledger, no lock, no table or output to the cache."
)


@app.command(help=PLAN_HELP)
def plan(
    study: StudyArg,
    set_: SetOpt = None,
    trials: Annotated[int | None, typer.Option(metavar="N", min=1, help="Plan for N configurations, as in run.")] = None,
    dir: DirOpt = Path("runs"),
    slots: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Packs, or trials, at once; default as many as fit."),
    ] = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            "--probe/--no-probe",
            help="Time a few points here and now, for a minute at most; or never. Default: some seconds, for packs without enough results.",
            show_default=False,
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(metavar="AMOUNT", min=0.0, help="Of a lane for an hour: a card where trials take cards, else a CPU slot."),
    ] = None,
) -> None:
    """Say what a study would take before anything is spent, and run nothing."""
    from cluster.cache import Store
    from cluster.cache.outputs import DiskOutputs
    from sweeps.home import header_of
    from sweeps.planning.probing import Borrowed, BorrowedOutputs
    from sweeps.planning.recorded import siblings
    from sweeps.search import Search
    from trainables.outputs import hosted

    loaded = load_study(study, [*(set_ or ()), *([f"search.trials={trials}"] if trials is not None else [])], dir)
    search = Search(loaded)
    with hosted(Borrowed(Store()), BorrowedOutputs(DiskOutputs())), _told("loading data") as told:
        with loaded.located():
            search.check()
            made = search.prepare()
        say(Text.assemble((loaded.name, "bold"), f"  {loaded.description}"))
        for name, value in made.summary:
            say(f"  {name:<12} {value}")
        say(f"  {'space':<12} {search.sampler.size:,} configurations ({search.method_words})")
        for words in scheduler_lines(search):
            say(words)
        if made.timeline is not None:
            for line in timeline_lines(made.timeline, max(20, min(out.width, 120) - 16)):
                out.print(line, soft_wrap=True)
        header = header_of(search, made)
        with siblings(dir, header) as found:
            _Estimate(search, made, header, found, slots, price, told, study, dir).show(probe)


@contextmanager
def _told(words: str) -> Iterator[Any]:
    """Shows what is being done: a line that changes on a terminal; elsewhere, where it takes long, one every ten seconds."""
    said = time.monotonic()
    with err.status(Text(words)) as status:

        def update(words: str) -> None:
            nonlocal said
            status.update(Text(words))
            if not err.is_terminal and time.monotonic() - said >= _EVERY:
                said = time.monotonic()
                say(words, console=err)

        yield update


class _Estimate:
    """What is known of a study in its folder, and what follows for the rest."""

    def __init__(
        self,
        search: Search,
        made: Prepared,
        header: Any,
        found: list[Sibling],
        slots: int | None,
        price: float | None,
        told: Any,
        source: str,
        dir: Path,
    ):
        from sweeps.planning.estimate import lanes_of
        from trainables.stepping import Stepping

        self.search, self.made, self.header, self.found, self.price, self.told = search, made, header, found, price, told
        self.stepping, self.source, self.dir = isinstance(search.trainable, Stepping), source, dir
        self.lanes: Lanes = lanes_of(search, self.stepping, slots)

    def show(self, probe: bool | None) -> None:
        """Prints everything that is estimated."""
        from sweeps.planning.recorded import count_known

        own = next((each for each in self.found if each.own), None)
        if own is not None and not own.same:
            name = self.header.name
            say(
                Text(
                    f"  {'results':<12} those in {self.dir / name} were made under other conditions, and run refuses to add to them",
                    "yellow",
                )
            )
            say(Text(f"  {'':<12} give this search a name of its own (--set name={name}_2), or run it with --fresh", "yellow"))
        size = self.search.sampler.size
        known = count_known(self.search, self.header, self.found, lambda n: self.told(f"looking up results: {n:,} of {size:,} points"))
        for line in known_lines(known, self.header.name):
            say(line)
        wall = None
        if known.left:
            pace, why = self._pace(probe)
            if pace is None:
                say(f"  {'time':<12} n/a: {why}")
            else:
                say(f"  {'each':<12} {pace_words(pace, self.stepping)}")
                wall = self._wall(pace, known.left)
                full = self.stepping and self.search.rules().kind != "none"
                for line in cost_lines(wall, self.lanes, self.price, "if no trial is stopped" if full else ""):
                    say(line)
        if self.stepping:
            self._stopping(known, wall)

    def _pace(self, probe: bool | None) -> tuple[Pace | None, str]:
        """Returns seconds of one, from ledgers or a probe, or why there are none."""
        from sweeps.planning.recorded import recorded_pace
        from sweeps.study import StudyError
        from trainables.contract import Warms

        self.told("reading what earlier results took")
        recorded = recorded_pace(self.found, self.stepping)
        if not probe and recorded is not None and (self.stepping or recorded.sizes.sum() >= ENOUGH or probe is False):
            return recorded, ""
        again = f"no results of this trainable on these data in {self.dir}; --probe times a few points, for a minute at most"
        if probe is False:
            return None, f"no results of this trainable on these data in {self.dir}, and no probe with --no-probe"
        if probe is None and (self.stepping or isinstance(self.search.trainable, Warms)):
            return recorded, again
        try:
            return (self._probe_steps() if self.stepping else self._probe_packs(LONG if probe else BRIEF)), ""
        except StudyError as error:
            return recorded, f"the probe failed: {error}"

    def _probe_packs(self, seconds: float) -> Pace:
        from sweeps.evaluator import Evaluator
        from sweeps.planning.probing import probe_packs

        search, evaluator = self.search, Evaluator(self.search.study, self.made.defaults, len(self.made.days))

        def evaluate(start: int, stop: int) -> None:
            evaluator.evaluate([search.config(point) for point in search.sampler.configs(start, stop)], self.made.inputs)

        return probe_packs(evaluate, search.sampler.size, seconds, search.study.seed, lambda words: self.told(f"probe: {words}"))

    def _probe_steps(self) -> Pace:
        from cluster.lanes import visible_cards
        from sweeps.planning.probing import probe_steps
        from sweeps.steps import StepEvaluator

        run = StepEvaluator(self.search.study, self.made.defaults, self.header.context_id, len(self.made.days))
        device = "cuda" if self.lanes.cards and visible_cards() else "cpu"
        size = self.search.sampler.size
        points = dict.fromkeys((0, size // 2, size - 1))
        lasts = {point: self._last_steps(point, point + 1)[0] for point in points}

        def start(point: int, folder: Path) -> Any:
            return run.evaluate(self._config(point), folder, 0, device, self.made.inputs)

        return probe_steps(start, lasts, LONG, lambda words: self.told(f"probe: {words}"))

    def _config(self, point: int) -> dict[str, Any]:
        return self.search.config(self.search.sampler.configs(point, point + 1)[0])

    def _last_steps(self, start: int, stop: int) -> list[int]:
        """Returns the last steps of points."""
        trainable: Any = self.search.trainable
        return [trainable.last_step({**self.made.defaults, **self.search.config(p)}) for p in self.search.sampler.configs(start, stop)]

    def _wall(self, pace: Pace, left: int) -> Span:
        from sweeps.planning.estimate import Span, time_of_asking, time_of_packs, time_of_trials
        from sweeps.planning.recorded import start_ups

        start = start_ups(self.found)
        if not self.stepping:
            learns = self.search.learns
            work = time_of_packs(pace, left, self.lanes, start, self.search.batch if learns else 0)
            return Span(*map(sum, zip(work, time_of_asking(self.search.method, left), strict=True))) if learns else work
        size = self.search.sampler.size
        lasts = [self._last_steps(k * size // min(size, _SAMPLE), k * size // min(size, _SAMPLE) + 1)[0] for k in range(min(size, _SAMPLE))]
        return time_of_trials(pace, left, lasts, self.lanes, start, self.search.study.seed)

    def _stopping(self, known: Known, wall: Span | None) -> None:
        """Prints what early stopping would save and miss, or why that cannot be said."""
        from sweeps.planning.estimate import lasting
        from sweeps.planning.recorded import start_ups
        from sweeps.planning.savings import LEAST, alternatives, recorded_curves, simulate, suggested, thinned

        search = self.search
        if search.last_step < 2:
            return
        curves = recorded_curves(self.found, search.objective, search.last_step)
        if isinstance(curves, str):
            say(f"  {'stopping':<12} what it saves is n/a: {curves}")
            if known.size >= LEAST:
                options = ("--trials", str(min(24, known.size)), "--set", "scheduler.kind=none", "--set")
                again = command_for("run", self.source, self.dir, *options, f"name={self.header.name}_curves")
                say(f"  {'':<12} get curves of trials that are not stopped: {again}")
            return
        own = search.rules()
        curves = thinned(curves, own)
        rules, tried = alternatives(own, curves.steps), list[Any]()
        for k, each in enumerate(rules, 1):
            self.told(f"early stopping, tried on curves on record: rule {k} of {len(rules)}")
            tried.append(simulate(each, curves, trials=known.size, slots=self.lanes.slots, seed=search.study.seed))
        best = suggested(tried)
        if wall is not None and own.kind != "none":
            start = start_ups(self.found)
            low, high = start.low + (wall.low - start.low) * tried[0].low, start.high + (wall.high - start.high) * tried[0].high
            say(f"  {'stopping':<12} {lasting(low, high)} with the study's scheduler, by the share of the steps in the table")
        for line in savings_lines(tried, best, curves, search):
            out.print(line) if not isinstance(line, (str, Text)) else say(line)


def known_lines(known: Known, name: str) -> list[str]:
    """Says how many points of a plan have a result, and where."""
    sources = [(name, known.here)] * bool(known.here) + sorted(known.elsewhere.items(), key=lambda item: -item[1])
    words = "no point has a result yet"
    if sources:
        shown = [f"{n:,} in {study}" for study, n in sources[:_STUDIES]]
        more = sources[_STUDIES:]
        shown += [f"{sum(n for _, n in more):,} in {many(len(more), 'more study', 'more studies')}"] if more else []
        words = f"{known.size - known.repeats - known.left:,} of {many(known.size, 'point')}: {', '.join(shown)}"
    words += f"; {known.left:,} left" if known.left else "; nothing is left to run"
    if not known.exact:
        words += " at most: " + ("it is not known which points will be suggested" if known.learns else "too many points to look each up")
    lines = [f"  {'known':<12} {words}"]
    if known.repeats:
        lines.append(f"  {'':<12} {many(known.repeats, 'point is', 'points are')} the same configuration as another, evaluated once")
    if failed := known.ended.get("failed"):
        lines.append(f"  {'':<12} of those in {name} {failed:,} failed; run --retry-failed tries them again")
    return lines


def pace_words(pace: Pace, stepping: bool) -> str:
    """Says what one configuration, or step, takes and from where that is."""
    from sweeps.planning.estimate import amounts, lasting

    mid, (low, high) = pace.of_one()
    unit = " a step" if stepping else ""
    most = " (90 %: " + lasting(low, high) + ")" if amounts(low) != amounts(high) else ""
    fixed = ""
    if pace.fixed > 0.05 * mid:
        fixed = f", and {lasting(pace.fixed)} a {'trial' if stepping else 'pack'}"
    loads = f", {lasting(pace.warm)} to load" if stepping and pace.warm > 1.0 else ""
    return f"{lasting(mid)}{unit}{most}{fixed}{loads}, {pace.source}"


def cost_lines(wall: Span, lanes: Lanes, price: float | None, unless: str = "") -> list[str]:
    """Says how long a study takes and how much of the machine."""
    from sweeps.planning.estimate import amounts, lasting

    what = many(lanes.slots, "CPU") if lanes.cores == lanes.slots else f"{many(lanes.slots, 'lane')} of {lanes.cores / lanes.slots:g} CPUs"
    if lanes.cards:
        what = f"{lanes.cards:g} card{'' if lanes.cards == 1 else 's'}, {many(lanes.slots, 'trial')} at once"
    lines = [f"  {'time':<12} {lasting(*wall)} on {what}, start-up included{f', {unless}' if unless else ''}"]
    hours = f"{amounts(*wall.times(lanes.cores / 3600))} core-hours"
    if lanes.cards:
        hours = f"{amounts(*wall.times(lanes.cards / 3600))} card-hours, {hours}"
    cost = (
        ""
        if price is None
        else f": {amounts(*wall.times(lanes.paid * price / 3600))} at {price:g} a {'card' if lanes.cards else 'slot'}-hour"
    )
    return [*lines, f"  {'cost':<12} {hours}{cost}"]


def savings_lines(tried: list[Savings], best: Savings | None, curves: Curves, search: Search) -> list[Any]:
    """Puts what rules would save and miss into a table, and says what it suggests and how far that goes."""
    from results.leaderboard import format_value, shown_unit
    from sweeps.planning.savings import MOST_LOST, MOST_REGRET, as_section

    metric = next(metric for metric in search.trainable.metrics if metric.name == search.objective)
    rows: list[list[str | Text]] = []
    own = tried[0]
    for each in [own, *sorted(tried[1:], key=lambda item: item.steps)]:
        rule = each.rules
        mark = " and ".join([*(["own"] if each is own else []), *(["suggested"] if each is best else [])])
        middle = [rule.kind, "–" if rule.kind == "none" else f"{rule.grace:,}", f"{rule.factor:g}" if rule.kind == "asha" else "–"]
        lost = [f"{each.lost:.0%}", f"{100 * each.lost_low:.0f}–{each.lost_high:.0%}"]
        figures = [f"{each.steps:.0%}", f"{100 * each.low:.0f}–{each.high:.0%}", *lost, format_value(each.regret, shown_unit(metric))]
        rows.append([*middle, *figures, Text(mark, "green" if each is best else "")])
    names = ("scheduler", "grace", "factor", "steps", "90 %", "lost", "90 % ", "regret", "")
    title = f"early stopping, on {own.sets} sets of {own.trials} of the {len(curves.values)} trials on record"
    lines: list[Any] = [table(names, rows, title=title, numbers=names[1:-1])]
    if 2 * own.trials < search.sampler.size:
        lines.append(
            Text(
                f"  Sets of {own.trials} stand for {search.sampler.size:,} trials, of which more meet at a rung: fewer steps than shown.",
                "yellow",
            )
        )
    if best is None:
        lines.append(Text("  None of these is harmless: let every trial run to its end, scheduler: {kind: none}.", "yellow"))
    elif best is own:
        lines.append("  The study's own is suggested: of what is harmless it makes the fewest steps.")
    else:
        lines.append(
            Text.assemble("  Suggested: ", (f"scheduler: {as_section(best.rules)}", "bold"), ", the fewest steps of what is harmless.")
        )
    lines.append(f"  Harmless: loses the best in {MOST_LOST:.0%} of the sets at most, or {MOST_REGRET:.0%} of its lead over the median.")
    names_ = ", ".join(curves.studies)
    more = f"; {many(curves.other, 'curve')} with other steps left out" if curves.other else ""
    lines.append(
        Text(f"  These are {len(curves.values)} curves of {names_}{more}: extrapolate to other configurations with care.", "yellow")
    )
    return lines


def timeline_lines(timeline: Timeline, width: int) -> list[Text]:
    """Draws the folds of a timeline, one line each, and a legend."""
    n = len(timeline.times)

    def cells(window: tuple[int, int]) -> tuple[int, int]:
        first = window[0] * width // n
        return first, max(first + 1, -(-window[1] * width // n)) if window[1] > window[0] else first

    def line(name: str, *parts: tuple[tuple[int, int], str, str]) -> Text:
        drawn = [(" ", "")] * width
        for window, mark, style in parts:
            for i in range(*cells(window)):
                drawn[min(i, width - 1)] = (mark, style)
        return Text.assemble(f"  {name:<12} ", *drawn)

    lines = [
        line(f"fold {k}", (fold.train, "░", "blue"), ((fold.train.stop, fold.tune.start), "·", "dim"), (fold.tune, "█", "green"))
        for k, fold in enumerate(timeline.folds, 1)
    ]
    if timeline.holdout.stop > timeline.holdout.start:
        sealed = (timeline.visible.stop, timeline.holdout.start)
        lines.append(line("holdout", (sealed, "·", "dim"), (timeline.holdout, "▓", "red")))
    day = lambda row: str(timeline.times[min(row, n - 1)].astype("datetime64[D]"))  # noqa: E731
    gap = max(1, width - 20)
    lines.append(Text(f"  {'':<12} {day(0)}{day(n - 1):>{gap + 10}}", "dim"))
    lines.append(
        Text.assemble(f"  {'':<12} ", ("░ train", "blue"), "  ", ("· embargo", "dim"), "  ", ("█ tune", "green"), "  ", ("▓ sealed", "red"))
    )
    return lines
