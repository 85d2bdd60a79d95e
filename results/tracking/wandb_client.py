"""The process the W&B client lives in: reads questions from a socket, a line of JSON each, and answers each with another."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import wandb
from wandb.sdk import wandb_setup

from results.tracking import wandb_offline
from results.tracking.wandb_readback import NoKeyError, Server
from results.tracking.wandb_tables import nothing
from results.tracking.wandb_writer import RefusedError, Writer, settings

Answer = dict[str, Any] | None

# What the client's errors say, and what a user is told. The first that fits.
_WORDS: Final = (
    ("connection refused", "cannot be reached: connection refused"),
    ("no such host", "cannot be reached: there is no such host"),
    ("Client.Timeout", "does not answer in time"),
    ("did not respond in time", "does not answer in time"),
    ("Timed out", "does not take what is uploaded in time"),
    ("429", "asks to slow down (HTTP 429)"),
    ("HTTP 5", "has trouble"),
    ("404", "does not know this project or address (HTTP 404)"),
    ("401", "refuses the key (HTTP 401): set WANDB_API_KEY, or run `wandb login`"),
    ("403", "does not let this key write to the project (HTTP 403)"),
    # The client says this of a server that refuses a key, and of one that hangs.
    ("Failed to verify credentials", "refuses the key (set WANDB_API_KEY, or run `wandb login`), or does not answer in time"),
)


class Session:
    """Answers questions about one study.

    Args:
        given: Of the first question: online, project, entity, group, run, artifact, folder, settings.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._online = bool(given["online"])
        wandb.setup(settings(self._online, given["settings"]))
        self._server: Server | None = None
        self._folders = wandb_offline.Folders(Path(given["folder"]), str(given["run"]))
        self._writer = Writer(given, self._folders.started)
        self._written = [0, 0, 0]

    @property
    def server(self) -> Server:
        """The server, asked for its leave when first needed."""
        if self._server is None:
            self._server = Server(self._given)
        return self._server

    def look(self) -> Answer:
        """How much the server holds; offline, the folder that is written."""
        if self._online:
            return self.server.look()
        return wandb_offline.look(self._folders.folder, str(self._given["run"]), str(self._given["artifact"]))

    def begin(self, run: str, config: Mapping[str, Any], points: int, paths: list[str], counts: list[int]) -> Answer:
        """Begins to write."""
        folder = self._given["folder"] if self._online else str(self._folders.begin())
        if not self._online:
            # Files of artifacts are staged where this says, outside the run's folder.
            os.environ.update(WANDB_DIR=folder, WANDB_DATA_DIR=f"{folder}/data", WANDB_CACHE_DIR=f"{folder}/cache")
        self._writer = Writer({**self._given, "folder": folder}, self._folders.started)
        return {"written": self._writer.begin(run, config, points, paths, counts)}

    def point(self, points: list[list[Any]]) -> Answer:
        """Points: index, done, values of each."""
        for index, done, values in points:
            self._writer.point(index, done, values)
        self._written[0] += len(points)
        return None

    def rows(self, columns: list[str], rows: list[list[Any]]) -> Answer:
        """An increment of the table of all trials."""
        self._writer.rows(columns, rows)
        self._written[1] += len(rows)
        return None

    def board(self, columns: list[str], rows: list[list[Any]]) -> Answer:
        """The leaderboard."""
        self._writer.board(columns, rows)
        return None

    def trial(self, run: str, name: str, given: Mapping[str, Any], start: int) -> Answer:
        """A trial's run."""
        self._written[2] += 1
        return {"written": self._writer.trial(run, name, given, start)}

    def settle(self) -> Answer:
        """Takes away what the new offline folder replaces."""
        return {"settled": self._online or self._folders.settle(*self._written)}

    def close(self, summary: Mapping[str, Any], code: int, files: list[str], kept: list[str]) -> Answer:
        """Ends the study's run."""
        self._writer.close(summary, code, files, str(self._given["artifact"]), kept)
        return None

    def held(self, deep: list[int]) -> Answer:
        """All that is there."""
        if self._online:
            return self.server.held(deep)
        places = wandb_offline.folders(Path(self._given["folder"]))
        if not places:
            return nothing(str(self._given["run"]), {})
        run, artifact = str(self._given["run"]), str(self._given["artifact"])
        best = max(places, key=lambda place: (wandb_offline.size(place, run), place.name)) if len(places) > 1 else places[0]
        return wandb_offline.held(best, run, artifact)

    def supersede(self, run: str) -> Answer:
        """Marks a run as replaced."""
        self.server.supersede(run)
        return None

    def workspace(self, **given: Any) -> Answer:
        """The saved view, and where it is if it was saved; a server that does not take it costs no more than the view."""
        from results.tracking.wandb_workspace import saved, workspace

        made, definition = workspace(entity=self.server.entity if self._online else str(self._given["entity"] or ""), **given)
        if not self._online:
            return definition
        try:
            return {**definition, "url": saved(made)}
        except Exception as error:
            return {**definition, "not_saved": explained(error)}


def explained(error: BaseException) -> str:
    """Returns in words why the client could not."""
    text = " ".join(str(error).split())
    if isinstance(error, NoKeyError):
        return f"W&B: {text}"
    at = str(wandb_setup.singleton().settings.base_url)
    said = next((words for sign, words in _WORDS if sign in text), None)
    if said == "has trouble":
        said += f" (HTTP 5{text.partition('HTTP 5')[2][:2]})"
    if isinstance(error, RefusedError) and said is None:
        return text
    return f"W&B at {at} {said}" if said else f"W&B at {at}: {type(error).__name__}: {text[:300]}"


def _core() -> int:
    """Returns the number of the service's process; it is in a session of its own, so nobody else could end it."""
    process = getattr(getattr(wandb_setup.singleton(), "_connection", None), "_proc", None)
    return int(getattr(getattr(process, "_process", None), "pid", 0))


def main() -> None:
    """Answers until nobody asks any more; then ends at once: what is not written is written by whoever asks next."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    session: Session | None = None
    for line in connection.makefile("rb"):
        question = json.loads(line)
        op = question.pop("op")
        try:
            if op == "start":
                session = Session(question)
                answer: Answer = None
            else:
                asked: Callable[..., Answer] = getattr(session, op)
                answer = asked(**question)
            reply = {**(answer or {}), "core": _core()}
        except Exception as error:
            reply = {"error": explained(error), "core": _core()}
        connection.sendall(json.dumps(reply, default=str).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
