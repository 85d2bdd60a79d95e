"""`alphasweep serve` in a process of its own, asked over loopback: who may look, what it answers, and words where it cannot."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from results import Ledger
from results.pages.query import parse_query
from results.paging import grid_of
from sweeps.home import LEDGER
from tests.sweeps.live.ledgers import StepWriter, Writer, values_of
from tests.sweeps.live.serving import Server

COUNT = 180


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    made = Writer(folder, total=COUNT)
    for start in range(0, COUNT, 60):
        made.add(range(start, start + 60), failed={start + 3, start + 8}, stopped={start + 5})
    made.finish()
    steps = StepWriter(folder)
    for trial in (0, 1):
        attempt = steps.begin(trial)
        for step in (2, 4, 8):
            steps.report(attempt, trial, step, trial + step / 10.0, note="half a batch" if step == 8 else "")
        steps.end(attempt, trial, trial + 0.8)
    steps.report(steps.begin(2), 2, 2, 0.125)
    steps.end(steps.begin(3), 3, 0.0, "failed", "RuntimeError: <b>no card</b>")
    steps.ledger._session = None
    steps.ledger.close()
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server(folder) as running:
        yield running


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    with Ledger.open(folder / "made" / LEDGER, readonly=True) as ledger:
        made = ledger.frame().sort_values("trial").reset_index(drop=True)
    made["flag"] = made["flag"].map({True: "true", False: "false"})
    return made


# --- who may look ----------------------------------------------------------------------------------------------------------------------


def test_the_link_gives_a_cookie_that_scripts_and_other_sites_never_get(server):
    with server.bare() as client:
        answer = client.get(server.link)
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Path=/" in cookie and "domain" not in cookie.lower()
        token = server.link.partition("token=")[2]
        assert token not in cookie and token not in answer.text
        assert client.get("/").status_code == 200  # the client has kept it


def test_without_the_link_there_is_a_page_that_says_what_to_do(server):
    with server.bare() as client:
        for path in ("/", "/studies/made", "/studies/made/rows", "/parts", "/nowhere"):
            answer = client.get(path)
            assert answer.status_code == 403 and "Open the link that alphasweep serve printed" in answer.text and "made" not in answer.text


@pytest.mark.parametrize("token", ["", "x", "é", "%00", "a" * 5000])
def test_a_wrong_token_opens_nothing(server, token):
    with server.bare() as client:
        assert client.get("/", params={"token": token}).status_code == 403
    wrong = server.link[:-1] + ("A" if server.link[-1] != "A" else "B")
    with server.bare() as client:
        answer = client.get(wrong)
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
        assert client.get("/", headers={"Cookie": f"alphasweep_{server.port}=guess; x=y"}).status_code == 403
        assert client.get("/", headers={"Cookie": '"; \\ = ;;'}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", "0.0.0.0:{port}", ""]
)
def test_a_request_in_another_hosts_name_is_refused_also_with_the_cookie(server, host):
    answer = server.get("/", headers={"Host": host.format(port=server.port)})
    assert answer.status_code in (400, 421) and "made" not in answer.text


def test_localhost_is_this_host(server):
    cookie = "; ".join(f"{name}={value}" for name, value in server.http.cookies.items())
    assert server.get("/", headers={"Host": f"localhost:{server.port}", "Cookie": cookie}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "SHUT"])
def test_no_method_changes_anything(server, method):
    answer = server.http.request(method, "/studies/made")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD" and "only show" in answer.text
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_it_listens_on_this_computer_only(server):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = [row[1].split(":")[0] for row in listening if row[3] == "0A" and int(row[1].split(":")[1], 16) == server.port]
    assert addresses == ["0100007F"]


def test_every_answer_has_the_headers_that_keep_it_here(server):
    for path in ("/", "/studies/made", "/studies/made/parts", "/studies/made/rows", "/nowhere", "/studies/made/trials/1", "/studies/none"):
        answer = server.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY", path
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy
        assert "unsafe-eval" not in policy and "http" not in policy and not re.search(r"script-src[^;]*unsafe-inline", policy)
        assert not any(name.startswith("access-control") for name in answer.headers) and "server" not in answer.headers


def test_pages_load_nothing_from_elsewhere(server):
    for path in ("/", "/studies/made", "/studies/walks/trials/0"):
        html = server.get(path).text
        assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"'](?!data:)", html)


@pytest.mark.parametrize(
    "path",
    [
        "/studies/..",
        "/studies/../runs",
        "/studies/%2e%2e",
        "/studies/..%2f..%2fetc",
        "/studies/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/studies/made%2f..%2fmade",
        "/studies/made%00",
        "/studies/.aside",
        "/studies//etc",
        "/studies/" + "a" * 5000,
        "//etc/passwd",
        "/studies/made/../../etc",
        "/studies/made/nothing",
        "/static/x",
    ],
)
def test_nothing_but_the_name_of_a_study_leads_anywhere(server, path):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:  # as it is, without a client that tidies paths
        cookie = "; ".join(f"{name}={value}" for name, value in server.http.cookies.items())
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := plain.recv(65536):
            answer += part
    assert answer.split()[1] in (b"404", b"307"), answer[:300]
    assert b"root:" not in answer and b"Traceback" not in answer


# --- what it answers -------------------------------------------------------------------------------------------------------------------


def test_all_studies_are_on_the_first_page_with_their_state(server):
    html = server.get("/").text
    assert 'href="/studies/made"' in html and 'href="/studies/walks"' in html
    assert "180 of 180" in html and "interrupted" in html and "finished" in html and "6 failed" in html


def test_a_studys_page_has_verdict_curve_trials_failures_and_sessions(server):
    html = server.get("/studies/made").text
    best = np.nanmax([values_of(i)[0] for i in range(COUNT) if i % 60 not in (3, 5, 8)])
    assert f"{best:.3f}" in html and "<svg" in html and 'id="all-trials"' in html
    assert "ValueError: no prices for [red]0" in html and "180 of 180" in html
    for _ in range(100):
        verdict = server.parts("/studies/made")["verdict-part"]
        if "Working" not in verdict:
            break
        time.sleep(0.1)
    assert "no daily returns were kept" in verdict and "holdout" in verdict


FILTERS = {
    "sortino": ("> 0", "<= 0.5", "-1..1", "n/a"),
    "trades": ("= 3", "5..9", "n/a"),
    "edge": (">= 0.02", "< 0.01"),
    "mode": ("high", "= close", "!open"),
    "flag": ("true",),
    "status": ("failed", "!completed"),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sort=st.none() | st.sampled_from(["trial", "sortino", "loss", "trades", "edge", "mode", "net.depth", "status"]),
    descending=st.booleans(),
    start=st.integers(0, COUNT + 10),
    count=st.integers(1, 60),
    filters=st.dictionaries(st.sampled_from(sorted(FILTERS)), st.integers(0, 3), max_size=2),
)
def test_rows_are_those_pandas_gives(server, folder, frame, sort, descending, start, count, filters):
    texts = {name: FILTERS[name][which % len(FILTERS[name])] for name, which in filters.items()}
    asked = {"from": str(start), "n": str(count), "dir": "desc" if descending else "asc", "filter": json.dumps({"columns": texts})}
    asked |= {"sort": sort} if sort else {}
    answer = server.rows("made", **asked)
    with Ledger.open(folder / "made" / LEDGER, readonly=True) as ledger:
        columns = grid_of(ledger, ["edge", "mode", "n"]).columns
    query = parse_query(asked, columns)
    passing = frame[query.mask(frame, columns)]
    if sort:
        by, up = ([sort, "trial"], [not descending, True]) if sort != "trial" else (["trial"], [not descending])
        passing = passing.sort_values(by, ascending=up, na_position="last")
    expected = passing.iloc[start : start + count]
    assert answer["total"] == len(passing) and answer["of"] == COUNT
    assert [row[0] for row in answer["rows"]] == expected["trial"].tolist()
    names = [column.name for column in columns]
    got = pd.DataFrame(answer["rows"], columns=names)
    for name in ("sortino", "loss", "edge", "seconds"):
        np.testing.assert_array_equal(got[name].to_numpy(float), expected[name].to_numpy(float))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sort": "nothing"}, "no such column"),
        ({"dir": "sideways"}, "asc or desc"),
        ({"from": "-1"}, "whole number"),
        ({"n": "lots"}, "whole number"),
        ({"filter": "{"}, "must be JSON"),
        ({"filter": json.dumps({"columns": {"sortino": ">> 1"}})}, "no number"),
        ({"filter": json.dumps({"columns": {"mode); DROP TABLE trials": "x"}})}, "no such column"),
        ({"grid": "0000"}, "columns of this study have changed"),
    ],
)
def test_what_is_not_understood_is_answered_with_words(server, asked, words):
    answer = server.get("/studies/made/rows", params=asked)
    assert answer.status_code == 400 and words in answer.json()["error"]
    assert server.rows("made")["of"] == COUNT


def test_no_more_rows_than_a_grid_shows_come_at_once(server):
    assert len(server.rows("made", n="100000000")["rows"]) == COUNT


def test_a_trials_page_has_its_configuration_metrics_and_reports(server):
    html = unescape(server.get("/studies/walks/trials/1").text)
    assert "half a batch" in html and "<svg" in html and "goal" in html and "1.800" in html and "intact" in html
    for _ in range(100):
        ending = server.parts("/studies/walks/trials/1")["ending-part"]
        if "Working" not in ending:
            break
        time.sleep(0.1)
    assert "completed" in ending and "level" in ending and "Judged" in ending


def test_a_trial_without_a_result_says_how_far_it_is(server):
    assert "no result yet" in server.get("/studies/walks/trials/2").text
    for _ in range(100):
        ending = server.parts("/studies/walks/trials/2")["ending-part"]
        if "Working" not in ending:
            break
        time.sleep(0.1)
    assert "interrupted at step 2 of 12" in unescape(ending)
    assert server.get("/studies/walks/trials/5").status_code == 200  # asked for, not begun


def test_errors_of_trials_are_text_and_never_markup(server):
    for path in ("/studies/walks", "/studies/walks/trials/3"):
        html = server.get(path).text
        assert "&lt;b&gt;no card&lt;/b&gt;" in html and "<b>no card" not in html


def test_a_trial_is_found_by_the_first_digits_of_its_identity(server, folder):
    with Ledger.open(folder / "made" / LEDGER, readonly=True) as ledger:
        digits = ledger.trial(7)["config_id"][:12]
    assert digits in server.get(f"/studies/made/trials/{digits}").text


@pytest.mark.parametrize("which", ["100000", "zzz", "-1", "a" * 70, "9" * 30, "%20"])
def test_a_trial_there_is_not_is_a_page_with_words(server, which):
    answer = server.get(f"/studies/made/trials/{which}")
    assert answer.status_code == 404 and "no trial" in unescape(answer.text).lower() and "Traceback" not in answer.text
    assert server.get(f"/studies/made/trials/{which}/parts").status_code == 404


def test_many_tabs_at_once_are_answered_and_leave_no_ledger_open(server):
    paths = [
        "/",
        "/parts",
        "/studies/made",
        "/studies/made/parts",
        "/studies/made/rows?sort=loss",
        "/studies/walks/parts",
        "/studies/made/trials/3",
    ]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda i: server.get(paths[i % len(paths)]).status_code, range(140)))
    assert set(answers) == {200}
    for _ in range(50):
        if not server.open_ledgers():
            break
        time.sleep(0.1)
    assert server.open_ledgers() == []


# --- while studies come, go and break --------------------------------------------------------------------------------------------------


def test_a_study_is_followed_while_it_runs_and_when_it_is_set_aside(tmp_path):
    made = Writer(tmp_path, name="live one", total=60)
    made.add(range(20))
    with Server(tmp_path) as server:
        page = server.get("/studies/live%20one")
        assert page.status_code == 200 and "running" in page.text and "20 of 60" in page.text
        first = server.get("/studies/live%20one/parts").json()
        assert first["alive"] and server.rows("live one")["version"] == first["version"]
        made.add(range(20, 40))
        second = server.get("/studies/live%20one/parts").json()
        assert second["version"] != first["version"] and "40 of 60" in second["parts"]["overview"]
        assert server.rows("live one")["total"] == 40
        made.finish()
        assert "finished" in server.get("/studies/live%20one/parts").json()["parts"]["overview"]
        made.home.rename(tmp_path / ".aside")
        gone = server.get("/studies/live%20one/parts")
        assert gone.status_code == 404 and "set aside or deleted" in gone.json()["error"]
        assert "No such study" in server.get("/studies/live%20one").text
        assert "No studies yet" in server.get("/").text and server.get("/studies/.aside").status_code == 404
        code, out, err = server.stop()
    assert code == 0 and not err and server.link.partition("token=")[2] not in out + err


def test_a_damaged_ledger_is_said_in_words_and_does_not_hide_the_others(tmp_path):
    good, bad = Writer(tmp_path, name="good"), Writer(tmp_path, name="bad")
    for made in (good, bad):
        made.add(range(40))
        made.finish()
    with Server(tmp_path) as server:
        assert server.get("/studies/bad").status_code == 200
        place = bad.home / LEDGER
        whole = place.read_bytes()
        place.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
        for path in ("/studies/bad", "/studies/bad/parts", "/studies/bad/rows", "/studies/bad/trials/1"):
            answer = server.get(path)
            assert answer.status_code == 503 and "bad" in answer.text and "Traceback" not in answer.text, path
        place.write_bytes(b"")
        assert "is damaged: empty" in unescape(server.get("/studies/bad").text)
        listed = server.get("/").text
        assert "unreadable" in listed and "/studies/good" in listed and server.rows("good")["total"] == 40
        place.write_bytes(whole)
        assert server.get("/studies/bad").status_code == 200


def test_a_name_with_markup_in_it_is_text(tmp_path):
    name = 'a&b <i>"x" %2F?#'
    made = Writer(tmp_path, name=name)
    made.add(range(5))
    made.finish()
    with Server(tmp_path) as server:
        listed = server.get("/").text
        assert "<i>" not in listed and "&lt;i&gt;" in listed
        [path] = re.findall(r'href="(/studies/[^"]+)"', listed)
        page = server.get(path)
        assert page.status_code == 200 and "<i>" not in page.text.partition("<body>")[2]
        assert (
            server.get(f"{path}/parts").status_code
            == server.get(f"{path}/rows").status_code
            == server.get(f"{path}/trials/1").status_code
            == 200
        )


def test_a_study_can_be_shown_alone(tmp_path):
    for name in ("one", "two"):
        made = Writer(tmp_path, name=name)
        made.add(range(5))
        made.finish()
    with Server(tmp_path, "one") as server:
        assert server.link.startswith(f"{server.base}/studies/one?token=")
        listed = server.get("/").text
        assert "/studies/one" in listed and "/studies/two" not in listed and server.get("/studies/two").status_code == 404


def test_a_port_that_is_taken_and_a_folder_that_is_not_there_are_errors_in_words(tmp_path, command):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = command("serve", "--port", other.getsockname()[1], "--dir", tmp_path)
    assert taken.code == 2 and "leave --port out" in taken.err
    missing = command("serve", "--dir", tmp_path / "none")
    assert missing.code == 2 and "no such folder" in missing.err
    unknown = command("serve", "nothing", "--dir", tmp_path)
    assert unknown.code == 2 and "no study of that name" in unknown.err
