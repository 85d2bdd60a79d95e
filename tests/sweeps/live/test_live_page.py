"""The live page in a real browser, beside a writer that adds results."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.live.ledgers import StepWriter, Writer, values_of
from tests.sweeps.live.serving import Server

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium, which is not installed here")

ROWS = "#all-trials .grid-pane .row:not([hidden])"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab; what its console says beyond failed requests is a failure of the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    tab.set_default_timeout(30_000)
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.said = said
    yield tab
    assert [text for text in said if not text.startswith("Failed to load resource")] == []
    context.close()


def eventually(check: Callable[[], Any], seconds: float = 30.0) -> Any:
    ends = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.1)
    return found


def ranked(count: int, failed: set[int]) -> list[str]:
    """Numbers of trials by total return, the greatest first."""
    values = {i: values_of(i)[1] for i in range(count) if i not in failed and values_of(i)[1] == values_of(i)[1]}
    return [str(i) for i in sorted(values, key=lambda i: -values[i])]


def opened(page: Any, server: Server, path: str) -> None:
    page.goto(server.link)
    page.wait_for_url(f"{server.base}/")
    assert "token" not in page.url
    page.goto(f"{server.base}{path}")


def column(page: Any, name: str) -> list[str]:
    """What a column shows in the rows in sight."""
    script = """([rows, name]) => {
        const grid = document.getElementById("all-trials").grid;
        const at = grid.shown.findIndex((column) => column.name === name) + 1;
        const found = [...document.querySelectorAll(rows)].filter((row) => !row.classList.contains("waiting"));
        return found.sort((a, b) => a.at - b.at).map((row) => row.children[at].textContent);
    }"""
    return list(page.evaluate(script, [ROWS, name]))


def shown(page: Any) -> str:
    return str(page.locator("#all-trials .grid-count").inner_text())


def test_a_page_follows_a_running_study_and_keeps_what_the_reader_has_set(tmp_path: Path, page: Any) -> None:
    made = Writer(tmp_path, total=900)
    made.add(range(300), failed={3})
    with Server(tmp_path) as server:
        opened(page, server, "/studies/made")
        eventually(lambda: shown(page) == "300 rows")
        best = [v for v in (values_of(i)[0] for i in range(300) if i != 3) if v == v]
        assert column(page, "sortino")[0] == f"{max(best):.3f}"

        page.locator("#all-trials [role=columnheader]", has_text="total_return").first.click()
        eventually(lambda: column(page, "trial")[0] == ranked(300, {3})[0])
        page.locator("#all-trials .grid-box").evaluate("box => { box.scrollTop = 2800; }")
        eventually(lambda: page.evaluate("document.getElementById('all-trials').grid.viewport.inSight[0]") == 100)
        eventually(lambda: len(column(page, "trial")) > 10)
        page.evaluate("window.marker = 1; window.scrollTo(0, 600)")
        place = page.locator("#all-trials").bounding_box()["y"]

        made.add(range(300, 600), failed={301, 302})
        eventually(lambda: shown(page) == "600 rows")
        eventually(lambda: "600 of 900" in page.locator("#overview").inner_text() and "3 failed" in page.locator("#overview").inner_text())
        assert page.evaluate("window.marker") == 1  # the same page, where it was, though there is more above
        assert abs(page.locator("#all-trials").bounding_box()["y"] - place) < 3.0
        assert page.evaluate("document.getElementById('all-trials').grid.viewport.inSight[0]") == 100
        eventually(lambda: column(page, "trial")[0] == ranked(600, {3, 301, 302})[94])  # there are six spare rows above those in sight
        made.finish()
        eventually(lambda: "finished" in page.locator("#overview").inner_text())
        eventually(lambda: "Working" not in page.locator("#verdict-part").inner_text())
        assert page.locator("#best-so-far svg").count() == 1


def test_filters_are_answered_by_the_server_and_a_row_leads_to_its_trial(tmp_path: Path, page: Any) -> None:
    made = Writer(tmp_path, total=200)
    made.add(range(200), failed={3, 13})
    made.finish()
    with Server(tmp_path) as server:
        opened(page, server, "/studies/made")
        eventually(lambda: shown(page) == "200 rows")
        page.evaluate("document.getElementById('all-trials').grid.head.inputs.get('status').focus()")
        page.keyboard.type("failed")
        eventually(lambda: shown(page) == "2 of 200 rows")
        assert sorted(column(page, "trial")) == ["13", "3"]
        page.locator(f"{ROWS} .cell").nth(2).click()
        link = page.locator(".grid-detail a")
        link.wait_for()
        number = link.inner_text().rpartition(" ")[2]
        link.click()
        page.wait_for_url(f"{server.base}/studies/made/trials/{number}")
        assert "no prices" in page.locator("#ending-part").inner_text()


def test_a_trial_at_work_is_followed_report_by_report(tmp_path: Path, page: Any) -> None:
    made = StepWriter(tmp_path)
    attempt = made.begin(0)
    made.report(attempt, 0, 2, 0.25)
    with Server(tmp_path) as server:
        opened(page, server, "/studies/walks")
        eventually(lambda: "2 of 12" in page.locator("#work-part").inner_text())
        made.report(attempt, 0, 4, 0.5)
        eventually(lambda: "4 of 12" in page.locator("#work-part").inner_text())
        page.locator("#work-part a").first.click()
        page.wait_for_url(f"{server.base}/studies/walks/trials/0")
        eventually(lambda: page.locator("#reported circle").count() == 2)
        page.locator("#reports-part summary").click()
        made.report(attempt, 0, 8, 0.75)
        eventually(lambda: page.locator("#reported circle").count() == 3)
        assert page.locator("#reports-part details").get_attribute("open") is not None  # stays unfolded
        made.end(attempt, 0, 0.875)
        eventually(lambda: "completed at step" in page.locator("#ending-part").inner_text())
        made.finish()


def test_what_goes_wrong_is_said_on_the_page(tmp_path: Path, page: Any) -> None:
    made = Writer(tmp_path)
    made.add(range(30))
    with Server(tmp_path) as server:
        opened(page, server, "/studies/made")
        eventually(lambda: shown(page) == "30 rows")
        made.home.rename(tmp_path / "elsewhere")
        eventually(lambda: "set aside or deleted" in page.locator("#connection").inner_text())
        (tmp_path / "elsewhere").rename(made.home)
        eventually(lambda: not page.locator("#connection").is_visible())
        server.stop()
        eventually(lambda: "The server does not answer" in page.locator("#connection").inner_text())
        assert shown(page) == "30 rows"
    made.finish()
