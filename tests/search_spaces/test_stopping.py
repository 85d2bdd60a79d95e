import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import SpaceError
from search_spaces.rehearsal import rehearse
from search_spaces.stopping import Asha, Median, Never, Rules, rungs


def test_rungs_are_powers_of_the_factor_below_the_last_step():
    assert rungs(1, 3, 81) == [1, 3, 9, 27]
    assert rungs(10, 4, 200) == [10, 40, 160]
    assert rungs(1, 1.5, 20) == [1, 2, 3, 5, 8, 11, 17]  # each step once, though 1.5 and 2.25 both round to 2
    assert rungs(5, 2, 5) == []  # a trial that is over needs no judge


def test_a_trial_at_its_last_step_is_compared_with_and_not_stopped():
    asha = Asha(total=10, grace=2, factor=2)
    assert not asha.report(0, 10, 2.0).stop
    behind = asha.report(1, 10, 1.0)  # passes 2, 4 and 8 with its last report
    assert (behind.stop, behind.rung, behind.rank, behind.of) == (True, 2, 2, 2)
    assert behind.ends(5, 10) and not behind.ends(10, 10) and not behind.ends(12, 10)
    assert asha.report(2, 2, 1.5).of == 3  # its value is there for others
    assert asha.report(3, 10, math.nan).ends(10, 10)
    assert not Asha(total=10, grace=2).report(0, 2, 1.0).ends(2, 10)


def test_a_rehearsal_stops_no_trial_at_its_last_step():
    found = rehearse(Asha(10, 2, 2.0), np.array([[3.0], [2.0], [1.0], [np.nan]]), [10])
    assert list(found.stops) == [3] and found.winner == 0 and (found.reached == 10).all()


def test_rules_say_from_which_steps_they_judge():
    def judged(**section):
        return Rules.parse(section, total=160, direction="max", seed=0).judged

    assert judged(kind="asha", grace=40, factor=2) == [40, 80]
    assert (judged(kind="median", grace=40), judged(kind="median", grace=160), judged(kind="none")) == ([40], [], [])


def test_a_trials_ladder_is_its_brackets_rungs_below_its_own_last_step():
    rules = Rules.parse({"kind": "asha", "grace": 2, "factor": 2}, total=20, direction="max", seed=0)
    assert rules.judged == [2, 4, 8, 16]
    assert (rules.ladder(0, 20), rules.ladder(0, 8), rules.ladder(0, 2)) == ([2, 4, 8, 16], [2, 4], [])
    two = Rules.parse({"kind": "asha", "grace": 2, "factor": 2, "brackets": 2}, total=20, direction="max", seed=0)
    asha = two.make()
    brackets = {asha.bracket(trial): two.ladder(trial, 20) for trial in range(50)}
    assert brackets == {0: [2, 4, 8, 16], 1: [4, 8, 16]}
    median = Rules.parse({"kind": "median", "grace": 5}, total=20, direction="max", seed=0)
    assert (median.ladder(0, 20), median.ladder(0, 5)) == ([5], [])
    assert Rules(kind="none", total=20).ladder(0, 20) == []


def test_the_median_rule_says_how_many_it_had_where_they_were_too_few_to_judge_by():
    median = Median(grace=2, least=2)
    assert median.report(0, 1, 1.0).of is None  # before grace
    found = median.report(0, 2, 1.0)
    assert (found.stop, found.rule, found.rung, found.of) == (False, "", None, 1)
    assert median.report(1, 2, 1.0).of == 2 and median.report(2, 2, 1.0).rung == 2


def test_changed_rules_are_told_by_the_options_both_kinds_have():
    def parsed(total=50, **section):
        return Rules.parse(section, total=total, direction="max", seed=0)

    median = parsed(kind="median", grace=5)
    assert median.changes(median) == []
    assert median.changes(parsed(kind="none")) == ["kind median, now none"]
    assert median.changes(parsed(kind="asha", factor=3, grace=2)) == ["kind median, now asha", "grace 5, now 2"]
    assert median.changes(parsed(kind="median", grace=5, total=80)) == []
    longer = parsed(grace=5, total=80)
    assert parsed(grace=5, brackets=2).changes(longer) == ["brackets 2, now 1", "last step 50, now 80"]


