"""A thousand workers in one process: what stands where Ray would place actors.

Tune, its actor manager, Ray's calls and its object store are the real ones, and so is the code that workers run (`PackTrainable`,
`StepTrainable`). Only two things are not: a worker is an object in one asynchronous Ray actor instead of a process of its own, and in
place of an evaluation it waits. The seam is Tune's `RayActorManager`, which is given another manager of resources: one whose
"place for a worker" makes a stand-in for an actor's handle, and has every call answered by the crowd.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution.resources.request import AcquiredResources, ResourceRequest
from ray.air.execution.resources.resource_manager import ResourceManager
from ray.tune.execution import tune_controller

from benchmarks.simulated import curve, rows


class Crowd:
    """The workers; they know by how long each of them waited for its next work."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._workers: dict[int, Any] = {}
        self._free: dict[int, float] = {}
        self._kind: Any = None
        self._busy, self._gaps = 0.0, list[float]()

    async def teach(self, kind: Any) -> None:
        """Takes the class that workers are objects of."""
        self._kind = kind

    async def hire(self, worker: int, given: Mapping[str, Any]) -> None:
        """Makes a worker."""
        made = self._workers[worker] = self._kind(**given)
        if hasattr(made, "_evaluate"):
            made._evaluate = rows
        else:
            made._run = curve

    async def call(self, worker: int, method: str, *given: Any, **named: Any) -> Any:
        """Answers a call to a worker as its process would, but waits where it would compute."""
        if method == "__ray_ready__":
            return True
        made = self._workers[worker]
        if method == "stop":
            del self._workers[worker]
            return made.stop()
        began = time.monotonic()
        answer = getattr(made, method)(*given, **named)
        if method != "train":
            return answer
        if worker in self._free:
            self._gaps.append(began - self._free[worker])
        seconds = 0.0
        if "pack" in answer:
            seconds = self._seconds * len(answer["pack"].metrics)
            answer["pack"] = replace(answer["pack"], seconds=seconds)
        elif "report" in answer:
            seconds = self._seconds
            answer["report"] = replace(answer["report"], seconds=seconds)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        self._free[worker] = time.monotonic()
        self._busy += seconds
        return answer

    async def news(self) -> dict[str, Any]:
        """Returns what happened since it was last asked: waits between work (s), seconds of work; and processor time so far."""
        gaps, busy = self._gaps, self._busy
        self._gaps, self._busy = [], 0.0
        return {"gaps": np.array(gaps), "busy": busy, "cpu": time.process_time(), "pid": os.getpid()}


@dataclass(frozen=True)
class _Call:
    crowd: Any
    worker: int
    method: str

    def remote(self, *given: Any, **named: Any) -> Any:
        return self.crowd.call.remote(self.worker, self.method, *given, **named)


@dataclass(frozen=True)
class _StandIn:
    """What Tune takes for the handle of an actor."""

    crowd: Any
    worker: int

    def __getattr__(self, method: str) -> _Call:
        if method.startswith("__") and method != "__ray_ready__":
            raise AttributeError(method)
        return _Call(self.crowd, self.worker, method)


@dataclass(frozen=True)
class _Hiring:
    """What Tune takes for the class of an actor."""

    manager: _Places
    kind: Any

    def remote(self, **given: Any) -> _StandIn:
        return self.manager.hire(self.kind, given)


@dataclass
class _Place(AcquiredResources):
    manager: _Places

    def _annotate_remote_entity(self, entity: Any, bundle: dict[str, float], bundle_index: int) -> Any:
        return _Hiring(self.manager, entity)


class _Places(ResourceManager):
    """As many places as there are workers."""

    def __init__(self, crowd: Any, workers: int):
        self._crowd, self._left, self._asked, self._hired = crowd, workers, 0, 0

    def hire(self, kind: Any, given: dict[str, Any]) -> _StandIn:
        if not self._hired:
            ray.get(self._crowd.teach.remote(kind.__ray_metadata__.modified_class))
        self._hired += 1
        self._crowd.hire.remote(self._hired, given)
        return _StandIn(self._crowd, self._hired)

    def request_resources(self, resource_request: ResourceRequest) -> None:
        self._asked += 1

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        self._asked -= 1

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        return self._asked > 0 and self._left > 0

    def acquire_resources(self, resource_request: ResourceRequest) -> AcquiredResources:
        self._asked, self._left = self._asked - 1, self._left - 1
        return _Place(resource_request, self)

    def free_resources(self, acquired_resource: AcquiredResources) -> None:
        self._left += 1

    def clear(self) -> None:
        self._asked = 0


class _Actors(RayActorManager):
    """Tune's own, that kills no stand-ins: they go with the crowd."""

    def _try_kill_actor(self) -> bool:
        while self._live_actors_to_kill:
            actor = self._live_actors_to_kill.pop()
            self._cleanup_actor_futures(actor)
            self._actor_stop_resolved(actor)
        return False

    def cleanup(self) -> None:
        self._live_actors_to_ray_actors_resources.clear()
        super().cleanup()


@contextmanager
def gathered(workers: int, seconds: float) -> Iterator[Any]:
    """Has Tune employ a crowd in this process until the end.

    Args:
        workers: How many.
        seconds: Of a configuration, or between two reports of a trial.

    Yields:
        The handle of the `Crowd`.
    """
    crowd = ray.remote(Crowd).options(num_cpus=0, max_concurrency=4 * workers + 100).remote(seconds)
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = lambda resource_manager: _Actors(_Places(crowd, workers))
    try:
        yield crowd
    finally:
        tune_controller.RayActorManager = before
        ray.kill(crowd)
