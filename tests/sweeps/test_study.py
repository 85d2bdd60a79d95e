"""Study files: what is read, and what each mistake is told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from search_spaces import SpaceError
from sweeps.cli import app
from sweeps.runner import Search
from sweeps.study import LIBRARY, Study, StudyError, find
from trainables.contract import TrainableError

GOOD = """\
name: mine
trainable: selector
data:
  source: sample
  bars: 600
  seed: 7
settings:
  profile: realistic
fixed:
  lag: 1
space:
  intensity: [1.0, 1.2]
  min_edge: [0.0, 0.001]
search:
  sampler: grid
objective: sortino
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    return file


def complaint(tmp_path: Path, old: str, new: str, prepare: bool = False) -> str:
    """Returns what a study is told in which `old` was replaced by `new`."""
    assert old in GOOD
    file = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(StudyError) as error:
        study = Study.load(file)
        search = Search(study)
        with study.located():
            search.check()
            if prepare:
                search.prepare()
    return str(error.value).replace(str(file), "FILE")


def test_a_study_file_says_everything_about_a_study(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, GOOD))
    assert (study.name, study.objective, study.seed, study.search.sampler) == ("mine", "sortino", 0, "grid")
    assert study.space == {"intensity": [1.0, 1.2], "min_edge": [0.0, 0.001]}
    Search(study).check()


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.yaml")), ids=lambda p: p.stem)
def test_each_study_of_the_library_is_valid_and_found_by_its_name(path: Path) -> None:
    study = Study.load(path.stem)
    assert study.name == path.stem
    Search(study).check()


def test_where_a_study_comes_from_is_no_part_of_it_and_travels_with_it(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, GOOD))
    assert study == Study.parse(study.model_dump())
    again = pickle.loads(pickle.dumps(study.model_copy(update={"seed": 5})))
    with pytest.raises(StudyError, match=r"mine\.yaml, line 13: space\.min_edge: no"), again.located():
        raise SpaceError("space.min_edge: no")


