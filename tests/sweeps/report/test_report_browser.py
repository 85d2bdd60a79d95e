"""The report in a real browser: nothing goes wrong, everything is drawn when it comes into sight, and print and phones have it all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results import Ledger
from sweeps.commands.report import write_report
from sweeps.evidence import judge
from tests.sweeps.report.studies import HOSTILE, write_grid, write_many

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Shown:
    """A file in the browser, and what went wrong there."""

    def __init__(self, browser: Any, **settings: Any):
        self.context = browser.new_context(**{"viewport": WIDE, **settings})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: request.url.startswith("http") and self.wrong.append(request.url))
        self.page.add_init_script("addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))")

    def show(self, file: Path) -> Any:
        self.page.goto(file.as_uri())
        self.page.evaluate("Promise.all([...document.querySelectorAll('.grid')].map((each) => each.grid.ready))")
        return self.page

    def scroll(self) -> None:
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for y in range(0, height, 600):
            self.page.evaluate(f"window.scrollTo(0, {y})")
            self.page.wait_for_timeout(60)


@pytest.fixture
def shown(browser: Any) -> Iterator[Any]:
    made: list[Shown] = []

    def make(**settings: Any) -> Shown:
        made.append(Shown(browser, **settings))
        return made[-1]

    yield make
    for each in made:
        each.context.close()


@pytest.fixture(scope="module")
def files(grid_once: Path, steps: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return write_report(grid_once, folder / "grid.html")[0], write_report(steps, folder / "steps.html")[0]


def drawn(page: Any) -> list[int]:
    return [
        page.locator(selector).count() for selector in ("[data-figure]", "[data-figure][data-drawn]", "[data-figure] svg.main-svg >> nth=0")
    ]


def until(page: Any, holds: str) -> None:
    """Waits for an expression; the page's policy forbids the browser's own way, which compiles code in the page."""
    for _ in range(100):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {holds}")


def test_charts_are_drawn_when_they_come_into_sight_and_nothing_goes_wrong(shown: Any, files: tuple[Path, Path]) -> None:
    for file in files:
        one = shown()
        page = one.show(file)
        assert page.evaluate("!!window.Plotly") is False or drawn(page)[1] < drawn(page)[0]
        one.scroll()
        count, done, _ = drawn(page)
        assert count == done >= 3 and one.wrong == []
        assert page.evaluate("[...document.querySelectorAll('[data-figure]')].every((each) => each.querySelector('svg.main-svg'))")
        assert page.evaluate("document.querySelectorAll('[data-figure] canvas').length") == 0  # no WebGL, which print would lack


def test_the_leaderboard_has_the_winner_first_and_sorts(shown: Any, files: tuple[Path, Path], grid_once: Path) -> None:
    page = shown().show(files[0])
    rows = page.locator("#board .grid-pane [role=row]")
    with Ledger.open(grid_once / "ledger.sqlite", readonly=True) as ledger:
        frame = ledger.frame().dropna(subset="sortino")
    best, least = judge(grid_once).board["trial"].iloc[0], frame["trades"].min()
    first = rows.first.inner_text().split()
    assert first[0] == str(best) and f"{frame['sortino'].max():,.3f}" in first
    heading = page.locator("#board").get_by_role("columnheader", name="trades").first
    heading.click()
    until(page, "document.querySelector('#board [aria-sort=ascending], #board [aria-sort=descending]') !== null")
    ends = {f"{int(least)}", f"{int(frame['trades'].max())}"}
    assert ends & set(rows.first.inner_text().split()) and heading.get_attribute("aria-sort") in ("ascending", "descending")


def test_the_axis_becomes_logarithmic_with_the_keyboard(shown: Any, files: tuple[Path, Path]) -> None:
    one = shown()
    page = one.show(files[0])
    box = page.locator("[data-log='accounts-plot']")
    box.scroll_into_view_if_needed()
    until(page, "document.getElementById('accounts-plot').dataset.drawn !== undefined")
    box.focus()
    page.keyboard.press("Space")
    until(page, "document.getElementById('accounts-plot').layout.yaxis.type === 'log'")
    assert one.wrong == []


@pytest.mark.slow
def test_a_phone_scrolls_down_and_not_sideways(shown: Any, files: tuple[Path, Path]) -> None:
    for file in files:
        one = shown(viewport=PHONE, is_mobile=True, has_touch=True)
        page = one.show(file)
        one.scroll()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"] and one.wrong == []
        widths = page.evaluate(
            "[...document.querySelectorAll('.plot:not(.wide-plot .plot)')].map((each) => each.getBoundingClientRect().width)"
        )
        assert widths and max(widths) <= PHONE["width"] and drawn(page)[0] == drawn(page)[1]


@pytest.mark.slow
def test_colours_follow_the_scheme_of_the_page(shown: Any, files: tuple[Path, Path]) -> None:
    inks = []
    for scheme in ("light", "dark"):
        one = shown(color_scheme=scheme)
        page = one.show(files[0])
        one.scroll()
        inks.append(page.evaluate("document.getElementById('accounts-plot').layout.font.color"))
        assert "@" not in page.evaluate("JSON.stringify(document.getElementById('accounts-plot').layout)") and one.wrong == []
    page.emulate_media(color_scheme="light")
    until(page, "document.getElementById('accounts-plot').layout.font.color === " + repr(inks[0]))
    assert inks[0] != inks[1]


@pytest.mark.slow
def test_print_has_every_chart_the_verdict_and_the_leaderboard(shown: Any, files: tuple[Path, Path], grid_once: Path) -> None:
    one = shown(color_scheme="dark")
    page = one.show(files[0])
    pdf = page.pdf(format="A4")  # nothing has been scrolled to
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page>") + pdf.count(b"/Type /Page ") >= 3
    count, done, _ = drawn(page)
    assert count == done and one.wrong == []
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    text = page.locator("main").inner_text()
    best = judge(grid_once).board.iloc[0]
    assert "Can the winner be believed?" in text and f"{best['sortino']:,.3f}" in text
    assert page.locator("#board .grid-print").is_visible()
    assert page.evaluate("document.getElementById('accounts-plot').layout.width") <= 700
    assert page.evaluate("document.getElementById('accounts-plot').layout.font.color") == "#1f2530"  # dark ink on white paper


def test_what_is_hostile_does_nothing(shown: Any, tmp_path: Path) -> None:
    space = {HOSTILE: [1, 2], "mode": {"choice": [HOSTILE, "</script><script>window.hurt=1</script>"]}, "edge": [0.0, 0.1]}
    home = write_grid(tmp_path, space=space, failed=[3], error=HOSTILE, spec={"description": HOSTILE})
    one = shown()
    page = one.show(write_report(home)[0])
    one.scroll()
    assert page.evaluate("window.hurt === undefined") and one.wrong == [] and page.locator("img").count() == 0


@pytest.mark.slow
def test_a_hundred_thousand_rows_open_at_once_and_scroll_to_the_last(shown: Any, tmp_path: Path) -> None:
    home = write_many(tmp_path, 100_000)
    file, _ = write_report(home)
    assert file.stat().st_size < 12_000_000
    one = shown()
    page = one.show(file)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 2_000
    box = page.locator("#board [role=grid]")
    box.focus()
    page.keyboard.press("Control+End")
    page.wait_for_timeout(300)
    with Ledger.open(home / "ledger.sqlite", readonly=True) as ledger:
        worst = ledger.top("sortino", "min", n=1)["trial"].iloc[0]
    rows = page.locator("#board .grid-pane [role=row]").all_inner_texts()  # as they were made, not as they lie
    assert str(worst) in [row.split()[0].replace(",", "").replace("\u202f", "") for row in rows] and one.wrong == []
    one.scroll()
    assert drawn(page)[0] == drawn(page)[1] and one.wrong == []
