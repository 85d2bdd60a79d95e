"""Host files: what they say, what they may not say, and how studies are dealt to lanes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cluster.lanes import Lane, ranges, visible_cores
from sweeps.cli import app
from sweeps.commands.lanes import lanes_of
from sweeps.lanes.host import Host, deal, load
from sweeps.study import Study
from sweeps.study_yaml import StudyError

FIRST = visible_cores()[0]


def host(tmp_path: Path, text: str) -> Host:
    path = tmp_path / "host.yaml"
    path.write_text(text)
    return load(path)


def test_a_host_file_names_lanes_and_the_studies_in_them(tmp_path: Path) -> None:
    made = host(tmp_path, f"logical_cards: 2\nlanes:\n  card1: {{cards: 1, share: 0.5, cores: {FIRST}}}\nstudies: {{lora_ranks: card1}}\n")
    assert made.lanes == {"card1": Lane("card1", (FIRST,), (1,), 0.5)}
    assert made.studies == {"lora_ranks": "card1"}
    assert made.lane("card1").words() == f"core {FIRST}, card 1, 50% of its memory"
    with pytest.raises(StudyError, match=r"lane card7: .*host\.yaml has card1"):
        made.lane("card7")


def test_without_a_host_file_there_are_no_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None) == Host()
    with pytest.raises(StudyError, match=r"lane grid: there is no host\.yaml that names lanes"):
        load(None).lane("grid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lane: {}", "line 1: lane is not a key here; known: lanes, studies"),
        ("lanes: 3", "line 1: lanes: give a mapping"),
        ("lanes:\n  a: {}", "line 2: lanes.a: give its cores, such as cores: 0-3"),
        ("lanes:\n  a: {cores: x}", "line 2: lanes.a.cores: give numbers such as 0-3"),
        ("lanes:\n  a: {cores: 0-999999999}", "0-999999999 is no range of numbers"),
        (f"lanes:\n  a: {{cores: {FIRST}, share: 0.5}}", "a share of no card"),
        (f"logical_cards: 1\nlanes:\n  a: {{cores: {FIRST}, cards: 0, share: 1.5}}", "give a part of a card, above 0 and at most 1"),
        (f"lanes:\n  a: {{cores: {FIRST}}}\n  b: {{cores: {FIRST}}}", f"line 3: core {FIRST} is in lane a and in lane b"),
        (f"lanes:\n  a: {{cores: {FIRST}}}\nstudies: {{s: b}}", "line 3: 'b' is no lane; there are a"),
        (f"lanes:\n  a: {{cores: {FIRST}}}\nstudies: {{s: [a]}}", "line 3: .* is no lane; there are a"),
        ("lanes:\n  a b: {cores: 0}", "a lane is called by letters, digits"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(StudyError, match=message):
        host(tmp_path, text)


@pytest.mark.parametrize(
    ("lane", "message"),
    [
        ("{cores: 90000}", "line 2: lanes.far: this process may use cores? .*, not 90000"),
        (f"{{cores: {FIRST}, cards: 0}}", "there is no card 0; the machine has none; logical_cards: 2"),
    ],
)
def test_a_lane_that_is_not_there_stops_who_would_run_in_it_and_nobody_else(
    lane: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("ALPHASWEEP_LANE", raising=False)
    monkeypatch.chdir(tmp_path)
    made = host(tmp_path, f"lanes:\n  far: {lane}\nstudies: {{selector_wide: far}}\n")
    alone, wide = Study.load("selector_grid"), Study.load("selector_wide")
    assert lanes_of(["selector_grid"], [alone], None) == [None]
    for asked, studies in (
        (["selector_grid@far"], [alone]),
        (["selector_wide"], [wide]),
        (["selector_grid", "selector_wide"], [alone, wide]),
    ):
        with pytest.raises(StudyError, match=message):
            lanes_of(asked, studies, None)
    two = [alone, alone.model_copy(update={"name": "second"})]
    assert all(dealt.cores for dealt in deal([(study.name, False) for study in two], made)), "others share what is there"
    shown = CliRunner().invoke(app, ["cluster", "lanes"])
    assert shown.exit_code == 0 and re.search(message, shown.output) and "far" in shown.output
    found = {each["what"]: each for each in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)}
    assert found["lanes"]["state"] == "warning" and re.search(message, found["lanes"]["found"])


def test_shares_of_a_card_may_not_add_up_to_more_than_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    lanes = "lanes:\n  a: {cores: 0, cards: 0, share: 0.3}\n  b: {cores: 1, cards: 0, share: 0.7}\n"
    assert len(host(tmp_path, lanes).lanes) == 2  # 0.3 + 0.7 is 1, whatever floats say
    with pytest.raises(StudyError, match="card 0 is given out 110%"):
        host(tmp_path, f"{lanes}  c: {{cores: 2, cards: 0, share: 0.1}}\n")


def test_cores_and_cards_nobody_has_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,3")
    named = Host({"mine": Lane("mine", (0, 1), (0,))}, {"first": "mine"})
    made = deal([("first", True), ("tune", True), ("grid", False), ("other", True)], named)
    assert made == [
        Lane("mine", (0, 1), (0,)),
        Lane("tune", (2, 3), (1,)),
        Lane("grid", (4, 5), ()),
        Lane("other", (6, 7), (3,)),
    ]


@given(st.integers(1, 12), st.integers(1, 12))
def test_every_study_gets_a_core_and_no_core_is_left_over(studies: int, cores: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        made = deal([(f"s{i}", False) for i in range(studies)], Host())
    assert {core for lane in made for core in lane.cores} <= set(range(cores))
    if studies <= cores:
        assert sorted(core for lane in made for core in lane.cores) == list(range(cores))
        assert len({lane.name for lane in made}) == studies
    else:  # they take turns: a lane is for one at a time
        assert all(len(lane.cores) == 1 and lane.name == f"core{lane.cores[0]}" for lane in made)
        assert {lane.name for lane in made} == {f"core{core}" for core in range(cores)}


def test_ranges_are_written_as_the_kernel_does() -> None:
    assert ranges([8, 0, 1, 3, 2, 10]) == "0-3,8,10"