def test_a_parameter_a_trainable_refuses_is_found_where_it_is_written_fixed_or_swept(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    for overrides, told in (
        ((), r"mine\.yaml, line 10: fixed\.lag: 1 is too much"),
        (("fixed.lag=3",), r"--set fixed\.lag=3: fixed\.lag: 1 is too much"),
        (("space.lag=[1, 2]",), r"--set space\.lag=\[1, 2\]: space\.lag: 1 is too much"),
    ):
        with pytest.raises(StudyError, match=f"{told}$"), Study.load(file, overrides).located():
            raise SpaceError("space.lag: 1 is too much")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("objective:", "objektive:", "FILE, line 16: objektive is not a key of a study; did you mean 'objective'? known: name,"),
        ("objective:", "zzz:", "FILE, line 16: zzz is not a key of a study; known: name, description, trainable, data, settings"),
        ("objective: sortino", "bars: 3", "FILE, line 16: bars is not a key of a study; did you mean 'data.bars'?"),
        ("objective: sortino", "sampler: grid", "FILE, line 16: sampler is not a key of a study; did you mean 'search.sampler'?"),
        (
            "  sampler: grid",
            "  samplr: grid",
            "FILE, line 15: search.samplr is not a key of a study; did you mean 'sampler'? known: sampler, trials",
        ),
        ("  sampler: grid", "  seed: 3", "FILE, line 15: search.seed is not a key of a study; did you mean 'seed' at the top level?"),
        (
            "sampler: grid",
            "sampler: gird",
            "FILE, line 15: search.sampler: 'gird' is unknown; use one of grid, random, qmc, auto, tpe, gp, cmaes,",
        ),
        ("sampler: grid", "trials: 0", "FILE, line 15: search.trials: give a whole number of at least 1 (it is 0)"),
        ("sampler: grid", "trials: many", "FILE, line 15: search.trials: give a whole number (it is 'many')"),
        ("sampler: grid", "trials: true", "FILE, line 15: search.trials: give a whole number (it is True)"),
        ("sampler: grid", "trials: 2.5", "FILE, line 15: search.trials: give a whole number (it is 2.5)"),
        ("sampler: grid", "sampler: qmc", "FILE, line 14: search.trials: qmc has no end, say how many"),
        (
            "search:\n  sampler: grid",
            "search: grid",
            "FILE, line 14: search: give a mapping of sampler, trials, batch, deterministic, startup, enqueue, warm_start, replicates",
        ),
        (
            "name: mine",
            "name: a/b",
            "FILE, line 1: name: use letters, digits, _ . - (at most 80), starting with a letter or digit (it is 'a/b')",
        ),
        ("name: mine", "name: a.walk", "FILE, line 1: name: a name does not end in .walk: folders of walk-forwards do (it is 'a.walk')"),
        ("name: mine", "name: 2024", "FILE, line 1: name: give text, in quotes: '2024' (it is 2024)"),
        ("trainable: selector\n", "", "FILE: trainable is missing; name what is swept, for example `trainable: selector`"),
        ("trainable: selector", "trainable: selectr", "FILE, line 2: trainable: 'selectr' is unknown; did you mean 'selector'?"),
        ("trainable: selector", "trainable: no_such.module:Thing", "FILE, line 2: trainable: cannot load 'no_such.module:Thing'"),
        ("space:\n", "spcae:\n", "FILE: space is missing; list the parameters to sweep"),
        ("space:\n", "spcae:\n", "FILE, line 11: spcae is not a key of a study; did you mean 'space'?"),
        ("sortino", "sortinoo", "FILE, line 16: objective: 'sortinoo' is not a metric of selector; it has total_return, sortino"),
        (
            "sortino",
            "trades",
            "FILE, line 16: objective: 'trades': more of it is neither better nor worse; metrics with a direction are total_return,",
        ),
        ("sortino", "[sortino, sortino]", "FILE, line 16: objective: give a metric's name, or a list of different ones (it is"),
        ("min_edge:", "min_egde:", "FILE, line 13: space.min_egde: selector has no such parameter; did you mean 'min_edge'?"),
        ("lag: 1", "lga: 1", "FILE, line 10: fixed.lga: selector has no such parameter; did you mean 'lag'?"),
        ("lag: 1", "max_positions: 99", "FILE, line 10: fixed.max_positions: 99 is not allowed; give a whole number from 1 to 16"),
        ("lag: 1", "max_positions: [1, 2]", "FILE, line 10: fixed.max_positions: [1, 2] is not allowed; give a whole number"),
        ("lag: 1", "min_edge: 0.1", "FILE, line 10: fixed.min_edge: given in both `fixed` and `space`; keep one"),
        ("[1.0, 1.2]", "[1.0, -1.2]", "FILE, line 12: space.intensity: -1.2 is not allowed; give a number from 0 to"),
        ("[1.0, 1.2]", "{unifrm: [1, 2]}", "FILE, line 12: space.intensity: unknown kind 'unifrm'; write a list"),
        ("[1.0, 1.2]", "{uniform: [1, 2]}", "FILE, line 15: search.sampler: grid cannot enumerate this space"),
        ("[1.0, 1.2]", "{grid: [1, 2], when: a >}", "FILE, line 12: space.intensity.when: 'a >' is malformed"),
        ("[1.0, 1.2]", "[]", "FILE, line 12: space.intensity: the list is empty; give at least one value"),
        ("[1.0, 1.2]", "[.inf]", "FILE, line 12: space.intensity[0]: inf is not finite"),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_what_is_right(tmp_path: Path, old: str, new: str, told: str) -> None:
    said = complaint(tmp_path, old, new)
    assert told in said.splitlines() or any(line.startswith(told) for line in said.splitlines()), said


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "profile: realistic",
            "profil: realistic",
            "FILE, line 8: settings.profil: the selector has no such setting; did you mean 'profile'?",
        ),
        ("bars: 600", "brs: 600", "FILE, line 5: data.brs: no such key for source 'sample'; did you mean 'bars'?"),
        ("source: sample\n  bars: 600\n  seed: 7", "source: smaple", "FILE, line 4: data.source: smaple does not exist"),
    ],
)
def test_mistakes_about_data_and_settings_are_told_as_well(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert complaint(tmp_path, old, new, prepare=True).startswith(told)


def test_a_source_that_is_beside_the_study_file_and_not_here_is_told_with_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "bars").mkdir(parents=True)
    file = tmp_path / "mine" / "mine.yaml"
    monkeypatch.chdir(tmp_path)
    for source in ("bars", "[mine/bars, bars]", "elsewhere"):
        file.write_text(GOOD.replace("source: sample\n  bars: 600\n  seed: 7", f"source: {source}"))
        with pytest.raises(StudyError) as error:
            study = Study.load(Path("mine/mine.yaml"))
            with study.located():
                Search(study).prepare()
        told = str(error.value)
        assert told.endswith(". It exists beside the study file: write mine/bars, or run from mine") == (source != "elsewhere"), told


