"""Where results come from, and the commands that get them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.leaderboard import format_parameter, format_value
from results.pages.page import Html, badge, command, details, escape, join, key_values, section, table
from results.secrets import redacted
from sweeps.report.drawings import Drawings, missing
from sweeps.report.gather import Gathered
from sweeps.report.origin import Origin
from sweeps.report.part import Missing

_COUNTS = ("points", "completed", "stopped", "failed", "missing", "duplicated", "corrupt", "unexpected", "vanished")


def provenance(g: Gathered, drawings: Drawings) -> Html:
    """Returns commands, certificate, what results depend on, sessions and versions."""
    title = "Provenance, and how to get this again"
    if isinstance(g.origin, Missing):
        return section("provenance", title, missing(g.origin.why))
    o = g.origin
    parts = [Html("<h3>Reproduce</h3>"), *_again(g, o)]
    parts += [details("Study file", command(o.file))] if o.file else []
    parts += [Html("<h3>Certificate</h3>"), _certificate(o)]
    parts += [Html("<h3>What the results depend on</h3>"), key_values(_context(g, o))]
    if o.windows:
        rows = [(name, a or "–", b or "–", c, d) for name, a, b, c, d in o.windows]
        parts.append(table(("window", "train from", "train to", "tune from", "tune to"), rows, caption="Windows (UTC)"))
    if o.defaults:
        defaults = [(name, redacted(format_parameter(value))) for name, value in o.defaults.items()]
        parts.append(details("Defaults of parameters", table(("parameter", "default"), defaults, caption="Defaults of parameters")))
    parts += [Html("<h3>Sessions</h3>"), _sessions(o), _versions(o)]
    return section("provenance", title, join(parts))


def _again(g: Gathered, o: Origin) -> list[Html]:
    if isinstance(o.again, Missing):
        return [missing(o.again.why)]
    said = f"With the study file below saved as {g.name}.yaml:" if o.own_file else "The study is one of the library:"
    return [Html(f"<p>{escape(said)}</p>"), *(command(line) for line in o.again)]


def _certificate(o: Origin) -> Html:
    found = o.verification
    if isinstance(found, Missing):
        return missing(found.why)
    state = ("verified", "good") if found.ok else ("incomplete", "warn") if found.incomplete else ("NOT verified", "bad")
    counts = ", ".join(f"{getattr(found, name):,} {name}" for name in _COUNTS if getattr(found, name) or name in _COUNTS[:2])
    rows: list[tuple[str, object]] = [
        ("state", badge(*state)),
        ("results", counts),
        ("certificate", Html(f"<code>{escape(found.certificate)}</code>")),
    ]
    if found.problems and not found.ok and not found.incomplete:
        rows.append(("problems", "; ".join(found.problems[:5])))
    said = "Equal results give an equal certificate, whatever the order or session they came in."
    return join([key_values(rows), Html(f'<p class="remark">{said}</p>')])


def _context(g: Gathered, o: Origin) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("trainable", f"{o.context['trainable']}, version {o.context['version']}"),
        ("data fingerprint", Html(f"<code>{escape(str(o.context['data_fingerprint']))}</code>")),
        ("data", _flat(g.header.spec.get("data", {}))),
        ("settings", _flat(g.header.spec.get("settings", {}))),
        ("protocol", _flat(o.protocol)),
        ("seed", str(o.context["seed"])),
        ("identity", Html(f"<code>{escape(o.context_id)}</code>")),
        ("searches", "; ".join(o.searches) or "none"),
    ]
    return [*rows, *([("forked from", o.forked_from)] if o.forked_from else [])]


def _flat(mapping: Mapping[str, Any]) -> str:
    return redacted(", ".join(f"{key}={format_value(value)}" for key, value in mapping.items())) or "none"


def _sessions(o: Origin) -> Html:
    rows = [(s.started, s.ended or "–", s.reason, s.command, s.host, s.commit or "–", s.python) for s in o.sessions]
    return Html(
        '<div class="wrapped">'
        f"{table(('started (UTC)', 'ended', 'how', 'command', 'host', 'commit', 'Python'), rows, caption='Sessions')}</div>"
    )


def _versions(o: Origin) -> Html:
    names = sorted({name for s in o.sessions for name in s.packages}, key=str.lower)
    if not names:
        return missing("no versions are on record")
    rows = [(name, ", then ".join(dict.fromkeys(s.packages.get(name, "none") for s in o.sessions))) for name in names]
    changed = sum(", then " in versions for _, versions in rows)
    return details(f"Versions{f' ({changed} changed between sessions)' if changed else ''}", table(("package", "version"), rows))
