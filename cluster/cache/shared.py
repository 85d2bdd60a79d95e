"""The worker's side of a session's tables: asks the keeper, builds when told to, and sees what is shared without copying it.

A trial never fails because of the cache: where the keeper does not answer, rows are built here and kept by nobody.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.cache.answers import Build, Failed, Ready, Refused, Wait, place
from cluster.cache.records import Build as BuildRows
from cluster.cache.records import CacheError, TableLike
from cluster.cache.rows import Piece, checked, named, pieces

BEAT_SECONDS = 2.0  # between two signs of life
ANSWER_SECONDS = 300.0  # after which a keeper that reads a slow disk is not waited for; its death is noticed at once
RESTART_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0)  # to wait for a keeper that died and comes back
PAUSES = (0.05, 0.5)  # first and longest, while another builds
LOSSES = 3  # of an object that was shared, after which rows are built here
MEMO_BYTES = 500_000_000  # of what this process has been given and keeps at hand


class KeeperError(Exception):
    """The keeper does not answer; says why."""


@dataclass(frozen=True, eq=False)
class _Held:
    table: TableLike
    first: int
    stop: int
    values: np.ndarray


class SharedTables:
    """Tables as a run's keeper shares them; a `trainables.tables.Tables` for workers, to be sent to them.

    Attributes:
        notes: What went wrong in this process without harm to results.
    """

    def __init__(self, keeper: Any, *, memo: int = MEMO_BYTES, beat: float = BEAT_SECONDS):
        """Begins with nothing at hand.

        Args:
            keeper: Handle of the actor.
            memo: Bytes to keep at hand for further reads, which then cost no question.
            beat: Seconds between two signs of life during a build.
        """
        self._keeper, self._memo, self._beat = keeper, memo, beat
        self._held: list[_Held] = []
        self._gone = ""
        self.notes: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        """Leaves behind what belongs to a process."""
        return {**self.__dict__, "_held": [], "_gone": "", "notes": []}

    def read(self, table: TableLike, first: int, stop: int, build: BuildRows) -> np.ndarray:
        """Returns rows [first, stop) of a table, shared ones if anybody has them.

        Args:
            table: Which.
            first, stop: Rows, as positions in `table.times`.
            build: Computes rows; called for pieces of what nobody has, if nobody else is building. Each piece is delivered at once.

        Returns:
            float64 (W, stop − first), read-only; usually a view of Ray's object store.

        Raises:
            CacheError: `build` gave something else than the rows. Otherwise what `build` raised, here or, lately, elsewhere.
        """
        if first == stop:
            return checked(table, first, stop, np.empty((len(table.columns), 0)))
        for held in self._held:
            if held.table.key == table.key and (at := place(held.table, held.first, held.stop, table, first, stop)) is not None:
                return held.values[:, at - held.first : at - held.first + stop - first]
        try:
            return self._shared(table, first, stop, build)
        except KeeperError as why:
            self._note(f"{named(table)}: built for one process only. {why}")
            return self._hold(table, first, checked(table, first, stop, build(first, stop, lambda _: None)))

    def _shared(self, table: TableLike, first: int, stop: int, build: BuildRows) -> np.ndarray:
        who, losses = f"process {os.getpid()} on {socket.gethostname()}", 0
        mine: list[Piece] = []  # built here and taken by nobody, so that nothing is built here twice
        while True:
            answer = self._ask("claim", table, first, stop, who)
            if isinstance(answer, Failed):
                raise answer.error
            if isinstance(answer, Wait):
                self._wait(table.key)
                continue
            if isinstance(answer, Build):
                delivered = self._build(table, answer, build, mine)
                if not isinstance(delivered, Ready):
                    if (rows := _whole(table, first, stop, mine)) is not None:
                        return self._hold(table, first, rows)
                    continue
                answer = delivered
            try:
                values = self._get(answer)
            except LookupError as why:
                losses += 1
                if losses == LOSSES:
                    raise KeeperError(str(why)) from None
                self._ask("lost", answer.number)
                continue
            rows = self._hold(table, answer.first, values[:, answer.at : answer.at + answer.stop - answer.first])
            return rows[:, first - answer.first : stop - answer.first]

    def _build(self, table: TableLike, task: Build, build: BuildRows, mine: list[Piece]) -> Ready | Refused | None:
        """Builds and delivers, piece by piece; adds the pieces to `mine`, which are not built again."""
        last, done, gone = max(b for _, b in task.missing), [0], ""

        def told(rows: int) -> None:
            done[0] = rows

        def known_or_built(first: int, stop: int, counted: Callable[[int], None]) -> np.ndarray:
            rows = _whole(table, first, stop, mine)
            return build(first, stop, counted) if rows is None else rows

        answer = None
        with self._alive(task.lease, done):
            try:
                for piece in pieces(table, task.missing, known_or_built, told):
                    mine.append(piece)
                    if not gone:
                        try:
                            answer = self._ask("deliver", task.lease, table, piece, piece.stop == last)
                        except KeeperError as why:
                            gone = str(why)
                            self._note(f"{named(table)}: built for one process only. {why}")
            except BaseException as error:
                self._failed(task.lease, error)
                raise
        return None if gone else answer

    def _failed(self, lease: str, error: BaseException) -> None:
        # Who stops this process means nobody else. To read an error of another library the keeper would have to import it: words do.
        shared = None
        if isinstance(error, Exception):
            shared = error if isinstance(error, ValueError) else CacheError(_words(error))
        try:
            self._ask("failed", lease, shared)
        except Exception:  # an error that does not travel
            with suppress(KeeperError):
                self._ask("failed", lease, CacheError(_words(error)))

    @contextmanager
    def _alive(self, lease: str, done: list[int]) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._beat):
                with suppress(Exception):  # whether there is a keeper, the delivery will find out
                    self._keeper.progress.remote(lease, done[0])

        thread = threading.Thread(target=beat, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _wait(self, key: str) -> None:
        pause = PAUSES[0]
        while self._ask("waiting", key) is not None:
            time.sleep(pause)
            pause = min(1.5 * pause, PAUSES[1])

    def _get(self, answer: Ready) -> np.ndarray:
        import ray

        try:
            return ray.get(answer.ref, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            raise LookupError(f"A shared table cannot be had: {_line(error)}") from None

    def _ask(self, question: str, *about: Any) -> Any:
        import ray

        if not self._gone and not ray.is_initialized():
            self._gone = "The Ray session is over."
        for pause in (*RESTART_SECONDS, None):
            if self._gone:
                break
            try:
                return ray.get(getattr(self._keeper, question).remote(*about), timeout=ANSWER_SECONDS)
            except ray.exceptions.ActorDiedError:
                self._gone = "The process that shares tables died."
            except ray.exceptions.ActorUnavailableError as error:
                if pause is None:
                    raise KeeperError(_line(error)) from None
                time.sleep(pause)
            except ray.exceptions.RayError as error:
                raise KeeperError(_line(error)) from None
        raise KeeperError(self._gone)

    def _hold(self, table: TableLike, first: int, values: np.ndarray) -> np.ndarray:
        stop = first + values.shape[1]
        self._held = [h for h in self._held if h.table.key != table.key or place(table, first, stop, h.table, h.first, h.stop) is None]
        self._held.append(_Held(table, first, stop, values))
        while len(self._held) > 1 and sum(h.values.nbytes for h in self._held) > self._memo:
            self._held.pop(0)
        return values

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            if not self._gone:
                with suppress(Exception):
                    self._keeper.note.remote(sentence)


def _whole(table: TableLike, first: int, stop: int, built: list[Piece]) -> np.ndarray | None:
    """Returns rows [first, stop) from pieces, or None if they are not all there."""
    values, there = np.empty((len(table.columns), stop - first)), np.zeros(stop - first, bool)
    for piece in built:
        a, b = max(piece.first, first), min(piece.stop, stop)
        if a < b:
            values[:, a - first : b - first] = piece.values[:, a - piece.first : b - piece.first]
            there[a - first : b - first] = True
    values.flags.writeable = False
    return values if there.all() else None


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
