"""A grid whose million rows a server has."""

import json
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pytest

from results.pages.columns import Column, written
from results.pages.filters import FilterError
from results.pages.grid import remote_grid
from results.pages.page import page
from results.pages.query import order, parse_query

ROWS = 1_000_000
COLUMNS = (
    Column("trial", "Trial", "integer"),
    Column("sharpe", "Sharpe", "number", digits=2, direction="max"),
    Column("mode", "Mode"),
)
SITE = "http://grid.test/"


class Server:
    """Answers as `remote_grid` expects, from a frame."""

    def __init__(self, rows):
        sharpe = np.random.default_rng(0).normal(size=rows)
        sharpe[::10] = np.nan
        self.frame = pd.DataFrame({"trial": np.arange(rows), "sharpe": sharpe, "mode": np.where(np.arange(rows) % 3, "long", "short")})
        self.version = 1
        self.asked = []
        self.down = False

    def chosen(self, query):
        rows = self.frame[query.mask(self.frame, COLUMNS)]
        return rows if query.sort is None else rows.iloc[order(rows[query.sort], query.descending)]

    def answer(self, route):
        address = urlsplit(route.request.url)
        if address.path == "/":
            return route.fulfill(
                body=page("Live", remote_grid("g", COLUMNS, "/rows?study=x&k=%C3%BC", label="Trials"), live=True), content_type="text/html"
            )
        if self.down:
            return route.abort()
        parameters = dict(parse_qsl(address.query))
        assert parameters["study"] == "x" and parameters["k"] == "ü"
        self.asked.append(parameters)
        try:
            query = parse_query(parameters, COLUMNS)
            if query.words == ("refuse",):
                raise FilterError("the server cannot do this", "mode")
        except FilterError as error:
            return route.fulfill(status=400, json={"error": str(error), "column": error.column})
        rows = self.chosen(query)
        cut = rows.iloc[query.start : query.start + query.count].astype(object).where(lambda cells: cells.notna(), None)
        return route.fulfill(json={"total": len(rows), "rows": json.loads(cut.to_json(orient="values")), "version": str(self.version)})


@pytest.fixture
def server():
    return Server(ROWS)


@pytest.fixture
def small():
    return Server(1000)


def show(opened, server):
    one = opened()
    one.page.route(f"{SITE}**", server.answer)
    one.page.goto(SITE)
    one.page.evaluate("document.querySelector('.grid').grid.ready")
    return one


def cells(shown, at):
    row = shown.locator(f'.row[aria-rowindex="{at + 3}"]:not([hidden]):not(.waiting)')
    row.wait_for()
    return row.locator(".cell:not(.pick)").all_inner_texts()


def expected(rows, at):
    return [written(rows[column.name].iloc[at], column) for column in COLUMNS]


def test_a_million_rows_are_scrolled_to_the_end_and_stepped_through_one_by_one(opened, server):
    one = show(opened, server)
    shown = one.page
    assert shown.locator(".grid-count").inner_text() == "1,000,000 rows"
    assert cells(shown, 0) == expected(server.frame, 0)
    assert shown.locator(".row").count() <= 200
    height = shown.evaluate("document.querySelector('.grid-sizer').offsetHeight")
    assert height < 17_000_000
    for share in (0.25, 0.5, 0.9, 1.0):
        shown.evaluate(
            """(share) => {
                const { box } = document.querySelector(".grid").grid;
                box.scrollTop = share * (box.scrollHeight - box.clientHeight);
            }""",
            share,
        )
        shown.wait_for_timeout(250)
        first, last = shown.evaluate("document.querySelector('.grid').grid.viewport.inSight")
        assert abs(first / (ROWS - last + first) - share) < 0.001
        assert cells(shown, first) == expected(server.frame, first) and cells(shown, last - 1) == expected(server.frame, last - 1)
    assert last == ROWS
    # A wheel moves by as many pixels as it says, though the bar stands for 28 million of them.
    shown.locator(".grid-box").focus()
    shown.keyboard.press("Control+Home")
    for _ in range(3):
        shown.keyboard.press("PageDown")
    before = shown.evaluate("document.querySelector('.grid').grid.viewport.top")
    box = shown.locator(".grid-pane").bounding_box()
    shown.mouse.move(box["x"] + 200, box["y"] + 100)
    shown.mouse.wheel(0, 120)
    shown.wait_for_timeout(500)
    assert abs(shown.evaluate("document.querySelector('.grid').grid.viewport.top") - before - 120) <= 2
    # Every row can be reached, one after the other, in the middle too.
    shown.evaluate("document.querySelector('.grid').grid.moveTo(500000)")
    for at in range(500_001, 500_040):
        shown.keyboard.press("ArrowDown")
        assert shown.locator(".here").evaluate("(cell) => cell.parentElement.getAttribute('aria-rowindex')") == str(at + 3)
    assert cells(shown, 500_039) == expected(server.frame, 500_039)
    assert one.wrong == []


