"""Tables in markdown, read as GitHub shows them, and the `name=value` blocks that sweeps print; line by line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from sweeps.history.aliases import label, recognise
from sweeps.history.cells import LONGEST, clean, plain, words
from sweeps.history.tables import Problem, Row, Table, Told, encoding_of, in_memory

_RULE: Final = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})\s+(.+)")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})\s*([\w+-]*)")
_BAR: Final = re.compile(r"(?<!\\)\|")
_PAIR: Final = re.compile(r"([A-Za-z_][\w./-]*)=(\S+)")
_PLAIN_FENCES: Final = frozenset({"", "text", "txt", "console", "log", "output", "none"})
_MOST_LINE: Final = 1 << 20  # characters
_MOST_TITLE: Final = 1_000
_MOST_COLUMNS: Final = 1_000

Following = Callable[[], tuple[int, str] | None]

_METRIC_WORDS: Final = words("metric metrics measure statistic stat kpi indicator")
_NO_RESULT: Final = words("target goal goals expected expectation estimate threshold status change delta unit notes note")


def read_markdown(path: Path, told: Told) -> Iterator[Table]:
    """Yields the tables of a file in order, those without results too.

    HTML is no table; tags are left out of cells, and comments altogether. A row that was broken into several lines is one again.

    Args:
        path: A text file, UTF-8.
        told: Takes what cannot be read.
    """
    yield from _Reader(str(path), told).tables(_lines(path, told))


def pairs_in(text: str) -> dict[str, str]:
    """Returns what is written as `name=value` in a sentence."""
    return {name: value.rstrip(".)]") for name, value in re.findall(r"([A-Za-z_]\w*)\s?=\s?([^\s,;()]+)", text)}


def _lines(path: Path, told: Told) -> Iterator[tuple[int, str]]:
    """Yields numbered lines without HTML comments."""
    inside, bad = False, False
    with path.open(encoding=encoding_of(path), errors="replace", newline=None) as file:
        number = 0
        while line := file.readline(_MOST_LINE):
            number += 1
            if len(line) >= _MOST_LINE and not line.endswith("\n"):
                told(Problem(str(path), number, f"longer than {_MOST_LINE:,} characters; left out"))
                while len(rest := file.readline(_MOST_LINE)) >= _MOST_LINE and not rest.endswith("\n"):
                    pass
                continue
            if "\ufffd" in line and not bad:
                bad = True
                told(Problem(str(path), number, "not UTF-8; unreadable bytes are shown as \ufffd, here and below. Save the file as UTF-8"))
            text = line.rstrip("\n")
            if inside:
                _, end, text = text.partition("-->")
                inside = not end
                if inside:
                    continue
            while (start := text.find("<!--")) >= 0:
                end_at = text.find("-->", start)
                inside = end_at < 0
                text = text[:start] + ("" if inside else text[end_at + 3 :])
            yield number, text


@dataclass
class _Reader:
    """Where in a file reading is."""

    file: str
    told: Told
    headings: dict[int, str] = field(default_factory=dict)
    caption: str = ""

    @property
    def section(self) -> str:
        below = [text for level, text in sorted(self.headings.items()) if level > 1]
        return " > ".join(below or self.headings.values())

    def tables(self, lines: Iterator[tuple[int, str]]) -> Iterator[Table]:
        held: list[tuple[int, str]] = []  # lines read ahead, in reverse
        last = (0, "")

        def following() -> tuple[int, str] | None:
            return held.pop() if held else next(lines, None)

        while (item := following()) is not None:
            number, text = item
            if fence := _FENCE.match(text):
                yield from self._fenced(fence, following)
                last, self.caption = (0, ""), ""
                continue
            if heading := _HEADING.match(text[:_MOST_TITLE]):
                self._enter(len(heading[1]), plain(heading[2].strip().rstrip("#")))
            elif text.strip() and not text.strip(" =") and last[1].strip() and "|" not in last[1]:
                self._enter(1, plain(last[1][:_MOST_TITLE]))
            elif "|" in last[1] and _is_rule(text):
                table, after = self._table(last, text, following)
                yield table
                held.extend([after] if after else [])
                last, self.caption = (0, ""), ""
                continue
            elif text.strip():
                self.caption = plain(text).rstrip(":") if len(text) <= _MOST_TITLE and text.rstrip().endswith(":") else ""
            last = (number, text)

    def _enter(self, level: int, text: str) -> None:
        self.headings = {each: words for each, words in self.headings.items() if each < level} | {level: text[:200]}
        self.caption = ""

    def _table(self, head: tuple[int, str], rule: str, following: Following) -> tuple[Table, tuple[int, str] | None]:
        """Reads the rows below a rule; also returns the line that ended them."""
        columns, bars = _cells(head[1]), head[1].lstrip().startswith("|")
        rows: list[Row] = []
        pending: tuple[int, str] | None = None
        while (item := following()) is not None:
            text = item[1]
            starts = text.lstrip().startswith("|") if bars else "|" in text
            if not text.strip() or _HEADING.match(text[:_MOST_TITLE]) or _FENCE.match(text):
                break
            if starts:
                self._add(rows, pending, columns, bars)
                pending = item
            elif pending is not None and not self._whole(pending[1], columns, bars):
                pending = (pending[0], f"{pending[1]} {text.strip()}")  # the row goes on: somebody's editor wrapped it
            else:
                break
        self._add(rows, pending, columns, bars)
        why = "" if len(_cells(rule)) == len(columns) else f"{len(columns)} headings over {len(_cells(rule))} columns"
        why = why or ("" if len(columns) <= _MOST_COLUMNS else f"more than {_MOST_COLUMNS:,} columns")
        made = self._made(head[0], tuple(columns), rows, why=why)
        return _turned(made) or made, item

    def _whole(self, row: str, columns: list[str], bars: bool) -> bool:
        return len(_cells(row)) >= len(columns) and (_closed(row) or not bars)

    def _add(self, rows: list[Row], pending: tuple[int, str] | None, columns: list[str], bars: bool) -> None:
        if pending is None:
            return
        number, cells = pending[0], _cells(pending[1])
        if len(cells) > len(columns):
            more = f"{len(cells)} cells under {len(columns)} headings; write a bar inside a cell as \\|"
            self.told(Problem(self.file, number, f"{more}. The row is left out"))
        elif bars and len(cells) < len(columns) and not _closed(pending[1]):
            short = f"{len(cells)} of {len(columns)} cells and no bar at its end: it was cut off"
            self.told(Problem(self.file, number, f"{short}. The row is left out; close it with | if the rest is empty"))
        elif any(len(cell) > LONGEST for cell in cells):
            self.told(Problem(self.file, number, f"a cell has more than {LONGEST:,} characters; the row is left out"))
        else:
            rows.append((number, cells + [""] * (len(columns) - len(cells))))  # as GitHub shows it

    def _fenced(self, fence: re.Match[str], following: Following) -> Iterator[Table]:
        """Reads a code block: as a result if it is nothing but `name=value`, and says of a table in it that it is none."""
        marks, lines = fence[1], list[tuple[int, str]]()
        while (item := following()) is not None and not item[1].strip().startswith(marks):
            if len(lines) < 10_000:
                lines.append(item)
        full = [(at, text) for at, text in lines if text.strip()]
        if fence[2].lower() in _PLAIN_FENCES and full and sum(len(text) for _, text in full) <= LONGEST:
            found = [_PAIR.fullmatch(word) for _, text in full for word in text.split()]
            pairs = {pair[1]: pair[2].rstrip(",;") for pair in found if pair}
            if all(found) and 1 < len(pairs) <= _MOST_COLUMNS and any(recognise(label(name)) for name in pairs):
                yield self._made(full[0][0], tuple(pairs), [(full[0][0], list(pairs.values()))], self.caption)
        for (at, text), (_, rule) in zip(lines, islice(lines, 1, None), strict=False):
            if "|" in text and _is_rule(rule):
                yield self._made(at, tuple(_cells(text)), [], why="in a code block, so an example")

    def _made(self, line: int, columns: tuple[str, ...], rows: list[Row], caption: str = "", why: str = "") -> Table:
        useless = why or ("" if rows else "no rows")
        return Table(self.file, line, self.section, columns, in_memory(rows), len(rows), True, False, caption, useless, tuple(rows))


def _is_rule(text: str) -> bool:
    return "-" in text and "|" in text and _RULE.fullmatch(text.strip()) is not None


def _closed(row: str) -> bool:
    """Returns whether a row ends with a bar."""
    return row.rstrip().endswith("|") and not row.rstrip().endswith("\\|")


def _cells(line: str) -> list[str]:
    text = line.strip()
    text = text[1:] if text.startswith("|") else text
    text = text[:-1] if text.endswith("|") and not text.endswith("\\|") else text
    return [cell.replace("\\|", "|").strip() for cell in _BAR.split(text)]


def _turned(table: Table) -> Table | None:
    """Returns a table of metrics by line with its columns as rows; None for any other. Goals are no results."""
    if table.useless or len(table.columns) < 2 or plain(table.columns[0]).casefold() not in _METRIC_WORDS:
        return None
    names = tuple(row[0] for _, row in table.sample)
    if sum(recognise(label(name)) is not None for name in names) * 2 < len(names):
        return None
    kept = [i for i, name in enumerate(table.columns) if i and not set(clean(plain(name)).casefold().split()) & _NO_RESULT]
    rows: list[Row] = [(table.line, [table.columns[i], *(row[i] for _, row in table.sample)]) for i in kept]
    why = "" if rows else "goals, not results"
    made = ("column", *names)
    return Table(table.file, table.line, table.section, made, in_memory(rows), len(rows), useless=why, sample=tuple(rows))
