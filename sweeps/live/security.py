"""Who may look: the person who started the server, with the link it printed, from this computer.

A page of another site can make a browser ask `127.0.0.1`, and by DNS rebinding even read what it answers. So a request must name this host
(`Host`), and carry a cookie that only whoever had the link has; it is `SameSite=Strict`, so that no other site can send it along. Nothing
can be changed here: there is no method but GET and HEAD.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from results.pages.page import escape

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
BARE: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
FRAMES: Final = "; frame-ancestors 'none'"
NAMES: Final = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Keys:
    """What opens the pages of one server.

    Attributes:
        port: It listens on.
        token: In the link.
        session: In the cookie, which is another secret: links stay in histories.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers keep cookies of all ports together."""
        return f"alphasweep_{self.port}"

    def link(self, path: str = "/") -> str:
        """Returns the address that opens a page for the first time."""
        return f"http://127.0.0.1:{self.port}{quote(path)}?{urlencode({'token': self.token})}"

    def is_token(self, given: str) -> bool:
        """Returns whether this is the token; takes as long for a wrong one."""
        return secrets.compare_digest(given.encode(), self.token.encode())

    def is_known(self, cookies: str) -> bool:
        """Returns whether a cookie header has the session's secret."""
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and secrets.compare_digest(found.value.encode(), self.session.encode())


class Guarded:
    """An application behind the checks above; every answer carries the headers above."""

    def __init__(self, app: ASGIApp, keys: Keys):
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                extra = {**HEADERS, "Content-Security-Policy": BARE}
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in extra.items() if k.lower().encode() not in names),
                ]
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in {f"{name}:{self._keys.port}" for name in NAMES}:
            return refused(421, "This server answers for 127.0.0.1 only", f"The request was for {host[:100] or 'no host'!r}.")
        if scope["method"] not in ("GET", "HEAD"):
            words = "Studies are changed by commands; alphasweep --help lists them."
            answer = refused(405, "These pages only show", words)
            answer.headers["Allow"] = "GET, HEAD"
            return answer
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = next((value for name, value in pairs if name == "token"), None)
        if token is not None:
            return self._welcome(scope["path"]) if self._keys.is_token(token) else _locked()
        return None if self._keys.is_known(headers.get("cookie", "")) else _locked()

    def _welcome(self, path: str) -> Response:
        """Gives the cookie and goes on without the token.

        By a page, not by a redirect: after a link from another site, browsers leave strict cookies out of what they are redirected to.
        """
        place = escape(quote("/" + path.lstrip("/")))  # never //host
        answer = HTMLResponse(f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={place}"><title>alphasweep</title>')
        answer.set_cookie(self._keys.cookie, self._keys.session, path="/", httponly=True, samesite="strict")
        return answer


def refused(status: int, title: str, words: str) -> Response:
    """Returns a small page that says why there is no other."""
    body = f"<h1>{escape(title)}</h1><p>{escape(words)}</p>"
    style = "<style>body{font:15px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:34rem;padding:0 1rem}</style>"
    html = f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>{style}{body}</html>'
    return HTMLResponse(html, status_code=status)


def _locked() -> Response:
    words = "Open the link that alphasweep serve printed in its terminal: it has a token in it, and ends when the server ends."
    return refused(403, "This page needs the link it was started with", words)
