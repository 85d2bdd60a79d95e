"""Text becomes HTML here and nowhere else: what is not `Html` is escaped."""

from __future__ import annotations

import html
import json
import re
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
# What a browser's parser drops or rewrites inside text; lone surrogates cannot be written as UTF-8 at all.
_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class PageError(ValueError):
    """A page cannot be built from what was given; the message says which part."""


class Html(str):
    """Markup that is safe to put into a page as it is; plain strings are text and are escaped."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Return text as HTML, for content and for quoted attributes alike; `Html` stays as it is, None is empty."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("")
    return Html(html.escape(_UNWRITABLE.sub("\ufffd", str(value)), quote=True))


def identifier(name: str) -> str:
    """Return `name` where it can be an element's id: a letter, then letters, digits, `_`, `.` or `-`.

    Raises:
        PageError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise PageError(f"{name!r} cannot be the id of a part of a page: use a letter, then letters, digits, '_', '.' or '-'")
    return name


def script_json(value: Any) -> Html:
    """Return `value` as JSON that no script tag can be left with: `<`, `>` and `&` are written as escapes.

    Raises:
        PageError: A value that JSON cannot hold (NaN and infinities among them).
    """
    try:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise PageError(f"this cannot be put into a page as JSON: {error}") from None
    return _inert(text)


def json_block(name: str, text: str) -> Html:
    """Return JSON text as a data block, `<script type="application/json" id=…>`, which browsers never run.

    Raises:
        PageError: The text is not JSON, or the name no id.
    """
    try:
        json.loads(text)
    except ValueError as error:
        raise PageError(f"the data of {name!r} is not JSON: {error}") from None
    return Html(f'<script type="application/json" id="{identifier(name)}">{_inert(text)}</script>')


def script_text(source: str) -> str:
    """Return JavaScript as it can stand inside a script tag, and as the browser will hash it.

    `</script` and `<!--` occur in sources only inside strings and comments, where a backslash changes nothing; line ends are what
    the parser makes of them.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "\ufffd")
    source = re.sub(r"</(script)", r"<\\/\1", source, flags=re.IGNORECASE)
    return source.replace("<!--", "<\\!--")


def _inert(text: str) -> Html:
    # Outside of strings JSON has none of these three.
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