def test_the_best_quarter_of_those_that_reached_a_rung_goes_on():
    asha = Asha(total=100, grace=10, factor=4)
    stopped = [asha.report(trial, 10, value).stop for trial, value in enumerate([5, 4, 3, 2, 4.5, 6])]
    # 1 place among the first four; the fifth of five is second and there are two places; the sixth leads.
    assert stopped == [False, True, True, True, False, False]


def test_a_decision_says_why():
    asha = Asha(total=100, grace=10, factor=4)
    asha.report(7, 10, 0.5)
    asha.report(3, 10, 0.9)
    decision = asha.report(4, 10, 0.4)
    assert (decision.stop, decision.rule, decision.rung, decision.value) == (True, "asha", 10, 0.4)
    assert (decision.cutoff, decision.rank, decision.of, decision.ahead) == (0.9, 3, 3, (3, 7))


def test_less_is_better_where_the_direction_says_so():
    asha = Asha(total=100, grace=10, factor=4, direction="min")
    assert not asha.report(0, 10, 1.0).stop
    worse = asha.report(1, 10, 2.0)
    assert worse.stop and worse.cutoff == 1.0
    assert not asha.report(2, 10, 0.5).stop


def test_a_coarse_report_is_judged_at_every_rung_it_passes():
    asha = Asha(total=100, grace=1, factor=3)
    asha.report(0, 1, 1.0), asha.report(0, 3, 1.0), asha.report(0, 9, 5.0)
    late = asha.report(1, 10, 2.0)  # passes 1, 3 and 9 at once; it leads at 1 and 3 and is behind at 9
    assert late.stop and late.rung == 9 and late.of == 2
    assert asha.report(2, 1, 1.5).of == 3  # trial 1 counts at the first rung too


def test_a_value_that_is_no_number_ends_the_trial_and_counts_as_worst():
    asha = Asha(total=100, grace=10, factor=4)
    for trial, value in enumerate([math.nan, math.inf, -math.inf]):
        found = asha.report(trial, 3, value)  # before the first rung
        assert found.stop and found.rule == "diverged" and found.rung == 3
    poor = asha.report(3, 10, -100.0)
    assert not poor.stop and (poor.rank, poor.of) == (1, 4)


def test_equal_values_are_ordered_by_the_seed_and_not_by_arrival():
    def kept(seed, order):
        asha = Asha(total=100, grace=10, factor=4, seed=seed)
        for trial in order:
            asha.report(trial, 10, 1.0)
        return asha.report(99, 10, 1.0).rank

    assert len({kept(seed, range(20)) for seed in range(10)}) > 3
    assert all(kept(seed, range(20)) == kept(seed, reversed(range(20))) for seed in range(5))


def test_brackets_start_later_and_are_drawn_from_the_trial_and_the_seed():
    asha = Asha(total=81, grace=1, factor=3, brackets=3, seed=5)
    drawn = np.bincount([asha.bracket(trial) for trial in range(3000)], minlength=3) / 3000
    expected = np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum()
    assert np.allclose(drawn, expected, atol=0.03)
    late = next(t for t in range(100) if asha.bracket(t) == 2)
    assert asha.report(late, 3, -1.0).rung is None  # its first rung is 9
    assert asha.report(late, 9, -1.0).rung == 9
    assert [Asha(81, brackets=3, seed=5).bracket(t) for t in range(20)] == [asha.bracket(t) for t in range(20)]


