"""A stepping trainable of the tests: a random walk to a level, with checkpoints, that can fail, diverge or kill its worker."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from results.metrics import Metric
from trainables.contract import Parameter, Prepared
from trainables.stepping import Report, StepContext
from trainables.timeline import cut

HOURS = np.arange("2024-01-01", "2024-04-10", dtype="datetime64[h]").astype("datetime64[ns]")


class Walk:
    name, version, objective, fidelity = "walk", "1", "level", "paces"
    parameters = (
        Parameter("goal", 0.0, "float", -1e9, 1e9),
        Parameter("paces", 12, "int", 1, 1000),
        Parameter("trouble", "none", "choice", choices=("none", "raises", "diverges", "dies", "dies once")),
    )
    metrics = (Metric("level", "max", "ratio"), Metric("paces_done", None, "count"), Metric("drawn", None, "ratio"))

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        return Prepared(
            inputs={"seconds": float(settings.get("seconds", 0.0)), "every": int(settings.get("every", 1))},
            fingerprint="walk",
            protocol={"every": int(settings.get("every", 1))},
            defaults={p.name: p.default for p in self.parameters},
        )

    def last_step(self, config: Mapping[str, Any]) -> int:
        return int(config["paces"])

    def reports_at(self, config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
        last, every = self.last_step(config), int(settings.get("every", 1))
        return [*range(every, last, every), last]

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        place = ctx.folder / "state.json"
        rng = np.random.default_rng(ctx.seed)
        pace, level = 0, 0.0
        if place.exists():
            state = json.loads(place.read_text())
            pace, level = state["pace"], state["level"]
            rng.bit_generator.state = state["rng"]
        if pace > ctx.reached:
            yield self._report(pace, level, rng)
        while pace < config["paces"] and not math.isnan(level):
            for _ in range(min(ctx.inputs["every"], config["paces"] - pace)):
                time.sleep(ctx.inputs["seconds"])
                pace += 1
                level += 0.3 * (config["goal"] - level) + 0.01 * rng.normal()
                if config["trouble"] == "raises" and pace == 5:
                    raise ZeroDivisionError("at the fifth pace")
                if config["trouble"] == "diverges" and pace >= 5:
                    level = math.nan
                if pace == 5 and (config["trouble"] == "dies" or (config["trouble"] == "dies once" and not (ctx.folder / "died").exists())):
                    (ctx.folder / "died").touch()
                    os._exit(1)
            draft = ctx.folder / "state.new"
            draft.write_text(json.dumps({"pace": pace, "level": level, "rng": rng.bit_generator.state}))
            os.replace(draft, place)
            yield self._report(pace, level, rng)

    @staticmethod
    def _report(pace: int, level: float, rng: np.random.Generator) -> Report:
        return Report(pace, {"level": level, "paces_done": pace, "drawn": float(rng.bit_generator.state["state"]["state"] % 1000)})


class Forecast(Walk):
    """Cuts time, and measures its level as a skill with a p-value, less of it on the holdout.

    There it is interrupted while a file `trap` exists. It exports its state, and which part it is of.
    """

    name, objective = "forecast", "skill"
    metrics = (Metric("skill", "max", "fraction"), Metric("dm_p", "min", "probability"), *Walk.metrics)

    def prepare(self, data: Mapping[str, Any], settings: Mapping[str, Any], protocol: Any = None, part: str = "search") -> Prepared:
        made = super().prepare(data, settings, protocol, part)
        return replace(made, inputs={**made.inputs, "part": part, "trap": settings.get("trap")}, timeline=cut(protocol, HOURS, 1.0))

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        sealed = ctx.inputs["part"] == "holdout"
        for report in super().evaluate(config, ctx):
            if sealed and report.step == 7 and ctx.inputs["trap"] and Path(ctx.inputs["trap"]).exists():
                raise KeyboardInterrupt  # its checkpoint is written, its report is not
            level = report.metrics["level"]
            scores = {"skill": level / 100.0 - (0.005 if sealed else 0.0), "dm_p": 10.0 ** (-2.5 * level)}
            yield Report(report.step, {**report.metrics, **scores}, "a batch was halved" if report.step >= 3 else "")

    def export(
        self, config: Mapping[str, Any], ctx: StepContext, folder: Path, merged: bool = False, name: str = "", curve: Any = ()
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        pace = json.loads((ctx.folder / "state.json").read_text())["pace"]
        told = {"parent_run": name, "train_end": ctx.inputs["part"], "pace": pace, "reached": ctx.reached, "curve": list(curve)}
        (folder / "run_metadata.json").write_text(json.dumps(told))
        return [folder]


class Thrifty(Walk):
    """Leaves a large file to go on from, dropped once a trial has ended, and a small one to export.

    Where the environment names a file in `WALK_TRAP`, its first pruning takes that file away and does not come back: killed, or with
    an error if that is what the file says.
    """

    name, size = "thrifty", 100_000

    def evaluate(self, config: Mapping[str, Any], ctx: StepContext) -> Iterator[Report]:
        moments, state = ctx.folder / "moments.bin", ctx.folder / "state.json"
        if state.exists() and not moments.exists() and ctx.reached < self.last_step(config):
            state.unlink()
        for report in super().evaluate(config, ctx):
            moments.write_bytes(bytes(self.size))
            if report.step > ctx.reached:  # it started over
                yield report

    def prune(self, folder: Path) -> None:
        trap = Path(os.environ.get("WALK_TRAP", "/nowhere"))
        if trap.exists():
            text = trap.read_text()
            trap.unlink()
            if text:
                raise OSError(text)
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "moments.bin").unlink(missing_ok=True)

    def export(
        self, config: Mapping[str, Any], ctx: StepContext, folder: Path, merged: bool = False, name: str = "", curve: Any = ()
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "level.json").write_bytes((ctx.folder / "state.json").read_bytes())
        return [folder]
