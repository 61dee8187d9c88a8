"""Ranking: the rules of the four categories, in the order that hides nobody who matters more."""

from __future__ import annotations

import json

import pytest
from helpers.records import TEMPERS, Crunch
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline.measuring import Measures, Run
from trio_model_runner.cli.timeline.ranking import Category, Facts, judge, others_in_order, rank
from trio_model_runner.cli.timeline.record import Round

STOPPED, LATE, SLOWER, FAILS = Category


def run(missed: int, *, failed: int = 0, never: bool = False, round_id: int | str = 1700) -> Run:
    return Run(round_id, 0.0, never, excused=False, missed=missed, failed=failed)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(1000, answers=1000), None),
        # what is missed up to the end
        (Facts(1000, answers=990, late=10, run=run(10)), (STOPPED, "since round 1,700")),
        (Facts(1000, answers=991, late=9, run=run(9)), None),
        (Facts(1000, late=1000, run=run(1000, never=True)), (STOPPED, "never answered")),
        (Facts(20, answers=15, late=5, run=run(5)), (STOPPED, "since round 1,700")),
        (Facts(21, answers=16, late=5, run=run(5)), (LATE, "24% late")),
        (Facts(8, answers=5, late=3, run=run(3, round_id="x<7>")), (STOPPED, "since round x<7>")),
        (Facts(5, answers=3, late=2, run=run(2)), (LATE, "2 of 5 late")),
        (Facts(1000, answers=900, run=run(100)), (STOPPED, "since round 1,700")),  # since a mass event
        # and mostly failed
        (Facts(1000, answers=980, failed=11, run=run(20, failed=11)), (FAILS, "fails since round 1,700")),
        (Facts(1000, answers=980, failed=10, run=run(20, failed=10)), (STOPPED, "since round 1,700")),
        (Facts(1000, failed=1000, run=run(1000, failed=1000, never=True)), (FAILS, "always failed")),
        # misses now and then
        (Facts(1000, answers=950, late=50), (LATE, "5% late")),
        (Facts(1000, answers=951, late=49), None),
        (Facts(1000, answers=950, late=20, absent=30), (LATE, "5% absent")),
        (Facts(1000, answers=950, late=25, absent=25), (LATE, "5% late")),
        (Facts(1000, answers=950, failed=50), (FAILS, "5% failed")),
        (Facts(1000, answers=900, failed=50, late=50), (LATE, "5% late")),
        (Facts(1000, answers=900, failed=51, late=50), (FAILS, "5% failed")),
        # few results say little
        (Facts(1000, answers=20, late=2), None),
        (Facts(1000, answers=20, late=3), (LATE, "13% late")),
        (Facts(19, answers=18, late=1), None),
        (Facts(19, answers=17, failed=2), (FAILS, "2 of 19 failed")),
        (Facts(9, answers=8, late=1), (LATE, "1 of 9 late")),
        (Facts(1, late=1), (LATE, "1 of 1 late")),
        # pace
        (Facts(1000, 1000, means=[0.2, 0.2, 9, 9, 0.31, 0.31], deadline=2.0), (SLOWER, "0.20 → 0.31 s")),
        (Facts(1000, 1000, means=[0.2, 0.2, 9, 9, 0.29, 0.29], deadline=2.0), None),
        (Facts(1000, 1000, means=[0.02, 0.02, 9, 9, 0.119, 0.119], deadline=2.0), None),
        (Facts(999, 999, means=[0.02, 0.02, 9, 9, 0.121, 0.121], deadline=2), (SLOWER, "0.020 → 0.12 s")),
        (Facts(1000, 1000, means=[0.02, 0.02, 9, 9, 0.121, 0.121]), (SLOWER, "0.020 → 0.12 s")),
        (Facts(1000, 1000, means=[0.02, 0.02, 9, 9, 0.119, 0.119]), None),
        (Facts(1000, 1000, means=[0.2, 0.2, 1.9, 1.9, 1.9], deadline=2.0), None),  # too few cells
        (Facts(1000, 1000, means=[1, 1, 1, 1, 9, 1, 1, 1, 9], deadline=2.0), None),
        (Facts(1000, 1000, means=[9, 9, 1, 1, 1, 1], deadline=2.0), None),
        # the first that fits
        (Facts(1000, 500, late=500, run=run(10), means=[0.1] * 4 + [9] * 4), (STOPPED, "since round 1,700")),
        (Facts(1000, answers=500, late=500, means=[0.1] * 4 + [1.9] * 4), (LATE, "50% late")),
    ],
)  # fmt: skip
def test_a_model_s_category_and_its_reason(facts: Facts, expected: tuple[Category, str] | None) -> None:
    finding = judge(facts)
    assert (finding and (finding.category, finding.reason)) == expected