def test_the_median_rule_compares_the_best_so_far_with_the_others_means():
    rule = Median(grace=2, least=3)
    for trial, values in enumerate([(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]):
        assert not any(rule.report(trial, step, v).stop for step, v in enumerate(values, 1))
    assert not rule.report(3, 1, 0.1).stop  # before the grace
    behind = rule.report(3, 2, 2.4)
    assert behind.stop and behind.cutoff == 2.5 and behind.ahead == (2, 1)  # means 1.5, 2.5, 3.5
    rule.report(4, 1, 2.6)
    assert not rule.report(4, 2, 0.0).stop  # its best is ahead


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 5, 9, 27]), st.floats(allow_nan=True)), max_size=120),
    st.integers(0, 120),
    st.sampled_from(["asha", "median"]),
)
def test_the_same_reports_again_give_the_same_decisions(reports, killed_at, kind):
    seen: dict[int, int] = {}
    ascending = []
    for trial, step, value in reports:
        if step > seen.get(trial, 0):
            seen[trial] = step
            ascending.append((trial, step, value))

    def make():
        return Rules.parse({"kind": kind, "grace": 2}, total=81, direction="max", seed=3).make()

    whole = make()
    decisions = [whole.report(*report) for report in ascending]
    again = make()
    for report in ascending[:killed_at]:  # what a new process reads
        again.report(*report)
    rest = [again.report(*report) for report in ascending[killed_at:]]
    assert repr(rest) == repr(decisions[killed_at:])  # repr: NaN equals itself


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kind": "ashaa"}, "'ashaa' is unknown.*asha, median.*Did you mean 'asha'"),
        ({"kind": "asha", "grce": 3}, "scheduler.grce.*Did you mean 'grace'"),
        ({"factor": 1}, "scheduler.factor: 1 is not allowed"),
        ({"factor": True}, "scheduler.factor"),
        ({"grace": 0}, "scheduler.grace: 0 is not allowed; give a whole number from 1 to 50"),
        ({"kind": "median", "factor": 3}, "median has no such option"),
    ],
)
def test_a_scheduler_section_that_is_wrong_says_where(section, words):
    with pytest.raises(SpaceError, match=words):
        Rules.parse(section, total=50, direction="max", seed=0)


def test_the_default_first_rung_is_a_tenth_of_the_steps():
    made = Rules.parse({}, total=200, direction="min", seed=4).make()
    assert isinstance(made, Asha) and (made.grace, made.factor, made.direction, made.seed) == (20, 4.0, "min", 4)
    assert isinstance(Rules.parse({"kind": "none"}, total=1, direction="max", seed=0).make(), Never)


def curves(seed, n=60, steps=40):
    rng = np.random.default_rng(seed)
    t = np.arange(1, steps + 1) / steps
    return (rng.normal(size=(n, 1)) + 3) * (1 - np.exp(-t / 0.1)) + 0.02 * rng.normal(size=(n, steps))


def test_a_rehearsal_spends_less_and_misses_little():
    spent, regret = [], []
    for seed in range(20):
        made = curves(seed)
        found = rehearse(Asha(40, 4, 4.0, seed=seed), made, range(1, 41))
        spent.append(found.spent / found.full)
        regret.append(found.regret / (made[:, -1].max() - np.median(made[:, -1])))
        assert all(found.reached[t] == 40 for t in range(60) if t not in found.stops)
        assert found.spent == found.reached.sum() and found.reached[found.winner] == 40
    assert np.mean(spent) < 0.35 and np.mean(regret) < 0.05


def test_a_rehearsal_without_stopping_trains_everything_and_finds_the_best():
    made = curves(1)
    found = rehearse(Never(), made, range(1, 41))
    assert found.spent == found.full and found.regret == 0.0 and found.winner == made[:, -1].argmax() and not found.stops


def test_a_rehearsal_in_which_every_trial_diverges_has_no_winner():
    found = rehearse(Asha(10), np.full((3, 10), np.nan), range(1, 11))
    assert found.winner == -1 and math.isnan(found.regret) and len(found.stops) == 3


def test_a_diverged_trial_is_never_the_winner():
    made = curves(2)
    best = int(made[:, -1].argmax())
    made[best, 30:] = np.nan
    found = rehearse(Never(), made, range(1, 41))
    assert found.winner == int(np.nanargmax(made[:, -1])) != best
