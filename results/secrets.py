"""Secrets stay out of what is kept: values of environment variables that are named like one, and keys that look like one.

Texts that others wrote (an exception of a trainable, a command line) may quote whatever was at hand. They pass through `redacted`
before they are kept; nothing here is called where nothing has failed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

LEAST_CHARS: Final = 8
_NAMED: Final = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_WORDS: Final = frozenset({"disabled", "required", "optional", "prompted", "undefined", "infinity"})
_LONGEST_NUMBER: Final = 24  # characters; what is longer is a key that happens to have digits only
_HIDDEN: Final = "[secret]"

# Keys that are known by their looks, where no variable holds them: (what stays before them)(the key).
_SHAPES: Final = tuple(
    re.compile(shape, re.IGNORECASE)
    for shape in (
        r"(api[_-]?key[\"']?\s*[=:]\s*[\"']?)([\w.-]{16,})",  # api_key=…, "WANDB_API_KEY": "…"
        r"(\bBearer[\s:=]+[\"']?)([\w.~+/-]{16,}=*)",
        r"(\bBasic\s+)([A-Za-z0-9+/]{16,}=*)",
        r"()(\bwandb_v\d+_\w{16,})",
        r"(://[^\s:/@\"']*:)([^\s/@\"']+(?=@))",  # scheme://user:password@host
    )
)


def redacted(text: str) -> str:
    """Return a text with `[NAME]` in place of each value of a secret environment variable, `[secret]` for what looks like a key."""
    if secrets := tuple(_secrets()):
        known, names = _pattern(secrets)
        text = known.sub(lambda found: f"[{names[found[0]]}]", text)
    for shape in _SHAPES:
        text = shape.sub(rf"\g<1>{_HIDDEN}", text)
    return text


def holds_secret(value: object) -> str | None:
    """Return the name of an environment variable whose secret is in a text, or in a mapping or list of texts; None if there is none."""
    secrets = tuple(_secrets())
    if not secrets:
        return None
    known, names = _pattern(secrets)
    return next((names[found[0]] for text in _texts(value) if (found := known.search(text)) is not None), None)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(key)
            yield from _texts(below)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for below in value:
            yield from _texts(below)


def _secrets() -> Iterator[tuple[str, str]]:
    """Gives names and values of the environment variables that hold a secret."""
    for name, value in os.environ.items():
        if len(value) >= LEAST_CHARS and _NAMED.search(name) and not _plain(value):
            yield name, value


def _plain(value: str) -> bool:
    """Whether a value is no secret whatever its variable is called: a number, a word of settings, a file that exists."""
    if value.lower() in _WORDS or (len(value) <= _LONGEST_NUMBER and _is_number(value)):
        return True
    try:
        return os.path.exists(os.path.expanduser(value))
    except (OSError, ValueError):
        return False


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8)
def _pattern(secrets: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return what finds the secrets in a text, and the variable each spelling belongs to."""
    names = {spelling: name for name, value in secrets for spelling in _spellings(value)}
    # The longest first: a secret may begin with another.
    return re.compile("|".join(re.escape(spelling) for spelling in sorted(names, key=len, reverse=True))), names


@lru_cache(maxsize=256)
def _spellings(value: str) -> frozenset[str]:
    """Return how a value may stand in a message: as it is, in a repr, in JSON, in an address, in a page."""
    written = {value, value.strip(), repr(value)[1:-1], json.dumps(value)[1:-1], escape(value)}
    return frozenset(written | {quote(value, safe=""), quote(value), quote_plus(value)})
