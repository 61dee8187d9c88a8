"""Measuring: few cells count exactly what was in the rounds, and runs and mass events are found."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from helpers.records import BEGIN, line
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline import measuring
from trio_model_runner.cli.timeline.measuring import ABSENT, CODES, FAILED, LATE, Measures
from trio_model_runner.cli.timeline.record import Round

CODE = {"F": FAILED, "T": LATE, "K": LATE, "A": ABSENT}


def a_round(**told: object) -> Round:
    fields = json.loads(line(**told))
    return Round(**{name: fields.get(name) for name in Round.__annotations__})


def measured(*rounds: Round) -> Measures:
    measures = Measures("predict")
    for each in rounds:
        measures.add(each)
    measures.close()
    return measures


def totals(measures: Measures, index: int) -> list[int]:
    return [sum(cell.counts_of(index)[code] for cell in measures.cells) for code in range(CODES)]


@st.composite
def stories(draw: st.DrawFn) -> list[Round]:
    """Rounds of some of seven models each, in any order."""
    ids = [f"m{number}" for number in range(7)]
    rounds = []
    for number in range(draw(st.integers(1, 30))):
        there = draw(st.permutations(ids))[: draw(st.integers(0, 7))] if draw(st.booleans()) else ids
        statuses = "".join(draw(st.sampled_from("SSSSTFKA")) for _ in there)
        elapsed = [draw(st.integers(0, 25)) / 10 if status in "STF" else None for status in statuses]
        rounds.append(
            a_round(
                id=number, started=BEGIN + number, timeout=draw(st.sampled_from([2.0, 1.0, None])),
                model_ids=there, statuses=statuses, elapsed=elapsed,
                deployment_ids=[draw(st.sampled_from(["1", "1", "2", None])) for _ in there],
            )
        )  # fmt: skip
    return rounds


@given(stories(), st.sampled_from([2, 4, 240]), st.sampled_from([1, 3, 64]))
def test_cells_have_what_was_in_the_rounds(rounds: list[Round], cells: int, rows: int) -> None:
    """However they are merged, and however many rounds are counted at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "MOST_CELLS", cells)
        patch.setattr(measuring, "_MOST_ROWS", rows)
        measures = measured(*rounds)
    assert len(measures.cells) <= cells
    assert sum(cell.rounds for cell in measures.cells) == measures.rounds == len(rounds)
    assert all(cell.rounds == measures.per_cell for cell in measures.cells[:-1])
    for index, model in enumerate(measures.models):
        results = [
            (
                told,
                told.statuses[told.model_ids.index(model.id)],
                told.elapsed[told.model_ids.index(model.id)],
            )
            for told in rounds
            if model.id in told.model_ids
        ]
        counted = Counter(
            CODE[status] if status != "S" else quarter(told, took) for told, status, took in results
        )
        assert totals(measures, index) == [counted[code] for code in range(CODES)]
        took = sum(each or 0.0 for _, status, each in results if status == "S")
        assert sum(cell.seconds[index] for cell in measures.cells) == pytest.approx(took)
        missed = [(told.id, status) for told, status, _ in results]
        trailing = []
        while missed and missed[-1][1] != "S":
            trailing.append(missed.pop())
        if not trailing:
            assert model.run is None
        else:
            assert model.run is not None
            assert (model.run.round_id, model.run.missed) == (trailing[-1][0], len(trailing))
            assert model.run.failed == sum(status == "F" for _, status in trailing)
            assert model.run.never == (not missed)


def quarter(told: Round, took: float | None) -> int:
    assert took is not None
    return 0 if told.timeout is None else min(3, int(4 * took / told.timeout))


def test_a_long_record_has_few_cells() -> None:
    measures = measured(*(a_round(id=number, statuses="SS") for number in range(1000)))
    assert (len(measures.cells), measures.per_cell) == (125, 8)
    assert [cell.round_id for cell in measures.cells[:3]] == [0, 8, 16]
    assert totals(measures, 1) == [1000, 0, 0, 0, 0, 0, 0]


def test_the_median_and_the_95_percent_take_timeouts_for_as_long_as_they_could_be() -> None:
    took = [0.1 * number for number in range(1, 19)]
    cell = measured(a_round(statuses="S" * 18 + "TTFKA", elapsed=[*took, 2.0, 2.0, 1.0, None, None])).cells[0]
    assert (cell.median, cell.slow, cell.timed) == (pytest.approx(1.0), 2.0, 1)
    assert cell.missed == 5 / 23
    assert measured(a_round(statuses="KA")).cells[0].timed == 0