def test_the_server_sorts_and_filters_and_a_word_of_it_stands_beside_the_field(opened, small):
    one = show(opened, small)
    shown = one.page
    shown.get_by_role("columnheader", name="Sharpe").click()
    query = parse_query({"sort": "sharpe", "dir": "desc"}, COLUMNS)
    shown.locator('[role=columnheader][aria-sort="descending"]').wait_for()
    shown.wait_for_timeout(200)
    assert cells(shown, 0) == expected(small.chosen(query), 0)
    shown.get_by_label("Filter Mode").fill("= short")
    shown.get_by_label("Filter Sharpe").fill("> 0")
    asked = {"sort": "sharpe", "dir": "desc", "filter": json.dumps({"columns": {"mode": "= short", "sharpe": "> 0"}})}
    rows = small.chosen(parse_query(asked, COLUMNS))
    shown.locator(".grid-count").get_by_text(f"{len(rows)} of 1,000 rows").wait_for()
    assert cells(shown, 3) == expected(rows, 3)
    requests = len(small.asked)
    shown.get_by_label("Filter Sharpe").fill("> zero")  # never asked for
    shown.get_by_role("alert").get_by_text("'zero' is no number").wait_for()
    assert len(small.asked) == requests
    assert one.wrong == []
    shown.get_by_label("Search Trials").fill("refuse")
    shown.get_by_role("alert").get_by_text("the server cannot do this").wait_for()
    assert cells(shown, 3) == expected(rows, 3)


def test_a_refresh_keeps_place_order_selection_and_details(opened, small):
    one = show(opened, small)
    shown = one.page
    shown.get_by_role("columnheader", name="Sharpe").click()
    shown.wait_for_timeout(300)
    rows = small.chosen(parse_query({"sort": "sharpe", "dir": "desc"}, COLUMNS))
    shown.locator(".grid-box").focus()
    shown.evaluate("document.querySelector('.grid').grid.moveTo(600)")
    assert cells(shown, 600) == expected(rows, 600)
    shown.keyboard.press("Space")
    shown.keyboard.press("Enter")
    before = shown.evaluate("document.querySelector('.grid').grid.viewport.top")
    shown.evaluate("document.querySelector('.grid').grid.refresh()")
    asked = len(small.asked)
    picked = int(rows["trial"].iloc[600])
    small.frame = pd.concat(
        [small.frame, pd.DataFrame({"trial": [1000, 1001], "sharpe": [-50.0, np.nan], "mode": "long"})], ignore_index=True
    )
    small.frame.loc[picked, "mode"] = "changed"
    small.version = 2
    shown.evaluate("document.querySelector('.grid').grid.refresh()")
    shown.locator(".grid-count").get_by_text("1,002 rows").wait_for()
    assert len(small.asked) > asked and small.asked[-1]["sort"] == "sharpe"
    assert shown.evaluate("document.querySelector('.grid').grid.viewport.top") == before
    assert cells(shown, 600)[2] == "changed"
    assert shown.locator('.row[aria-selected="true"]').get_attribute("aria-rowindex") == "603"
    assert "changed" in shown.get_by_role("complementary").inner_text()
    assert shown.get_by_text("1 selected").is_visible()
    assert one.wrong == []


def test_a_server_that_is_gone_is_said_and_the_rows_stay_until_it_is_back(opened, small):
    shown = show(opened, small).page
    small.down = True
    shown.evaluate("document.querySelector('.grid').grid.refresh()")
    shown.get_by_role("alert").get_by_text("No answer from the server").wait_for()
    assert cells(shown, 0) == expected(small.frame, 0)
    small.down, small.version = False, 2
    shown.evaluate("document.querySelector('.grid').grid.refresh()")
    shown.locator(".grid-note").wait_for(state="hidden")


def test_all_filtered_rows_are_saved_though_few_are_loaded(opened, small):
    shown = show(opened, small).page
    shown.get_by_label("Filter Mode").fill("short")
    shown.locator(".grid-count").get_by_text("334 of 1,000 rows").wait_for()
    with shown.expect_download() as download:
        shown.get_by_role("button", name="Download the filtered rows as CSV").click()
    saved = pd.read_csv(download.value.path())
    assert saved["trial"].tolist() == list(range(0, 1000, 3)) and saved["sharpe"].isna().sum() == 34
