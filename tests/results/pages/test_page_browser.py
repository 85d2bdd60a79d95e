"""Pages in a real browser: their own scripts run and no others, they fit phones and paper, text can be read in the dark."""

import shutil
import subprocess

import pytest

from results.pages.grid import grid
from results.pages.page import badge, command, details, figure, figures, key_values, notice, page, section, table
from results.pages.sparkline import sparkline
from tests.results.pages.conftest import COLUMNS, trials

PARTS = [("Study", "selector_grid"), ("Fingerprint", "c0ffee" * 12), ("State", badge("finished", "good"))]

# The contrast of every text in sight with what is behind it.
CONTRASTS = """() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, share, at) => sum + share * linear(rgb[at] / 255), 0);
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility()) continue;
        let ground = element;
        while (ground && rgba(getComputedStyle(ground).backgroundColor)[3] < 200) ground = ground.parentElement;
        const behind = getComputedStyle(ground ?? document.documentElement).backgroundColor;
        const [one, other] = [getComputedStyle(element).color, behind].map(rgba).map(light);
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) found.push([walker.currentNode.data.trim().slice(0, 30), element.className, Math.round(ratio * 100) / 100]);
    }
    return found;
}"""


def report(count=400):
    body = section(
        "verdict",
        "Verdict",
        notice("Promising, not proven.", "warn") + figures([("Best Sharpe", "1.84", "0.9 … 2.6"), ("Trials", "400", "")]),
    )
    body += section("trials", "Trials", grid("grid", COLUMNS, trials(count), label="All trials", sort="sharpe", descending=True))
    body += section(
        "top",
        "Top",
        table([column for column in COLUMNS if not column.hidden], trials(3)[[c.name for c in COLUMNS if not c.hidden]].values),
    )
    body += section(
        "picture", "Picture", figure("line", sparkline(range(50), width=900, height=200), "A line that rises", caption="It rises.")
    )
    body += section(
        "about", "About", key_values(PARTS) + command("alphasweep run selector_grid --trials 400 --set space.min_edge=[0.006,0.008]")
    )
    body += details("More", "<p>folded away</p>")
    return page("A study", body, nav=[("verdict", "Verdict"), ("trials", "Trials"), ("about", "About")], footer="made by alphasweep")


def test_only_scripts_known_by_their_hash_run(opened, tmp_path):
    one = opened()
    body = "<script>window.injected = 1</script><p id='p'><img src='x' onerror='window.injected = 2'></p>"
    shown = one.show(
        page(
            "x",
            body,
            scripts=["window.own = JSON.parse(document.getElementById('d').textContent).a + '</script>'"],
            data={"d": '{"a": "<b>"}'},
        ),
        tmp_path,
    )
    assert shown.evaluate("window.own") == "<b></script>"
    assert shown.evaluate("window.injected") is None
    assert any("CSP" in line for line in one.wrong)


@pytest.mark.parametrize(
    "settings", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}]
)
def test_a_page_opens_without_errors_fits_its_window_and_can_be_read(opened, tmp_path, settings):
    one = opened(**settings)
    shown = one.show(report(), tmp_path)
    assert one.wrong == []
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert shown.evaluate(CONTRASTS) == []
    shown.locator(".row").nth(2).locator(".cell").nth(2).click()
    shown.get_by_label("Select", exact=True).nth(4).click()
    shown.locator(".fields input").nth(1).fill(">= x")
    shown.locator(".said:visible").wait_for()
    assert shown.evaluate(CONTRASTS) == []
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert one.wrong == []


def test_a_command_is_copied_as_it_is_typed(opened, tmp_path):
    one = opened(permissions=["clipboard-read", "clipboard-write"])
    shown = one.show(report(), tmp_path)
    shown.get_by_role("button", name="Copy", exact=True).click()
    shown.get_by_role("button", name="Copied").wait_for()
    assert (
        shown.evaluate("navigator.clipboard.readText()") == "alphasweep run selector_grid --trials 400 --set space.min_edge=[0.006,0.008]"
    )


def test_the_first_tab_leads_past_the_navigation_and_focus_is_seen(opened, tmp_path):
    shown = opened().show(report(), tmp_path)
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.textContent") == "Skip to content"
    assert shown.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
    assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    shown.keyboard.press("Enter")
    assert shown.evaluate("location.hash") == "#main"


def test_paper_has_everything_dark_on_white_and_nothing_cut_off(opened, tmp_path):
    one = opened(color_scheme="dark", viewport={"width": 703, "height": 1000})  # A4 less its margins, in pixels
    shown = one.show(report(), tmp_path)
    shown.get_by_label("Filter Optimizer").fill("lion")
    shown.get_by_role("status").get_by_text("of 400 rows").wait_for()
    shown.emulate_media(media="print", color_scheme="dark")
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    text = shown.inner_text("body")
    for part in (
        "Promising, not proven",
        "1.84",
        "All trials: first 40 of",
        "Max drawdown",
        "Fee (bps)",
        "It rises.",
        "c0ffee",
        "alphasweep run",
        "folded away",
    ):
        assert part in text, part
    printed = shown.locator(".grid-print tr")
    assert printed.count() >= 2 * 41  # two tables of forty rows: as many columns side by side as fit
    assert "adamw" not in shown.inner_text(".grid-print") and "lion" in shown.inner_text(".grid-print")
    assert not shown.locator(".grid-box").is_visible()
    assert shown.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate(CONTRASTS) == []
    wide = """[...document.querySelectorAll('main *')]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.tagName)"""
    assert shown.evaluate(wide) == []
    paper = tmp_path / "page.pdf"
    shown.pdf(path=paper, format="A4")
    if reader := shutil.which("pdftotext"):
        text = subprocess.run([reader, str(paper), "-"], capture_output=True, text=True, check=True, timeout=60).stdout
        assert all(part in text for part in ("Promising, not proven", "1.84", "first 40 of", "It rises.", "folded away"))
    assert paper.read_bytes().startswith(b"%PDF")


def test_without_scripts_the_first_rows_are_there(opened, tmp_path):
    one = opened(java_script_enabled=False)
    file = tmp_path / "page.html"
    file.write_text(report(), encoding="utf-8")
    one.page.goto(file.as_uri())
    text = one.page.locator("main").inner_text()
    assert "All trials: first 40 of 400 rows" in text and "Deflated" in text and "lion" in text