def test_the_worst_round_has_most_misses_and_is_the_first_of_several() -> None:
    few = a_round(id=1, statuses="T")
    many = [a_round(id=number, statuses="SSSSSTTT") for number in (2, 3)]
    worst = measured(few, *many).worst
    assert worst is not None
    assert (worst.round_id, worst.missed, worst.models) == (2, 3, 8)
    assert measured(a_round(statuses="SS")).worst is None


def test_a_deployment_that_is_known_to_be_another_is_marked() -> None:
    seen = [None, "1", "1", None, "2", "2"]
    measures = measured(*(a_round(statuses="SS", deployment_ids=["0", each]) for each in seen))
    assert [cell.redeployed for cell in measures.cells] == [set(), set(), set(), set(), {1}, set()]


@pytest.mark.parametrize(
    ("models", "enough"), [(2, 2), (3, 2), (4, 3), (8, 5), (9, 5), (50, 5), (60, 6), (61, 7), (1000, 100)]
)
def test_a_mass_event_is_many_that_answered_the_last_time(models: int, enough: int) -> None:
    for missed, expected in ((enough - 1, None), (enough, enough)):
        first, second = "S" * models, "T" * missed + "S" * (models - missed)
        measures = measured(*(a_round(statuses=each) for each in (first, second, second)))
        events = [cell.event and cell.event.newly for cell in measures.cells]
        assert events == [None, expected, None]


def test_one_model_is_no_mass() -> None:
    measures = measured(*(a_round(statuses=each) for each in "SSTT"))
    assert not any(cell.event for cell in measures.cells)


def test_who_has_never_answered_makes_no_mass_event() -> None:
    measures = measured(*(a_round(statuses=each) for each in ("SAAAAAAAA", "STTTTTTTT")))
    assert not any(cell.event for cell in measures.cells)


def test_what_is_missed_in_a_mass_event_is_excused_until_the_next_answer() -> None:
    ways = ["SSSSSSSSSSTF", "TTTTTFKASSTS", "STTSSSSSSSTS", "STSTSSSSSSTS"]
    measures = measured(*(a_round(id=number, statuses=each) for number, each in enumerate(ways)))
    (event,) = (cell.event for cell in measures.cells if cell.event)
    assert (event.round_id, event.newly) == (1, 8)
    assert list(event.codes) == [LATE] * 5 + [FAILED, LATE, ABSENT, 0, 0, LATE, 0]
    excused = [model.excused[FAILED:] for model in measures.models]
    assert excused[:4] == [[0, 1, 0], [0, 3, 0], [0, 2, 0], [0, 1, 0]]  # m3 answered, then was late by itself
    assert excused[5:8] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert excused[10:] == [[0, 0, 0], [0, 0, 0]]  # it did not answer before, or failed before


def test_of_merged_cells_the_greatest_event_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_CELLS", 2)
    ways = ["S" * 9, "TTTTTSSSS", "S" * 9, "TTTTTTSSS", "S" * 9]
    measures = measured(*(a_round(id=number, statuses=each) for number, each in enumerate(ways)))
    assert [cell.event and cell.event.round_id for cell in measures.cells] == [3, None]


def test_merged_cells_have_all_that_each_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_CELLS", 2)
    measures = measured(
        a_round(id=1, statuses="SS", elapsed=[0.1, 0.3], deployment_ids=["1", "1"], timeout=1.0),
        a_round(id=2, statuses="ST", elapsed=[0.5, 2.0], deployment_ids=["1", "2"]),
        a_round(id=3, statuses="SSS", deployment_ids=["1", "2", "1"], timeout=None),
    )
    first, second = measures.cells
    assert (first.round_id, first.rounds, first.timed, first.missed, first.deadline) == (1, 2, 2, 0.5, 2.0)
    assert (first.median, first.slow, first.redeployed) == (pytest.approx(0.6), pytest.approx(2.3), {1})
    assert (second.round_id, second.rounds, second.deadline, second.redeployed) == (3, 1, None, set())


def test_absence_before_the_first_answer_is_joining() -> None:
    measures = measured(*(a_round(statuses=each) for each in "AATSA"))
    assert measures.models[0].excused[FAILED:] == [0, 0, 2]


def test_the_last_failure_s_words_are_kept() -> None:
    measures = measured(
        a_round(id=1, statuses="F", details={"m0": "first"}),
        a_round(id=2, statuses="F", details={"m0": "second"}),
        a_round(id=3, statuses="F", details={}),
        a_round(id=4, statuses="T", details={"m0": "late"}),
    )
    assert (measures.models[0].detail, measures.models[0].detail_round) == ("second", 2)
