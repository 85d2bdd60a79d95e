"""A grid of a hundred thousand rows in a real browser."""

import csv
import io
import re
import time

import numpy as np
import pandas as pd
import pytest

from results.pages.columns import Column, written
from results.pages.escaping import PageError
from results.pages.grid import grid, remote_grid
from results.pages.page import page, section
from results.pages.query import order
from tests.results.pages.conftest import COLUMNS, Opened, trials

ROWS = 100_000
MOST_ELEMENTS = 200
NAMES = [column.name for column in COLUMNS]
SHOWN = [column for column in COLUMNS if not column.hidden]


@pytest.fixture(scope="module")
def frame():
    return trials(ROWS)


@pytest.fixture(scope="module")
def large(frame):
    body = section("trials", "Trials", grid("grid", COLUMNS, frame, label="All trials", sort="sharpe", descending=True))
    return page("A large study", body)


@pytest.fixture(scope="module")
def kept(browser, large, tmp_path_factory):
    one = Opened(browser, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
    started = time.perf_counter()
    one.show(large, tmp_path_factory.mktemp("large"))
    print(f"{ROWS:,} rows open in {1e3 * (time.perf_counter() - started):.0f} ms; the page has {len(large) / 1e6:.2f} MB")
    yield one
    one.context.close()


@pytest.fixture
def shown(kept):
    """The page of the large grid as it is at first; afterwards nothing may have gone wrong on it."""
    kept.page.evaluate(
        """async () => {
            const grid = document.querySelector(".grid").grid;
            await grid.clearFilters();
            Object.assign(grid.query, { sort: "sharpe", descending: true });
            Object.assign(grid.active, { row: 0, place: 1 });
            grid.selection.clear();
            grid.closeDetail();
            await grid.requery();
            grid.box.focus();
        }"""
    )
    yield kept.page
    assert kept.wrong == []


def cells(shown, at):
    """The texts of row `at`, from 0, which must be in the document."""
    return shown.locator(f'.row[aria-rowindex="{at + 3}"]:not([hidden]) .cell:not(.pick)').all_inner_texts()


def expected(frame, places, at):
    return [written(frame[column.name].iloc[places[at]], column) for column in SHOWN]


def by_sharpe(rows, descending=True):
    # A page keeps two decimals more than it shows; what is equal then keeps the frame's order.
    stored = np.rint(rows["sharpe"] * 1e4)
    tie = (stored.abs() % 100 == 50) * np.sign(rows["sharpe"] * 1e4 - stored)
    return order(stored + tie, descending)


def counted(shown):
    return shown.locator(".grid-count").inner_text()


def wait_for_count(shown, text):
    shown.locator(".grid-count").get_by_text(text, exact=True).wait_for()


def test_it_opens_sorted_with_the_right_rows_and_few_elements(shown, frame):
    places = by_sharpe(frame, True)
    assert counted(shown) == "100,000 rows"
    for at in (0, 1, 10):
        assert cells(shown, at) == expected(frame, places, at)
    assert shown.locator(".row").count() <= MOST_ELEMENTS
    assert shown.locator(".grid-box").get_attribute("aria-rowcount") == str(ROWS + 2)


def test_scrolling_from_top_to_end_always_shows_the_right_rows(shown, frame):
    places = by_sharpe(frame, True)
    worst = 0
    for share in np.linspace(0, 1, 21):
        first, last = shown.evaluate(
            """async (share) => {
                const { box, viewport } = document.querySelector(".grid").grid;
                box.scrollTop = share * (box.scrollHeight - box.clientHeight);
                await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
                return viewport.inSight;
            }""",
            share,
        )
        worst = max(worst, shown.locator(".row").count())
        for at in (first, (first + last) // 2, last - 1):
            assert cells(shown, at) == expected(frame, places, at), at
    assert last == ROWS
    assert worst <= MOST_ELEMENTS
    box, row = shown.locator(".grid-box").bounding_box(), shown.locator(f'.row[aria-rowindex="{ROWS + 2}"]').bounding_box()
    assert abs(box["y"] + box["height"] - row["y"] - row["height"]) <= 20  # above the bar that scrolls sideways


def test_a_click_on_a_heading_sorts_best_first_then_worst_first_and_missing_ones_stay_last(shown, frame):
    heading = shown.get_by_role("columnheader", name="Sharpe", exact=False).first
    heading.click()  # was descending: now the worst first
    assert heading.get_attribute("aria-sort") == "ascending"
    places = by_sharpe(frame, False)
    assert cells(shown, 0) == expected(frame, places, 0)
    shown.keyboard.press("Control+End")
    assert cells(shown, ROWS - 1)[1] == "n/a"
    duration = shown.get_by_role("columnheader", name="Duration")
    duration.click()
    assert duration.get_attribute("aria-sort") == "ascending"  # less is better
    assert heading.get_attribute("aria-sort") == "none"
    duration.click()
    duration.click()  # the rows' own order
    assert cells(shown, 0)[0] == "0"


@pytest.mark.parametrize(
    ("filters", "search", "passing"),
    [
        ({"Sharpe": ">= 2"}, "", lambda f: f["sharpe"].round(4) >= 2),
        ({"Return": "1..2", "Optimizer": "!sgd"}, "", lambda f: f["total_return"].round(5).between(0.01, 0.02) & (f["optimizer"] != "sgd")),
        ({"Sharpe": "n/a"}, "", lambda f: f["sharpe"].isna()),
        ({"Status": "= failed", "Hold": "4"}, "", lambda f: (f["status"] == "failed") & (f["hold"] == 4)),
        ({}, "ADAMW etf 8", lambda f: (f["optimizer"] == "adamw") & (f["universe"] == "etf-core") & _has_eight(f)),
    ],
)
def test_filters_and_search_leave_the_rows_that_pass(shown, frame, filters, search, passing):
    for label, text in filters.items():
        shown.get_by_label(f"Filter {label}", exact=True).fill(text)
    shown.get_by_label("Search All trials").fill(search)
    rows = frame[passing(frame)]
    wait_for_count(shown, f"{len(rows):,} of 100,000 rows")
    assert cells(shown, 0) == expected(rows, by_sharpe(rows, True), 0)
    shown.get_by_role("button", name="Remove all filters").click()
    wait_for_count(shown, "100,000 rows")


def _has_eight(frame):
    whole = [column.name for column in COLUMNS if column.kind == "integer"]
    return frame[whole].eq(8).any(axis=1) | frame["config_id"].str.contains("8") | frame["universe"].str.contains("8")


def test_a_filter_that_is_none_says_so_beside_its_field_and_leaves_the_table(shown):
    field = shown.get_by_label("Filter Sharpe")
    field.fill(">= 2")
    shown.locator(".grid-count").get_by_text("of 100,000").wait_for()
    before = counted(shown)
    field.fill(">= two")
    message = shown.get_by_role("alert").get_by_text("'two' is no number")
    message.wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    assert shown.locator(f"#{field.get_attribute('aria-describedby')}").inner_text().startswith("'two'")
    assert counted(shown) == before and cells(shown, 0)
    box, said = field.bounding_box(), message.bounding_box()
    assert abs(said["x"] - box["x"]) < 200 and 0 <= said["y"] - box["y"] - box["height"] < 12
    field.fill("")
    message.wait_for(state="hidden")
    wait_for_count(shown, "100,000 rows")


def test_no_row_that_passes_is_said(shown):
    shown.get_by_label("Filter Sharpe").fill("> 1000")
    wait_for_count(shown, "0 of 100,000 rows")
    assert shown.get_by_text("No row passes the filters.").is_visible()


def here(shown):
    """Row and column that the keyboard is at, as told to screen readers, from 1; headings are row 1."""
    active = shown.locator(".grid-box").get_attribute("aria-activedescendant")
    return tuple(
        int(shown.locator(f"#{active}").evaluate(f"(cell) => {part}"))
        for part in ("cell.parentElement.getAttribute('aria-rowindex')", "cell.getAttribute('aria-colindex')")
    )


def test_the_keyboard_goes_everywhere(shown, frame):
    press = shown.keyboard.press
    press("ArrowDown")
    press("ArrowDown")
    press("ArrowRight")
    assert here(shown) == (5, 3)
    press("End")
    assert here(shown) == (5, len(SHOWN) + 1)
    assert shown.locator(".here").evaluate(
        "(e) => e.getBoundingClientRect().right <= e.closest('.grid-box').getBoundingClientRect().right + 1"
    )
    press("Home")
    press("ArrowRight")
    assert here(shown) == (5, 3)
    # The first column stays and hides nothing that the keyboard is at.
    assert shown.locator(".here").evaluate(
        "(e) => e.getBoundingClientRect().left - e.parentElement.children[1].getBoundingClientRect().right >= -1"
    )
    press("PageDown")
    row, _ = here(shown)
    assert 12 < row < 60
    press("PageUp")
    assert here(shown)[0] == 5
    press("Control+End")
    assert here(shown) == (ROWS + 2, len(SHOWN) + 1)
    assert cells(shown, ROWS - 1) == expected(frame, by_sharpe(frame, True), ROWS - 1)
    press("Control+Home")
    press("ArrowUp")
    assert here(shown) == (1, 2)
    press("Enter")  # on the heading of "Trial"
    shown.locator('[role=columnheader][aria-sort="ascending"]').get_by_text("Trial").wait_for()
    press("ArrowDown")
    assert here(shown) == (3, 2)
    assert cells(shown, 0)[0] == "0"


def test_the_details_of_a_row_have_all_its_values_and_follow_the_keyboard(shown, frame):
    places = by_sharpe(frame, True)
    shown.evaluate("document.addEventListener('grid:open', (event) => (window.told = event.detail.values), { once: true })")
    shown.keyboard.press("Enter")
    assert shown.evaluate("window.told.trial") == frame["trial"].iloc[places[0]]
    panel = shown.get_by_role("complementary", name="Details of the row")
    assert panel.get_by_role("heading").inner_text() == f"Trial {written(frame['trial'].iloc[places[0]], COLUMNS[0])}"
    assert panel.locator("dt").all_inner_texts() == [column.heading for column in COLUMNS]
    assert frame["config_id"].iloc[places[0]] in panel.inner_text()  # hidden in the table
    assert "n/a below 60 days" in panel.inner_text()
    shown.keyboard.press("ArrowDown")
    assert panel.get_by_role("heading").inner_text() == f"Trial {written(frame['trial'].iloc[places[1]], COLUMNS[0])}"
    panel.get_by_role("button", name="Row above").click()
    assert panel.get_by_role("heading").inner_text() == f"Trial {written(frame['trial'].iloc[places[0]], COLUMNS[0])}"
    shown.keyboard.press("Escape")
    assert not panel.is_visible()
    assert shown.evaluate("document.activeElement.getAttribute('role')") == "grid"
    shown.locator(".row").nth(3).locator(".cell").nth(4).click()
    assert panel.is_visible()


def test_picked_rows_are_copied_as_csv(shown, frame):
    places = by_sharpe(frame, True)
    shown.keyboard.press("Space")
    shown.keyboard.press("Shift+ArrowDown")
    shown.keyboard.press("Shift+ArrowDown")
    assert shown.get_by_text("3 selected").is_visible()
    assert shown.locator('.row[aria-selected="true"]').count() == 3
    shown.keyboard.press("Control+c")
    shown.locator(".grid-count").get_by_text("3 rows copied").wait_for()
    rows = list(csv.DictReader(io.StringIO(shown.evaluate("navigator.clipboard.readText()"))))
    assert [int(row["trial"]) for row in rows] == frame["trial"].iloc[places[:3]].tolist()
    assert list(rows[0]) == NAMES
    # Picked rows stay picked in another order.
    shown.get_by_role("columnheader", name="Trial").click()
    assert shown.get_by_text("3 selected").is_visible()
    shown.get_by_role("button", name="Clear the selection").click()
    assert not shown.get_by_text("selected").is_visible()


def test_the_filtered_rows_are_saved_as_csv(shown, frame):
    shown.get_by_label("Filter Sharpe").fill(">= 2.5")
    rows = frame[frame["sharpe"].round(4) >= 2.5]
    wait_for_count(shown, f"{len(rows):,} of 100,000 rows")
    with shown.expect_download() as download:
        shown.get_by_role("button", name="Download the filtered rows as CSV").click()
    saved = pd.read_csv(download.value.path())
    assert download.value.suggested_filename == "grid.csv"
    places = by_sharpe(rows, True)
    assert saved["trial"].tolist() == rows["trial"].iloc[places].tolist()
    assert np.allclose(saved["sharpe"], rows["sharpe"].iloc[places], atol=2e-4)
    assert saved["optimizer"].tolist() == rows["optimizer"].iloc[places].tolist()


def test_columns_are_chosen_from_a_list(shown):
    heading = shown.get_by_role("columnheader", name="Configuration")
    assert heading.count() == 0
    shown.get_by_role("button", name="Choose columns").click()
    shown.get_by_label("Configuration", exact=True).check()
    shown.get_by_label("Sharpe", exact=True).uncheck()
    assert heading.count() == 1
    assert len(cells(shown, 0)) == len(SHOWN)
    assert re.fullmatch(r"[0-9a-f]{16}", cells(shown, 0)[-1])
    shown.get_by_role("button", name="As at first").click()
    shown.keyboard.press("Escape")
    assert heading.count() == 0
    assert shown.evaluate("document.activeElement.textContent") == "Columns"


def test_cells_that_a_spreadsheet_would_run_are_made_text(script):
    rows = [["=1+1", "+x", "-x", "@x", -1.5, None, 'a"b,c', "plain", "\ttab"]]
    line = script("csvLines(rows.map((values) => ({ values })))", rows=rows)
    assert next(csv.reader(io.StringIO(line))) == ["'=1+1", "'+x", "'-x", "'@x", "-1.5", "", 'a"b,c', "plain", "'\ttab"]


def test_any_text_is_shown_as_text(opened, tmp_path):
    nasty = ["<script>window.bad=1</script>", "</script><img src=x onerror='window.bad=1'>", 'quo"te', "{{x}}", "=cmd()"]
    columns = [
        Column('na"me<b>', '<b>lab"el</b>', help="</script><i>", unit="<u>"),
        Column("tone", tones={'quo"te': "bad"}, help=nasty[1]),
    ]
    one = opened()
    shown = one.show(page("x", grid("g", columns, pd.DataFrame({'na"me<b>': nasty, "tone": nasty}), label=nasty[0])), tmp_path)
    assert [cells(shown, at)[0] for at in range(5)] == nasty
    shown.locator(".row").nth(1).locator(".cell").nth(1).click()
    assert shown.get_by_role("complementary").get_by_text(nasty[1]).count() >= 2
    assert shown.evaluate("window.bad") is None and one.wrong == []
    assert shown.locator(".grid b, .grid i:not(.pick i), .grid u, .grid img").count() == 0


def test_a_table_without_rows_says_so(opened, tmp_path):
    one = opened()
    shown = one.show(page("x", grid("g", COLUMNS, trials(0))), tmp_path)
    assert shown.get_by_text("There are no rows yet.").is_visible() and counted(shown) == "0 rows"
    shown.keyboard.press("Tab")
    for key in ("ArrowDown", "Enter", "Space", "End", "Control+a", "Control+c", "PageDown"):
        shown.locator(".grid-box").press(key)
    assert one.wrong == []


def test_rows_come_into_sight_quickly_enough_to_scroll(shown):
    times = shown.evaluate(
        """async () => {
            const { box } = document.querySelector(".grid").grid;
            const times = [];
            for (let step = 0; step <= 120; step++) {
                const before = performance.now();
                box.scrollTop = (box.scrollHeight - box.clientHeight) * step / 120;
                await new Promise(requestAnimationFrame);
                times.push(performance.now() - before);
            }
            return times.sort((a, b) => a - b);
        }"""
    )
    print(f"a frame of scrolling: median {times[60]:.0f} ms, slowest of 20 {times[114]:.0f} ms")
    assert len(times) == 121


def test_a_grid_that_cannot_be_is_refused_with_a_reason():
    with pytest.raises(PageError, match="cannot sort by 'x'"):
        grid("g", COLUMNS, trials(1), sort="x")
    with pytest.raises(PageError, match="key 'x'"):
        remote_grid("g", COLUMNS, "/rows", key="x")
    with pytest.raises(PageError, match="at least one column"):
        remote_grid("g", [], "/rows")