def test_a_metric_that_is_better_when_small_can_be_the_objective(tmp_path: Path) -> None:
    Search(Study.load(written(tmp_path, GOOD.replace("sortino", "volatility")))).check()


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, "objective: sortino", "objective: 5\nseed: x\nfoo: 1")
    assert [line.split(":")[0] for line in said.splitlines()] == ["FILE, line 16", "FILE, line 17", "FILE, line 18"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a study file is a mapping of keys (name, trainable, space, …), this one has no keys"),
        ("# nothing yet\n", "this one has no keys"),
        ("- a\n", "this one is a list"),
        ("hello\n", "this one is a single value"),
        ("name: x\nspace: [\n", "line 3, column 1: not valid YAML: "),
        (
            "name: x\nspace:\n\tx: 1\n",
            "line 3, column 1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
        ),
        ("name: x\nseed: 1\nname: y\n", "line 3: 'name' is given twice (first on line 1); keep one"),
        ("name: x\nspace:\n  a: 1\n  b: 1\n  a: 2\n", "line 5: 'a' is given twice (first on line 3); keep one"),
        ("name: x\nspace:\n  on: [1]\n", "line 3: the key True is not text; put it in quotes"),
        ("? [a, b]\n: 1\n", "line 1: the key ['a', 'b'] is not text"),
        ("name: x\n---\nname: y\n", "line 2, column 1: not valid YAML: but found another document"),
        ("name: !!python/object:os.system x\n", "line 1, column 7: not valid YAML: could not determine a constructor"),
        ("name: &a [*a]\n", "not valid YAML: found unconstructable recursive node"),
        ("name: x\nseed: \x07\n", "line 2: not valid YAML: character U+0007 is not allowed"),
        ("space: " + "[" * 3000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_study_is_told_why(tmp_path: Path, text: str, told: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(StudyError) as error:
        Study.load(file)
    assert str(error.value).startswith(str(file))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_utf8_names_the_line_and_byte(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(GOOD.encode() + b"description: caf\xe9\n")
    with pytest.raises(StudyError, match=r"mine\.yaml, line 17: byte 0xe9 is not UTF-8; save the file as UTF-8 text"):
        Study.load(file)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert Study.load(file) == Study.load(written(tmp_path, GOOD))


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    with pytest.raises(StudyError, match=rf"no such file.*selector_grid.*Did you mean '{file}'\?"):
        find(tmp_path / "mien.yaml")
    with pytest.raises(StudyError, match=r"selector_gird: no such file, and no study of that name.* Did you mean 'selector_grid'\?"):
        find("selector_gird")


def test_a_name_is_sought_among_what_has_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source, told in (
        ("selector_mine", "'selector_mine' has run; name its study file to run it again."),
        ("selector_min", "'selector_mine' has run; name its study file to run it again."),
        ("selector_gird", "Did you mean 'selector_grid'?"),
    ):
        with pytest.raises(StudyError) as error:
            Study.load(source, ran=["selector_grid", "selector_mine"])
        assert str(error.value).endswith(told)
    Path("selector_mine.yaml").write_text(GOOD)
    with pytest.raises(StudyError, match=r"Did you mean 'selector_mine\.yaml'\?"):
        Study.load("selector_mine", ran=["selector_mine"])


def test_a_folder_in_place_of_a_file_names_the_files_in_it(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    with pytest.raises(StudyError, match=rf"a folder, not a study file; in it are {file}"):
        Study.load(tmp_path)


def test_a_folder_with_the_name_of_a_library_study_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "selector_grid").mkdir()
    assert find("selector_grid") == LIBRARY / "selector_grid.yaml"


def test_numbers_are_what_they_look_like(tmp_path: Path) -> None:
    values = "[1e-4, 1E+2, 5e3, .5, 1.5e-3, -2., 1_000, 0x1F, 0, -7]"
    study = Study.load(written(tmp_path, GOOD.replace("[1.0, 1.2]", values)))
    assert study.space["intensity"] == [1e-4, 100.0, 5000.0, 0.5, 0.0015, -2.0, 1000, 31, 0, -7]
    assert [type(v) for v in study.space["intensity"]] == [float] * 6 + [int] * 4


def test_times_dates_and_leading_zeros_stay_text(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, GOOD.replace("bars: 600", "bars: [12:30, 2024-02-01, 010, 1.2.3, 2024-02-01T10:00:00Z]")))
    assert study.data["bars"] == ["12:30", "2024-02-01", "010", "1.2.3", "2024-02-01T10:00:00Z"]


def test_an_empty_section_is_an_absent_one(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, "trainable: selector\ndata:\nsettings:\nfixed:\nsearch:\nseed:\nspace:\n  lag: [1, 2]\n"))
    assert (study.data, study.settings, study.fixed, study.seed, study.search.trials) == ({}, {}, {}, 0, None)


def test_a_study_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    assert Study.load(written(tmp_path, GOOD.replace("name: mine\n", ""))).name == "mine"
    odd = tmp_path / "my study.yaml"
    odd.write_text(GOOD.replace("name: mine\n", ""))
    with pytest.raises(StudyError, match=r"my study\.yaml gives no name, so its own is taken: name: use letters"):
        Study.load(odd)


def test_merged_keys_are_no_duplicates(tmp_path: Path) -> None:
    text = GOOD.replace("data:\n", "data: &market\n").replace("settings:\n  profile: realistic\n", "settings:\n  <<: *market\n  bars: 5\n")
    assert Study.load(written(tmp_path, text)).settings == {"source": "sample", "bars": 5, "seed": 7}


@pytest.mark.parametrize(
    ("item", "read"),
    [
        ("seed=4", lambda s: s.seed == 4),
        (" seed = 4", lambda s: s.seed == 4),
        ("data.bars=720", lambda s: s.data == {"source": "sample", "bars": 720, "seed": 7}),
        ("space.min_edge=[1e-4, 2e-4]", lambda s: s.space["min_edge"] == [1e-4, 2e-4]),
        ("space.offset={uniform: [0, 1], points: 3}", lambda s: s.space["offset"] == {"uniform": [0, 1], "points": 3}),
        ("search.trials=1e2", lambda s: s.search.trials == 100),
        ("data.assets.BTCUSD.maker_fee_bps=1", lambda s: s.data["assets"] == {"BTCUSD": {"maker_fee_bps": 1}}),
        ("objective=", lambda s: s.objective is None),
        ("data.source=bars/my=odd.csv", lambda s: s.data == {"source": "bars/my=odd.csv"}),
    ],
)
def test_set_overrides_one_key_with_yaml(tmp_path: Path, item: str, read: Callable[[Study], bool]) -> None:
    assert read(Study.load(written(tmp_path, GOOD), [item]))


@pytest.mark.parametrize(
    ("item", "read"),
    [
        ("bars=720", lambda s: s.data["bars"] == 720),
        (" profile = legacy", lambda s: s.settings == {"profile": "legacy"}),
        ("min_edge=[0.5]", lambda s: s.space["min_edge"] == [0.5]),
        ("source=bars", lambda s: s.data == {"source": "bars"}),
        ("name=seed", lambda s: s.name == "seed"),
    ],
)
def test_a_bare_key_that_stands_in_one_section_of_the_file_is_that_one(tmp_path: Path, item: str, read: Callable[[Study], bool]) -> None:
    assert read(Study.load(written(tmp_path, GOOD), [item]))


def test_a_bare_key_of_two_sections_is_told_with_both_and_one_of_a_study_is_never_taken_for_a_sections(tmp_path: Path) -> None:
    text = GOOD.replace("  lag: 1\n", "  lag: 1\n  bars: 3\n")
    with pytest.raises(StudyError, match=r"^--set 'bars=720': bars stands in data and in fixed; write data\.bars=… or fixed\.bars=…$"):
        Study.load(written(tmp_path, text), ["bars=720"])
    study = Study.load(written(tmp_path, GOOD), ["seed=4"])
    assert (study.seed, study.data["seed"]) == (4, 7)


def test_another_source_leaves_nothing_of_the_files_market_but_what_is_set_beside_it(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, GOOD), ["data.bars=50", "data.source=bars"])
    assert study.data == {"bars": 50, "source": "bars"}


def test_another_kind_of_scheduler_leaves_nothing_of_the_files_but_what_is_set_beside_it(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD + "scheduler: {kind: asha, grace: 20, factor: 2}\n")
    assert Study.load(file, ["scheduler.kind=none"]).scheduler == {"kind": "none"}
    assert Study.load(file, ["scheduler.grace=5", "scheduler.kind=median"]).scheduler == {"kind": "median", "grace": 5}
    assert Study.load(file, ["scheduler.grace=5"]).scheduler == {"kind": "asha", "grace": 5, "factor": 2}


def test_set_changes_one_section_and_not_another_that_shares_it(tmp_path: Path) -> None:
    text = GOOD.replace("data:\n", "data: &market\n").replace("settings:\n  profile: realistic\n", "settings: *market\n")
    study = Study.load(written(tmp_path, text), ["data.bars=5"])
    assert (study.data["bars"], study.settings["bars"]) == (5, 600)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("seed", "--set 'seed': write key=value, for example --set data.bars=720"),
        ("=3", "--set '=3': write key=value"),
        ("data..bars=3", "--set 'data..bars=3': write key=value"),
        ("seed.x=3", "--set 'seed.x=3': 'seed' is a value, not a section"),
        ("space.min_edge.0=3", "--set 'space.min_edge.0=3': 'min_edge' is a value, not a section"),
        ("space.x=[1,", "--set 'space.x=[1,': the value is not valid YAML: "),
        ("space.x={a: 1, a: 2}", "--set 'space.x={a: 1, a: 2}': 'a' is given twice"),
        ("seed=x", "--set seed=x: seed: give a whole number (it is 'x')"),
        ("trials=3", "--set trials=3: trials is not a key of a study; did you mean 'search.trials'?"),
        ("profil=legacy", "--set profil=legacy: profil is not a key of a study; known: "),
        ("serach.trials=3", "--set serach.trials=3: serach is not a key of a study; did you mean 'search'?"),
        ("data=sample", "--set data=sample: data: give a mapping of keys to values (it is 'sample')"),
        ("space.min_egde=[1]", "--set space.min_egde=[1]: space.min_egde: selector has no such parameter; did you mean 'min_edge'?"),
        ("search.sampler=gird", "--set search.sampler=gird: search.sampler: 'gird' is unknown"),
        ("space={min_egde: [1]}", "--set space={min_egde: [1]}: space.min_egde: selector has no such parameter"),
    ],
)
def test_a_bad_override_is_told_by_itself_and_not_by_a_line_of_the_file(tmp_path: Path, item: str, told: str) -> None:
    file = written(tmp_path, GOOD.replace("name: mine", "name: mine\nseed: 1").replace("fixed:\n  lag: 1\n", ""))
    with pytest.raises(StudyError) as error:
        study = Study.load(file, [item])
        with study.located():
            Search(study).check()
    assert str(error.value).startswith(told), str(error.value)


