"""A page: one HTML file that needs nothing beside itself, and may load nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from results.pages.blocks import badge, command, details, figure, figures, join, key_values, notice, section, table
from results.pages.escaping import Html, PageError, escape, identifier, json_block, script_text

__all__ = [
    "Html",
    "PageError",
    "badge",
    "command",
    "details",
    "escape",
    "figure",
    "figures",
    "join",
    "key_values",
    "notice",
    "page",
    "policy",
    "section",
    "table",
]

# In the order in which they build on one another.
_STYLES: Final = ("page.css", "grid.css")
_SCRIPTS: Final = (
    "format.js",
    "filters.js",
    "order.js",
    "unpack.js",
    "sources.js",
    "csv.js",
    "menu.js",
    "head.js",
    "detail.js",
    "histogram.js",
    "print.js",
    "selection.js",
    "viewport.js",
    "rows.js",
    "grid.js",
    "page.js",
)


def page(
    title: str,
    body: str,
    *,
    scripts: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
    live: bool = False,
    subtitle: str = "",
    nav: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> str:
    """Return an HTML5 document that is whole in itself: styles, scripts and data inside, nothing loaded from elsewhere.

    Args:
        title: Text: the window's title and the page's heading.
        body: Markup of the main part (see `blocks`, `grid`).
        scripts: JavaScript sources, run in this order after the page's own; each is allowed by its hash, so that a script which got
            into the page another way does not run.
        data: Names to JSON texts for the scripts: `JSON.parse(document.getElementById(name).textContent)`.
        live: Whether scripts may ask the server the page came from (and no other).
        subtitle: Text, or `Html`, beside the heading.
        nav: Ids of sections and their short titles, shown as links at the top.
        footer: Text, or `Html`, at the end.

    Returns:
        The document. Text is escaped; markup is the caller's to have escaped, which all of `blocks` does.

    Raises:
        PageError: Data that is not JSON, a name that can be no id, or an id that occurs twice.
    """
    _unique(body, data or {})
    sources = [own_script(), *(script_text(source) for source in scripts)]
    blocks = "".join(json_block(name, text) for name, text in (data or {}).items())
    links = "".join(f'<li><a href="#{identifier(name)}">{escape(words)}</a></li>' for name, words in nav)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(sources, live)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{own_style()}</style>",
            "<noscript><style>.needs-script{display:none!important}.grid-print{display:block!important}</style></noscript>",
            "</head>",
            "<body>",
            '<a class="skip" href="#main">Skip to content</a>',
            f'<header class="top"><div class="wide"><h1>{escape(title)}</h1>',
            f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else "",
            f'<nav aria-label="On this page"><ul>{links}</ul></nav>' if links else "",
            "</div></header>",
            f'<main id="main" class="wide" tabindex="-1">{body}</main>',
            f'<footer class="wide">{escape(footer)}</footer>' if footer else "",
            blocks,
            *(f"<script>{source}</script>" for source in sources),
            "</body>",
            "</html>",
            "",
        ]
    )


def policy(scripts: Sequence[str] = (), *, live: bool = False) -> str:
    """Return the content security policy of a page with these scripts, for a server that says it in a header as well."""
    return _policy([own_script(), *map(script_text, scripts)], live)


@cache
def own_style() -> str:
    """Return the styles of all pages."""
    return "\n".join(_asset(name) for name in _STYLES)


@cache
def own_script() -> str:
    """Return the script of all pages: grids, buttons that copy; as it stands inside its tag."""
    parts = "\n".join(_asset(name) for name in _SCRIPTS)
    return script_text(f'(() => {{\n"use strict";\n{parts}\n}})();')


def _policy(sources: Sequence[str], live: bool) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in sources)
    # Scripts make blob: addresses of files the reader saves; drawings are saved by way of images of them.
    rules = ["default-src 'none'", "style-src 'unsafe-inline'", f"script-src {hashes}", "img-src data: blob:"]
    rules += ["connect-src 'self'"] if live else []
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _unique(body: str, data: Mapping[str, str]) -> None:
    # Quotes in text and in JSON are escaped, so this finds attributes only.
    names = Counter([*re.findall(r' id="([^"]*)"', body), *data, "main"])
    if twice := sorted(name for name, times in names.items() if times > 1):
        raise PageError(f"ids occur twice on the page: {', '.join(twice)}; give each part its own")


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
