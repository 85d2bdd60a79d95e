"""Tables in a session: one process of the run answers its workers, and each table lies once in Ray's object store.

The keeper runs on the driver's node and dies with the driver. What it read from disk, or what a worker built and delivered, it puts
into the object store once, where every process of the node sees it as an array without copying, and from where another node fetches
it once. Importing this needs no Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.cache.answers import Building, Usage
from cluster.cache.claims import PATIENCE_SECONDS, Claims
from cluster.cache.records import Use
from cluster.cache.shared import SharedTables
from cluster.cache.store import Store

GOODBYE_SECONDS = 10.0  # for a question from the driver
RESTARTS = 3  # of a keeper that died; what it had shared is read from disk again
OF_THE_OBJECT_STORE = 0.5  # of its node's, which shared tables may fill


class Keeper(Claims):
    """The actor."""

    def __init__(self, root: Path, limit: int, patience: float, room: float, table: type | None = None):
        # `table` has done its work by arriving: its module is imported here.
        import ray

        super().__init__(Store(root, limit), ray.put, patience=patience, room=room)

    def pid(self) -> int:
        """Returns the process's number."""
        return os.getpid()


class Cache:
    """What the driver has of its run's keeper.

    Attributes:
        tables: To offer in workers, and in the driver while the session lasts; can be sent anywhere in the cluster.
    """

    def __init__(self, keeper: Any):
        self.tables = SharedTables(keeper)
        self._keeper = keeper
        self._last = Usage()

    def building(self) -> list[Building]:
        """Returns the builds in progress; none if the keeper does not answer."""
        return self._ask("building", 1.0) or []

    def usage(self) -> Usage:
        """Returns what was asked of the keeper, also after the session; a note says so if it died."""
        if self._keeper is not None:
            dead = "The process that shares tables does not answer; from then on each worker built what it had not been given."
            said = self._ask("usage", GOODBYE_SECONDS)
            self._last = said or replace(self._last, use=self._last.use + Use(notes=[dead]))
        return self._last

    def leave(self) -> None:
        """Ends the keeper, after a last look at its usage."""
        import ray

        if self._keeper is not None:
            self.usage()
            self._ask("close", GOODBYE_SECONDS)
            with suppress(Exception):
                ray.kill(self._keeper)
            self._keeper = None

    def _ask(self, question: str, seconds: float) -> Any:
        import ray

        if not ray.is_initialized():  # asking would start a session
            return None
        try:
            return ray.get(getattr(self._keeper, question).remote(), timeout=seconds)
        except ray.exceptions.RayError:
            return None


@contextmanager
def keeping(
    store: Store | None = None, *, table: type | None = None, patience: float = PATIENCE_SECONDS, room: float | None = None
) -> Iterator[Cache]:
    """Starts a keeper in the connected Ray session, on this node, for as long as the context lasts.

    Args:
        store: Whose root and limit to keep tables under; default the user's.
        table: Class of the tables, so that the keeper imports it while workers start; saves the first of them half a second.
        patience: Seconds without a sign of life after which a build is given to another worker.
        room: Bytes to share at once; default half of this node's object store.

    Yields:
        What to offer to workers, and whom to ask about it, afterwards too.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    store = store or Store()
    node = ray.get_runtime_context().get_node_id()
    if room is None:
        mine: dict[str, float] = next((n["Resources"] for n in ray.nodes() if n["NodeID"] == node), {})
        room = OF_THE_OBJECT_STORE * mine.get("object_store_memory", float("inf"))
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    actor = ray.remote(Keeper).options(num_cpus=0, max_restarts=RESTARTS, scheduling_strategy=here)
    cache = Cache(actor.remote(store.root, store.limit, patience, room, table))
    try:
        yield cache
    finally:
        cache.leave()