def test_only_messages_about_the_study_are_located(tmp_path: Path) -> None:
    study = Study.load(written(tmp_path, GOOD))
    with pytest.raises(ValueError, match=r"^space\.min_edge: not ours$"), study.located():
        raise ValueError("space.min_edge: not ours")
    with pytest.raises(StudyError, match=r"mine\.yaml: something else is wrong$"), study.located():
        raise TrainableError("something else is wrong")


def test_long_values_do_not_flood_a_message(tmp_path: Path) -> None:
    said = complaint(tmp_path, "objective: sortino", f"objective: [{', '.join('a' * 9 for _ in range(500))}]")
    assert len(said) < 150


def test_all_mistakes_of_a_study_that_do_not_follow_from_another_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("min_edge:", "min_egde:").replace("lag: 1", "lga: 1").replace("sortino", "sortinoo")
    text = text.replace("bars: 600", "brs: 600") + "stop: {hourz: 3}\nconstraints: ['tradez > 3']\nprotocol: {folds: 0}\n"
    file = written(tmp_path, text)
    told = CliRunner().invoke(app, ["validate", str(file), "--dir", str(tmp_path)]).exception
    lines = str(told).replace(str(file), "FILE").splitlines()
    assert isinstance(told, StudyError) and [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        *("fixed.lga", "space.min_egde", "protocol.folds", "objective", "stop.hourz", "constraints", "data.brs")
    ]
    assert lines[0].startswith("FILE, line 10: fixed.lga: selector has no such parameter") and lines[-1].startswith("FILE, line 5: ")
    with pytest.raises(StudyError, match="sortinoo"):
        study = Study.load(file)
        with study.located():
            Search(study).check()


def test_what_follows_from_one_mistake_is_not_told_as_another(tmp_path: Path) -> None:
    for old, new in (("[1.0, 1.2]", "[]"), ("sampler: grid", "sampler: gird"), ("trainable: selector", "trainable: selectr")):
        assert len(Search(Study.load(written(tmp_path, GOOD.replace(old, new, 1)))).faults()) == 1


def test_trackers_are_looked_at_too_where_a_key_is_wrong(tmp_path: Path) -> None:
    said = complaint(tmp_path, "objective: sortino", "objektive: sortino\ntracking: {wnadb: {}, jsonl: {colour: red}}")
    assert "objektive is not a key" in said and "Did you mean 'wandb'?" in said and "tracking.jsonl.colour: not an option" in said
