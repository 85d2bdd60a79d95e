"""A page is one file that loads nothing, runs only its own scripts, and shows text as text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.pages.columns import Column
from results.pages.escaping import Html, PageError, escape, json_block, script_json, script_text
from results.pages.page import badge, command, details, figure, figures, join, key_values, notice, own_style, page, policy, section, table
from results.pages.sparkline import sparkline

NASTY = ["<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "a\"b'c&d", "<!--", "]]>", "&lt;", "\x00\ud800", "漢字 🙂"]


class Outline(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def shape(html):
    return [(tag, sorted(attrs)) for tag, attrs in Outline(html).tags]


def all_of(text):
    """Every building block, with one text wherever a text can be."""
    return join(
        [
            section("s", text, notice(text, "bad"), note=text),
            key_values([(text, text)]),
            figures([(text, text, text or "x")]),
            figure("f", Html("<svg></svg>"), "alt " + text, caption=text or "x"),
            badge(text),
            command(text or "x"),
            details(text, escape(text)),
            table([Column("c", text or "x", help=text or "x", unit=text or "x"), "d"], [(text, text)], caption=text or "x"),
            sparkline([1, 2], label=text or "x"),
            text,
        ]
    )


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.sampled_from(NASTY), st.text(alphabet=st.sampled_from("<>&\"'/=!-;`$x \n\x00\u2028\ud800"), max_size=12), st.text(max_size=8)
    )
)
def test_no_text_becomes_markup(text):
    plain = re.sub(r"\S", "x", text)  # spaces part the words of a command
    assert shape(all_of(text)) == shape(all_of(plain))
    whole = Outline(
        page(text, "", subtitle=text or "x", footer=text or "x", data={"d": json.dumps({"k": text.encode("utf-8", "replace").decode()})})
    )
    assert [tag for tag, _ in whole.tags] == [tag for tag, _ in Outline(page("x", "", subtitle="x", footer="x", data={"d": "{}"})).tags]
    page(text, all_of(text)).encode()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("<>&\"'/!-script\u2028"), max_size=20))
def test_data_comes_back_as_it_was_and_never_ends_its_tag(text):
    block = json_block("d", json.dumps({text: [text]}))
    assert block.count("<") == 2
    inside = block[block.index(">") + 1 : block.rindex("<")]
    assert json.loads(inside) == {text: [text]}
    assert json.loads(script_json(text)) == text


def test_data_that_is_no_json_is_refused():
    with pytest.raises(PageError, match="'d' is not JSON"):
        page("x", "", data={"d": "{"})
    with pytest.raises(PageError, match="JSON"):
        script_json(float("nan"))


def test_scripts_cannot_leave_their_tag_and_are_named_by_their_hash():
    source = "const a = '</script><!-- x';\r\nconst b = '</SCRIPT>';\r"
    text = script_text(source)
    assert "</script" not in text.lower() and "<!--" not in text and "\r" not in text
    html = page("x", "", scripts=[source])
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html
    assert f"<script>{text}</script>" in html


def test_the_policy_forbids_all_but_what_a_page_needs():
    said = policy()
    assert said.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "connect-src" not in said and "unsafe-eval" not in said and "script-src 'unsafe-inline'" not in said
    assert "connect-src 'self'" in policy(live=True)
    (tag,) = [attrs for tag, attrs in Outline(page("x", "", live=True)).tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert tag["content"] == policy(live=True)


def test_a_page_loads_nothing():
    html = page("x", all_of("x"), nav=[("s", "S")])
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    assert "@import" not in html and "url(" not in html


def test_a_page_has_landmarks_one_main_heading_a_language_and_a_way_past_the_navigation():
    tags = Outline(page("x", all_of("x"), nav=[("s", "S")], footer="f")).tags
    names = [tag for tag, _ in tags]
    assert [names.count(name) for name in ("header", "nav", "main", "footer", "h1", "title")] == [1] * 6
    assert ("html", {"lang": "en"}) in tags
    links = [attrs["href"] for tag, attrs in tags if tag == "a"]
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    assert links[0] == "#main" and {link[1:] for link in links} <= ids


def test_parts_that_cannot_be_are_refused_with_a_reason():
    with pytest.raises(PageError, match="text alternative"):
        figure("f", "<svg></svg>", "  ")
    with pytest.raises(PageError, match="id"):
        section('x"', "t", "")
    with pytest.raises(PageError, match="row 1 of a table has 1 values, its columns are 2"):
        table(["a", "b"], [(1, 2), (3,)])
    with pytest.raises(PageError, match="tone"):
        badge("x", "purple")
    with pytest.raises(PageError, match="occur twice on the page: s"):
        page("x", section("s", "a", "") + section("s", "b", ""))


def test_markup_in_tables_stays_and_numbers_stand_to_the_right():
    columns = [Column("a", kind="number", digits=1), Column("b", tones={"failed": "bad"})]
    html = table(columns, [(1.25, badge("ok")), (None, "failed")])
    assert '<td class="number">1.3</td>' in html and '<span class="badge info">ok</span>' in html
    assert '<td class="number">n/a</td>' in html and '<span class="badge bad">failed</span>' in html


def test_a_sparkline_has_gaps_keeps_spikes_and_says_what_it_shows():
    assert "no values" in sparkline([]) and "no values" in sparkline([float("nan")])
    line = sparkline([1, 2, float("nan"), 3, 4])
    assert line.count("M") == 2 and "least 1, greatest 4" in line
    long = sparkline([0.0] * 5000 + [9.0] + [0.0] * 5000)
    assert len(re.findall(r"[ML]\d", long)) <= 200 and "greatest 9" in long
    assert sparkline([1.0, 1.0], height=20).count("10.0") == 3  # two points and the dot in the middle


# --- contrast, from the colours the styles declare --------------------------------------------------------------------------------

PAIRS = [
    *((text, ground) for text in ("ink", "muted", "accent") for ground in ("paper", "surface", "hover")),
    *((tone, f"{tone}-soft") for tone in ("accent", "good", "warn", "bad", "quiet")),
    *(("ink", f"{tone}-soft") for tone in ("accent", "good", "warn", "bad", "quiet")),
    ("muted", "accent-soft"),
    ("surface", "accent"),
]


def colours(style, which):
    start = style.index(which)
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", style[start : style.index("}", style.index(":root", start))]))


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_all_colours_of_text_have_contrast_enough_on_their_grounds(scheme):
    style = own_style()
    set_ = colours(style, ":root")
    if scheme != "light":
        set_ |= colours(style, {"dark": "prefers-color-scheme: dark", "print": "@media print"}[scheme])
    weak = {pair: round(contrast(set_[pair[0]], set_[pair[1]]), 2) for pair in PAIRS if contrast(set_[pair[0]], set_[pair[1]]) < 4.5}
    assert weak == {}
