"""Requests carried out: read by the session that writes the ledger, where nothing is half done."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from results import Ledger, LedgerError
from search_spaces import SpaceError
from sweeps.feed import Source
from sweeps.learning import LearningBacklog
from sweeps.requests import FOLDER, REFUSED, REQUEST, Request, RequestError, names, read
from sweeps.study import StudyError
from sweeps.suggestions import SUGGESTED
from trainables.contract import TrainableError

TURNED_DOWN: Final = "request_refused"  # kinds of events
STOP_ASKED: Final = "stop_asked"
STOPPED: Final = "stopped"
_ANSWERS: Final = (SUGGESTED, STOPPED, STOP_ASKED, TURNED_DOWN)


def answer_to(ledger: Any, request: Request) -> dict[str, Any] | None:
    """Returns the event that carried a request out, or refused it; None if there is none yet."""
    for kind in _ANSWERS:
        for event in ledger.events(kind, limit=1000):
            if event["detail"].get(REQUEST) == request.id:
                return dict(event)
    return None


class Inbox:
    """The requests of a study.

    Args:
        home: The study's folder.
        ledger: Where what was carried out is recorded; a session is open.
        source: Where points come from.
        stop: Asks the session to stop.
    """

    def __init__(self, home: Path, ledger: Ledger, source: Source, stop: Callable[[], None]):
        self._home, self._ledger, self._source, self._stop = home, ledger, source, stop
        self._held: dict[str, Request] = {}  # by file name: waiting for a report of their trial, or for room
        self._ignored: set[str] = set()  # cannot be taken away
        self._answers: dict[str, str] | None = None

    def open(self) -> None:
        """Reads what came while nobody was at work."""
        self._read(None, opening=True)

    def look(self, active: Collection[int] | None = None) -> None:
        """Reads what has come.

        Args:
            active: Trials that are at work and report; None where packs are evaluated.
        """
        self._read(active)

    def wish(self, trial: int) -> Request | None:
        """Returns the request to end a trial, None if there is none. Who carries it out records its id, and says that it has `ended`."""
        return next((request for request in self._held.values() if request.kind == "stop" and request.trial == trial), None)

    def ended(self, trial: int, how: str, by: str = "") -> None:
        """Files away the requests to end a trial that has ended.

        Args:
            trial: Its number.
            how: Its status.
            by: Id of the request that ended it.
        """
        for name, request in [(n, r) for n, r in self._held.items() if r.kind == "stop" and r.trial == trial]:
            if request.id == by:
                self._done()[by] = STOPPED
                self._remove(name)
            else:
                self._refuse(name, request.id, f"trial {trial} had ended: {how}")

    def _read(self, active: Collection[int] | None, opening: bool = False) -> None:
        present = [name for name in names(self._home) if name not in self._ignored]
        self._held = {name: request for name, request in self._held.items() if name in present}
        for name in present:
            try:
                request = self._held.get(name) or read(self._home / FOLDER / name)
            except FileNotFoundError:
                continue
            except RequestError as error:
                self._refuse(name, name, str(error))
                continue
            if (kind := self._done().get(request.id)) is not None:  # killed before it was taken away, or delivered twice
                (self._put_aside if kind == TURNED_DOWN else self._remove)(name)
                continue
            try:
                self._act(name, request, active, opening)
            except (RequestError, StudyError, SpaceError, TrainableError) as error:
                self._refuse(name, request.id, str(error))

    def _act(self, name: str, request: Request, active: Collection[int] | None, opening: bool) -> None:
        if request.kind == "enqueue":
            if not isinstance(self._source, LearningBacklog):
                raise RequestError("the search that runs knows its points beforehand and does not learn; use `alphasweep extend`")
            if self._source.enqueue(request.point or {}, request.id):
                self._done()[request.id] = SUGGESTED
                self._remove(name)
            else:
                self._held[name] = request
        elif request.trial is None:
            if datetime.fromisoformat(request.created) < datetime.fromisoformat(self._ledger.sessions()[-1]["started"]):
                raise RequestError("the session it was meant for had ended")
            self._ledger.record(STOP_ASKED, request=request.id, reason=request.reason, by=request.by)
            self._done()[request.id] = STOP_ASKED
            self._remove(name)
            self._stop()
        elif name not in self._held:
            # One that an earlier session did not come to carry out holds for the next report of its trial.
            if (status := self._status(request.trial)) is not None:
                raise RequestError(f"trial {request.trial} had ended: {status}")
            if not opening and (active is None or request.trial not in active):
                raise RequestError(f"trial {request.trial} is not running" if active is not None else "its trials do not report")
            self._held[name] = request

    def _status(self, trial: int) -> str | None:
        with suppress(LedgerError):
            return str(self._ledger.trial(trial)["status"])
        return None

    def _done(self) -> dict[str, str]:
        """Requests that have their answer, with its kind; read when the first request comes."""
        if self._answers is None:
            self._answers = {
                str(event["detail"][REQUEST]): kind
                for kind in _ANSWERS
                for event in self._ledger.events(kind, limit=None)
                if REQUEST in event["detail"]
            }
        return self._answers

    def _refuse(self, name: str, key: str, why: str) -> None:
        if key not in self._done():
            self._ledger.record(TURNED_DOWN, request=key, file=name, why=why[:1000])
            self._done()[key] = TURNED_DOWN
        self._put_aside(name)

    def _put_aside(self, name: str) -> None:
        self._held.pop(name, None)
        folder = self._home / FOLDER
        try:
            (folder / REFUSED).mkdir(exist_ok=True)
            os.replace(folder / name, folder / REFUSED / name)
        except FileNotFoundError:
            pass
        except OSError:
            self._ignored.add(name)

    def _remove(self, name: str) -> None:
        self._held.pop(name, None)
        try:
            (self._home / FOLDER / name).unlink(missing_ok=True)
        except OSError:
            self._ignored.add(name)