counts = st.integers(0, 2000)


@given(st.integers(1, 5000), counts, st.lists(st.floats(0.1, 0.149), max_size=50))
def test_who_always_answers_at_one_pace_is_never_listed(
    rounds: int, answers: int, means: list[float]
) -> None:
    assert judge(Facts(rounds, answers, means=means, deadline=2.0)) is None


@given(st.integers(1, 5000), counts, counts, counts, counts, st.booleans())
def test_who_misses_a_tenth_is_always_listed(
    rounds: int, answers: int, failed: int, late: int, absent: int, at_the_end: bool
) -> None:
    missed = failed + late + absent
    trailing = run(missed, failed=failed) if at_the_end and missed else None
    finding = judge(Facts(rounds, answers, failed, late, absent, trailing))
    if missed >= max(3, 0.1 * (missed + answers)) and max(failed, late + absent) >= 3:
        assert finding is not None
    if finding is not None:
        assert missed > 0
        assert (finding.category is FAILS) <= (failed > 0)
        assert finding.weight >= 0


@given(st.integers(15, 5000), counts, counts, st.integers(1, 100))
def test_who_is_late_more_often_is_never_ranked_below(
    rounds: int, answers: int, late: int, more: int
) -> None:
    one, other = judge(Facts(rounds, answers, late=late)), judge(Facts(rounds, answers, late=late + more))
    if one is not None:
        assert other is not None
        assert other.weight >= one.weight


def measured(crunch: Crunch) -> Measures:
    measures = Measures(crunch.method)
    for each in crunch.lines():
        fields = json.loads(each)
        measures.add(Round(**{name: fields.get(name) for name in Round.__annotations__}))
    measures.close()
    return measures


@pytest.mark.parametrize(("rounds", "models"), [(400, 40), (100, 100)])
def test_models_of_every_temper_are_where_they_belong(rounds: int, models: int) -> None:
    crunch = Crunch(rounds, models)
    measures = measured(crunch)
    found = {
        measures.models[finding.index].id: finding.category
        for findings in rank(measures).values()
        for finding in findings
    }
    categories = {temper: set[Category | None]() for temper in TEMPERS}
    for name, temper in zip(crunch.ids(), crunch.tempers(), strict=True):
        categories[temper].add(found.get(name))
    flaps = categories.pop("flaps")  # it is absent at the end, perhaps long enough
    assert flaps <= {STOPPED, LATE}
    assert categories == {
        "stops": {STOPPED}, "never": {STOPPED}, "late": {LATE}, "slows": {SLOWER}, "fails": {FAILS},
        "breaks": {FAILS}, "joins": {None}, "redeployed": {None}, "well": {None},
    }  # fmt: skip


def test_the_worst_is_first_and_all_others_follow_by_their_times() -> None:
    crunch = Crunch(400, 40)
    measures = measured(crunch)
    ranked = rank(measures)
    reasons = [finding.reason for finding in ranked[STOPPED]]
    assert reasons[:2] == ["since round 561"] * 2
    assert reasons[-2:] == ["never answered"] * 2
    assert all(findings == sorted(findings, key=lambda each: -each.weight) for findings in ranked.values())
    others = others_in_order(measures, ranked)
    listed = [finding.index for findings in ranked.values() for finding in findings]
    assert sorted(others + listed) == list(range(40))
    means = []
    for index in others:
        answers = sum(sum(cell.counts_of(index)[:4]) for cell in measures.cells)
        means.append(sum(cell.seconds[index] for cell in measures.cells) / answers)
    assert means == sorted(means, reverse=True)
