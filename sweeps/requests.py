"""What people ask of a study that another process may be running: small files in its folder, read by the one that writes its ledger.

A request is a JSON file in `requests/`, written beside its place and renamed into it, so that it is there whole or not at all. It carries
an id, and whatever carries it out records that id in the ledger: a file that is left behind by a kill, or comes twice, changes nothing.
"""

from __future__ import annotations

import getpass
import json
import os
import stat
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from results.ledger import now

FOLDER: Final = "requests"
REFUSED: Final = "refused"  # folder below it, of requests that were not carried out
LARGEST: Final = 64_000  # bytes of a request
REQUEST: Final = "request"  # in an event: id of the request that it carries out


class RequestError(ValueError):
    """A request cannot be carried out; the message says why."""


class Request(BaseModel):
    """Something a person asks of a study.

    Attributes:
        id: 32 hexadecimal digits.
        kind: "enqueue": try a point next; "stop": end a trial, or the session.
        created: ISO time, UTC.
        by: Who asks.
        point: What to try.
        trial: Which to end; None is the session.
        reason: Why to end it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    kind: Literal["enqueue", "stop"]
    created: Annotated[str, Field(max_length=40)]
    by: Annotated[str, Field(max_length=100)] = ""
    point: dict[str, Any] | None = None
    trial: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""

    @field_validator("created")
    @classmethod
    def _created_is_a_time(cls, value: str) -> str:
        if datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("a time without its zone")
        return value

    @model_validator(mode="after")
    def _has_what_it_is_about(self) -> Request:
        if (self.kind == "enqueue") != (self.point is not None) or (self.kind == "enqueue" and self.trial is not None):
            raise ValueError("enqueue needs a point, stop none")
        return self


def ask(home: Path, kind: Literal["enqueue", "stop"], **about: Any) -> Request:
    """Puts a request into a study's folder.

    Args:
        home: The study's folder.
        kind: Of the request.
        about: Its `point`, or its `trial` and `reason`.

    Raises:
        RequestError: It is not one, or too large.
    """
    try:
        made = Request(id=uuid.uuid4().hex, kind=kind, created=now(), by=_user(), **about)
        text = json.dumps({key: value for key, value in made.model_dump().items() if value is not None}, allow_nan=False).encode()
        parse(text)  # its size too
    except ValidationError as error:
        raise RequestError(_words(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, RequestError) else RequestError(f"it cannot be written as JSON: {error}") from None
    folder = home / FOLDER
    folder.mkdir(exist_ok=True)
    draft = folder / f".{made.id}.new"
    with draft.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / f"{time.time_ns():020d}-{made.id}.json")  # names sort as they come
    return made


def names(home: Path) -> list[str]:
    """Returns the file names of the requests that wait, oldest first."""
    try:
        with os.scandir(home / FOLDER) as found:
            return sorted(entry.name for entry in found if entry.name.endswith(".json") and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # nothing that could be answered
        return []


def waits(home: Path, request: Request) -> bool:
    """Returns whether a request is still there."""
    return any(name.endswith(f"{request.id}.json") for name in names(home))


def read(place: Path) -> Request:
    """Reads a request.

    Raises:
        RequestError: It is none.
        FileNotFoundError: It is gone.
    """
    try:
        if not stat.S_ISREG(os.lstat(place).st_mode):
            raise RequestError("not a plain file")
        with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RequestError(f"cannot be read: {error.strerror}") from None
    return parse(text)


def parse(text: bytes) -> Request:
    """Makes a request from JSON.

    Raises:
        RequestError: It is none.
    """
    if len(text) > LARGEST:
        raise RequestError(f"larger than {LARGEST:,} bytes")
    try:
        return Request.model_validate_json(text)
    except ValidationError as error:
        raise RequestError(_words(error)) from None


def _words(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _user() -> str:
    try:
        return getpass.getuser()[:100]
    except (OSError, KeyError):  # a container may have no name for its user
        return ""
