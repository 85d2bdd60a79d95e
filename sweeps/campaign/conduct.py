"""Conducting a campaign: each stage is a driver in its lane, started as soon as what it needs is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.lanes import Lane, allowed_cores
from sweeps.campaign.carry import prepare
from sweeps.campaign.spec import Campaign, Stage
from sweeps.lanes.host import Host, deal, wants_card
from sweeps.lanes.several import Driver, Job, run_several
from sweeps.study import Study


@dataclass
class Conduct:
    """What a campaign does next.

    Attributes:
        campaign: Which.
        folder: Where studies live.
        host: Its lanes.
        options: Passed on to every `alphasweep run`.
        renew: Run again what was carried something else before.
        on_carried: Called with a stage and what was carried to it, in words.
        blocked: Stages that could not start, and why.
        lanes: Of each stage, as far as can be said before it starts: then it gets its part of what those at work leave.
    """

    campaign: Campaign
    folder: Path
    host: Host = field(default_factory=Host)
    options: Sequence[str] = ()
    renew: bool = False
    on_carried: Callable[[Stage, Sequence[str]], None] = lambda stage, words: None
    blocked: dict[str, str] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(init=False)

    def __post_init__(self) -> None:
        self.lanes = self._dealt()

    def __call__(self, drivers: Sequence[Driver]) -> list[Job]:
        """Returns the stages to start, given those that were."""
        begun = {driver.job.study: driver for driver in drivers}
        name = self.campaign.study_name
        ready: list[Stage] = []
        for stage in self.campaign.stages.values():
            if name(stage.name) in begun or stage.name in self.blocked:
                continue
            waits = [need for need in stage.needs if (driver := begun.get(name(need))) is None or driver.code is None]
            if broken := [need for need in stage.needs if need in self.blocked or (name(need) in begun and begun[name(need)].code)]:
                self.blocked[stage.name] = f"{', '.join(broken)} did not finish"
            elif not waits:
                ready.append(stage)
        lanes = self._left(ready, [driver.job.lane for driver in drivers if driver.code is None])
        return [job for stage in ready if stage.name in lanes for job in self._job(stage, lanes[stage.name])]

    def _job(self, stage: Stage, lane: Lane) -> list[Job]:
        try:
            path, said = prepare(self.campaign, stage, self.folder, renew=self.renew)
        except (ValueError, OSError) as error:  # such as a full disk: the other stages go on
            self.blocked[stage.name] = str(error)
            return []
        self.on_carried(stage, said)
        where = ("--dir", str(self.folder))
        return [Job(self.campaign.study_name(stage.name), lane, ("run", str(path), *where, *self.options))]

    def _left(self, stages: Sequence[Stage], busy: Sequence[Lane]) -> dict[str, Lane]:
        """Deals out what stages at work leave; one that finds no core, or no card it could use, waits until one has ended."""
        taken = {core for lane in (*busy, *self.host.lanes.values()) for core in lane.cores}
        named = {stage.name for stage in stages if stage.lane} | set(self._of_host(stages))
        if busy and not set(allowed_cores()) - taken:
            stages = [stage for stage in stages if stage.name in named]
        lanes = self._lanes(stages, replace(self.host, lanes={**self.host.lanes, **{f" {i}": lane for i, lane in enumerate(busy)}}))
        if any(lane.cards for lane in busy):
            without = [stage for stage in stages if stage.name not in named and not lanes[stage.name].cards]
            for stage in without:
                if wants_card(Study.load(stage.study, stage.overrides)):
                    del lanes[stage.name]
        return lanes

    def _dealt(self) -> dict[str, Lane]:
        """Deals lanes to the stages, as if those that need equally many others before them ran at the same time."""
        lanes: dict[str, Lane] = {}
        depths: dict[int, list[Stage]] = {}
        for stage in self.campaign.stages.values():
            depths.setdefault(self.campaign.depth(stage.name), []).append(stage)
        for stages in depths.values():
            lanes |= self._lanes(stages, self.host)
        return lanes

    def _lanes(self, stages: Sequence[Stage], host: Host) -> dict[str, Lane]:
        named = {stage.name: stage.lane for stage in stages if stage.lane}
        for lane in named.values():
            self.host.lane(lane)
        wants = [(stage.name, wants_card(Study.load(stage.study, stage.overrides))) for stage in stages]
        lanes = deal(wants, replace(host, studies={**self._of_host(stages), **named}))
        return dict(zip((stage.name for stage in stages), lanes, strict=True))

    def _of_host(self, stages: Sequence[Stage]) -> dict[str, str]:
        """Lanes the host file names for a stage, by the name of its study in the campaign or of the study it is made from."""
        found = {}
        for stage in stages:
            for name in (self.campaign.study_name(stage.name), stage.study):
                if name in self.host.studies:
                    found[stage.name] = self.host.studies[name]
                    break
        return found


def conduct(made: Conduct, on_change: Callable[[Sequence[Driver]], None], *, width: int, colour: bool) -> list[Driver]:
    """Runs a campaign, or goes on with it: a stage whose study is through has nothing to do and says so.

    Returns:
        The drivers of all stages that were started.
    """
    return run_several(made, on_change, width=width, colour=colour)
