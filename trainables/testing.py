"""What every trainable must pass, ours and anybody's: import these and call them in a test of your own.

    from trainables.testing import check_packed, check_stepping
    check_stepping(MyTrainable(), data={...}, settings={...}, configs=[{...}, {...}], folder=tmp_path)

Each raises an AssertionError that says what does not hold.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.contract import Context, Prepared, Trainable, TrainableError, check_config
from trainables.stepping import Announces, Exports, Prunes, Report, StepContext, Stepping
from trainables.timeline import Protocol


def check_packed(
    trainable: Trainable,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    configs: Sequence[Mapping[str, Any]],
    protocol: Protocol | None = None,
) -> None:
    """Checks a packed trainable: declaration, preparing twice, repeating, and that a pack equals packs of one, bit for bit.

    Args:
        trainable: To check.
        data: As in a study.
        settings: As in a study.
        configs: Two or more configurations that should succeed.
        protocol: How to cut time.
    """
    prepared = _prepared(trainable, data, settings, protocol)
    complete = [{**prepared.defaults, **check_config(trainable, config)} for config in configs]
    inputs = copy.deepcopy(prepared.inputs)  # as workers get them
    whole = trainable.evaluate_pack(complete, Context(prepared.inputs))
    names = [m.name for m in trainable.metrics]
    assert len(whole.metrics) == len(configs), f"{len(whole.metrics)} rows for {len(configs)} configurations"
    missing = set(names) - set(whole.metrics.columns)
    assert not missing, f"metrics declared and not given: {', '.join(sorted(missing))}"
    days = len(prepared.days)
    if whole.returns is not None:
        assert whole.returns.shape == (len(configs), days), f"returns are {whole.returns.shape}, not ({len(configs)}, {days})"
    for other, ctx in (("again", Context(prepared.inputs)), ("with a copy of the inputs", Context(inputs))):
        repeated = trainable.evaluate_pack(complete, ctx)
        assert _same(whole.metrics[names].to_numpy(float), repeated.metrics[names].to_numpy(float)), f"other metrics {other}"
    for i, config in enumerate(complete):
        alone = trainable.evaluate_pack([config], Context(prepared.inputs))
        row = alone.metrics[names].to_numpy(float)
        assert _same(row[0], whole.metrics[names].to_numpy(float)[i]), f"configuration {i} gives other metrics alone than in a pack"
        if whole.returns is not None and alone.returns is not None:
            assert _same(alone.returns[0], whole.returns[i]), f"configuration {i} gives other returns alone than in a pack"


def check_stepping(
    trainable: Stepping,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    configs: Sequence[Mapping[str, Any]],
    folder: Path,
    protocol: Protocol | None = None,
    seed: int = 1,
) -> None:
    """Checks a stepping trainable: declaration, ascending steps, repeating, and that stopped anywhere it goes on exactly.

    Of one that prunes also that nothing is lost by it: exports stay as they are, and what is left is not taken for a whole checkpoint.

    Args:
        trainable: To check.
        data: As in a study.
        settings: As in a study.
        configs: Configurations that should succeed; small ones, each runs several times.
        folder: Empty folder for checkpoints.
        protocol: How to cut time.
        seed: Of the trials.
    """
    assert isinstance(trainable.fidelity, str) and trainable.fidelity, "fidelity: name the axis of the reports, such as 'optimiser steps'"
    prepared = _prepared(trainable, data, settings, protocol)
    for i, config in enumerate(configs):
        complete = {**prepared.defaults, **check_config(trainable, config)}

        def run(name: str, stop_after: int | None = None, reached: int = 0, config: Any = complete, i: int = i) -> list[Report]:
            place = folder / f"{i}_{name}"
            place.mkdir(parents=True, exist_ok=True)
            reports = []
            generator = trainable.evaluate(config, StepContext(prepared.inputs, place, reached, seed))
            for report in generator:
                reports.append(report)
                if len(reports) == stop_after:
                    break
            close = getattr(generator, "close", None)
            assert close is not None, "evaluate must be a generator: it is closed to release memory"
            close()
            return reports

        whole = run("whole")
        assert whole, f"configuration {i} gave no report"
        steps = [report.step for report in whole]
        assert steps == sorted(set(steps)), f"configuration {i}: steps must ascend, they are {steps}"
        last = trainable.last_step(complete)
        silent = [report.step for report in whole if trainable.objective not in report.metrics]
        assert not silent, f"configuration {i}: no {trainable.objective} in the reports at steps {silent}; NaN says that a trial diverged"
        diverged = not math.isfinite(whole[-1].metrics[trainable.objective])
        assert steps[-1] == last or diverged, f"configuration {i} ended at step {steps[-1]} and said its last would be {last}"
        if isinstance(trainable, Announces) and not diverged:
            said = list(trainable.reports_at(complete, settings))
            assert steps == said, f"configuration {i} reports at {steps} and said it would at {said}"
        unknown = {name for report in whole for name in report.metrics} - {m.name for m in trainable.metrics}
        assert not unknown, f"metrics reported and not declared: {', '.join(sorted(unknown))}"
        assert _equal(whole, run("again")), f"configuration {i} does not repeat: the same seed gives other reports"
        for k in sorted({1, len(whole) // 2, len(whole) - 1} & set(range(1, len(whole)))):
            first = run(f"stopped_{k}", stop_after=k)
            rest = run(f"stopped_{k}", reached=steps[k - 1])
            assert _equal(whole, first + rest), f"configuration {i}, stopped after report {k}, does not go on as if it had not been"
            run(f"unheard_{k}", stop_after=k)
            rest = run(f"unheard_{k}", reached=0 if k == 1 else steps[k - 2])
            assert _equal(whole[k - 1 :], rest), f"configuration {i}, killed between checkpoint and report {k}, leaves that report out"
        assert not run("whole", reached=steps[-1]), f"configuration {i} is done and reports again when called once more"
        for k in sorted({1, len(whole)}) if isinstance(trainable, Prunes) else ():
            name, who = f"pruned_{k}", f"configuration {i}, pruned after report {k}"
            run(name, stop_after=k if k < len(whole) else None)
            ctx = StepContext(prepared.inputs, folder / f"{i}_{name}", steps[k - 1], seed)
            exported = _check_pruned(trainable, complete, ctx, folder / f"{i}_exports", who)
            rest = run(name, reached=ctx.reached)
            assert _equal(whole[k:], rest), f"{who} and called once more, takes what is left for a whole checkpoint"
            if k == len(whole):
                later = _exported(trainable, complete, ctx, folder / f"{i}_exports", f"{who}, its last, and called once more")
                assert later.keys() == exported.keys(), f"{who}, its last, and called once more, has nothing to export"
        for place in folder.glob(f"{i}_*"):
            shutil.rmtree(place)


def _check_pruned(trainable: Any, config: Mapping[str, Any], ctx: StepContext, out: Path, who: str) -> dict[str, bytes]:
    """Checks that pruning, done twice, changes no export; returns what is exported, and leaves the folder pruned."""
    before, repeated = (_exported(trainable, config, ctx, out, who) for _ in range(2))
    empty = out / "empty"
    for place, what in ((ctx.folder, "pruned"), (ctx.folder, "pruned a second time"), (empty, "given an empty folder to prune")):
        empty.mkdir(parents=True, exist_ok=True)
        try:
            trainable.prune(place)
        except Exception as error:
            raise AssertionError(f"{who}: {what} it raises {type(error).__name__}: {error}") from error
    after = _exported(trainable, config, ctx, out, who)
    same = [name for name in before if before[name] == repeated.get(name)]  # a file with the time in it differs by itself
    assert after.keys() == before.keys() and all(after[name] == before[name] for name in same), (
        f"{who}, exports other than before: {', '.join(sorted(after)) or 'nothing'}"
    )
    return after


def _exported(trainable: Any, config: Mapping[str, Any], ctx: StepContext, out: Path, who: str) -> dict[str, bytes]:
    """Returns the files of an export by name, none where there is nothing to export, such as of what diverged."""
    if not isinstance(trainable, Exports):
        return {}
    shutil.rmtree(out, ignore_errors=True)
    try:
        trainable.export(config, ctx, out, name="check/0")
    except TrainableError:
        return {}
    except Exception as error:
        raise AssertionError(f"{who}: export raises {type(error).__name__}: {error}") from error
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def _prepared(trainable: Trainable | Stepping, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Protocol | None) -> Prepared:
    names = [m.name for m in trainable.metrics]
    assert len(set(names)) == len(names), f"metrics are declared twice: {sorted({n for n in names if names.count(n) > 1})}"
    assert trainable.objective in names, f"the objective {trainable.objective!r} is not a declared metric"
    direction = next(m.direction for m in trainable.metrics if m.name == trainable.objective)
    assert direction in ("max", "min"), f"the objective {trainable.objective!r} has no better direction"
    for parameter in trainable.parameters:
        parameter.check(parameter.default, parameter.name)
    first, second = (trainable.prepare(data, settings, protocol) for _ in range(2))
    assert first.fingerprint == second.fingerprint, "prepared twice, the same data have two fingerprints"
    assert first.protocol == second.protocol, "prepared twice, the same study has two protocols"
    unknown = set(first.defaults) ^ {p.name for p in trainable.parameters}
    assert not unknown, f"defaults and parameters differ: {', '.join(sorted(unknown))}"
    for name, series in first.benchmarks.items():
        assert len(series) == len(first.days), f"benchmark {name!r} has {len(series)} returns for {len(first.days)} days"
    return first


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=True))


def _equal(a: Sequence[Report], b: Sequence[Report]) -> bool:
    return [_values(report) for report in a] == [_values(report) for report in b]


def _values(report: Report) -> tuple[int, tuple[tuple[str, str], ...]]:
    return report.step, tuple(
        sorted((name, float(value).hex() if math.isfinite(value) else str(value)) for name, value in report.metrics.items())
    )


__all__ = ["check_packed", "check_stepping"]
