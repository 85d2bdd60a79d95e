"""`alphasweep serve`: the pages behind their guard, on a port of this computer that no other one can reach."""

from __future__ import annotations

import importlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from results import LedgerError
from results.pages.filters import FilterError
from sweeps.live import pages
from sweeps.live.memory import Background
from sweeps.live.security import FRAMES, Guarded, Keys
from sweeps.live.studies import Followed, Studies
from sweeps.live.trial import NoTrialError

THREADS: Final = 8  # requests answered at once
JUDGES: Final = 2  # verdicts and endings worked out at once
LONGEST: Final = 64  # characters of a trial's name


def application(folder: Path, keys: Keys, only: str | None = None) -> Guarded:
    """Returns the application.

    Args:
        folder: That holds the studies' folders.
        keys: What opens it.
        only: Name of the only study that is shown.
    """
    executor = Background(JUDGES)
    studies = Studies(folder, only, executor)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        from anyio.to_thread import current_default_thread_limiter

        current_default_thread_limiter().total_tokens = THREADS
        executor.submit(importlib.import_module, "sweeps.evidence")  # takes a second, which the first reader need not wait for
        yield

    def of_study(answer: Callable[[Followed, Request], Response], as_json: bool = False) -> Callable[[Request], Response]:
        """Makes an endpoint from what answers for a study; what is wrong with it is said in words."""

        def endpoint(request: Request) -> Response:
            name = request.path_params["name"]
            followed = studies.find(name)
            if followed is None:
                there = f"There is no study {name[:100]!r} in {studies.folder}; it may have been set aside or deleted."
                return _problem(404, "No such study", there, as_json)
            try:
                return answer(followed, request)
            except NoTrialError as error:
                return _problem(404, "No such trial", str(error), as_json)
            except FilterError as error:
                return JSONResponse({"error": str(error), "column": error.column}, status_code=400)
            except LedgerError as error:
                return _problem(503, f"{name} cannot be read", str(error), as_json)
            except OSError as error:
                return _problem(503, f"{name} cannot be read", f"{error.filename}: {error.strerror}", as_json)

        return endpoint

    def root(_: Request) -> Response:
        return _page(pages.studies_page(studies))

    def root_parts(_: Request) -> Response:
        return JSONResponse({"version": "", "alive": True, "parts": pages.studies_parts(studies)})

    def study_parts(followed: Followed, _: Request) -> Response:
        now = followed.look_whole()
        made = pages.study_parts(followed, now)
        return JSONResponse(pages.answer(now, made, grid=followed.grid(now)[0]))

    def trial_parts(followed: Followed, request: Request) -> Response:
        return JSONResponse(pages.trial_answer(followed, _which(request)))

    routes = [
        Route("/", root),
        Route("/parts", root_parts),
        Route("/studies/{name}", of_study(lambda followed, _: _page(pages.study_page(followed, studies.folder)))),
        Route("/studies/{name}/parts", of_study(study_parts, as_json=True)),
        Route("/studies/{name}/rows", of_study(lambda followed, request: _json(followed.rows(request.query_params)), as_json=True)),
        Route("/studies/{name}/trials/{trial}", of_study(lambda followed, request: _page(pages.trial_page(followed, _which(request))))),
        Route("/studies/{name}/trials/{trial}/parts", of_study(trial_parts, as_json=True)),
    ]
    handlers: Any = {404: _no_page, HTTPException: _no_page}
    return Guarded(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), keys)


def listen(port: int) -> socket.socket:
    """Returns a socket on this computer's own address.

    Raises:
        OSError: The port is taken.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


def serve(app: Guarded, listening: socket.socket) -> None:
    """Answers until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=1, ws="none", proxy_headers=False
    )
    uvicorn.Server(config).run(sockets=[listening])


def _page(html: str) -> Response:
    return HTMLResponse(html, headers={"Content-Security-Policy": pages.content_policy() + FRAMES})


def _json(value: Any) -> Response:
    return JSONResponse(value)


def _problem(status: int, title: str, words: str, as_json: bool) -> Response:
    if as_json:
        return JSONResponse({"error": words}, status_code=status)
    answer = _page(pages.problem_page(title, words))
    answer.status_code = status
    return answer


def _no_page(request: Request, error: Exception) -> Response:
    return _problem(404, "No such page", f"There is nothing at {request.url.path[:200]!r}.", as_json=False)


def _which(request: Request) -> str:
    which = str(request.path_params["trial"])
    if len(which) > LONGEST:
        raise NoTrialError(f"{which[:LONGEST]}… is no trial: give its number, or the first digits of its configuration's id")
    return which
