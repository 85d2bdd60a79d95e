"""Parts of a report that may be missing: then the report says why, and is written all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from results.secrets import redacted

T = TypeVar("T")
_LONGEST = 600  # characters of a reason


@dataclass(frozen=True)
class Missing:
    """What a study cannot say.

    Attributes:
        why: A sentence for people.
    """

    why: str


def tried(gather: Callable[[], T | Missing]) -> T | Missing:
    """Returns what `gather` gives, or why it cannot: a damaged file, too few trials, an extra that is not installed."""
    try:
        return gather()
    except KeyError as error:  # a table without a column it should have
        return Missing(f"what was kept is damaged: there is no {error}")
    except ImportError as error:
        return Missing(redacted(f"{error.name or 'a package'} is not installed")[:_LONGEST])
    except OSError as error:
        return Missing(redacted(f"{error.filename or error}: {error.strerror or 'cannot be read'}")[:_LONGEST])
    except ValueError as error:
        return Missing(redacted(" ".join(str(error).split()) or type(error).__name__)[:_LONGEST])
