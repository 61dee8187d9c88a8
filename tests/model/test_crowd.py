"""Rule d, for lost connections alone: with whom a model was lost, as times and nothing else."""

from __future__ import annotations

import pytest
from helpers.court import LETTERS, Court

from trio_model_runner.config import Health
from trio_model_runner.model.policy import Outcome
from trio_model_runner.model.policy.crowd import Crowd, Crowds


def shares_its_loss(
    lost: dict[str, float], back: dict[str, float], *, held_at: float | None = None, members: int = 20
) -> bool:
    """Whether "a" was lost with others, of which some are lost still and some are back."""
    court = Court(LETTERS[:members])
    for name, record in court.records.items():
        record.connected = name not in lost
        record.lost_at = {**lost, **back}.get(name, record.lost_at)
    if held_at is not None:
        court.records["a"].held_at = held_at
    crowd = Crowd(court.records.values(), members, court.judge._health, gateway=False)
    return crowd.lost_with_others(court.records["a"])


@pytest.mark.parametrize(
    ("lost", "back", "held_at", "shared"),
    [
        ({"a": 100}, {}, None, False),
        ({"a": 100, "b": 100}, {}, None, False),
        ({"a": 100, "b": 100, "c": 100}, {}, None, True),
        ({"a": 100, "b": 41, "c": 300}, {}, None, True),  # whoever is lost since, too
        ({"a": 100, "b": 39, "c": 300}, {}, None, False),
        ({"a": 100}, {"b": 100, "c": 100}, None, True),  # those that are back count as long as that is near
        ({"a": 100}, {"b": 41, "c": 159}, None, True),
        ({"a": 100}, {"b": 39, "c": 159}, None, False),
        ({"a": 100}, {"b": 41, "c": 161}, None, False),
        ({"a": 100, "b": 100}, {"c": 100}, None, True),
        ({"a": 100}, {"b": 100, "c": 100}, 500, False),  # and when it was held last, that was long ago
        ({"a": 100}, {"b": 450, "c": 550}, 500, True),
    ],
)
def test_who_was_lost_at_about_the_same_time(
    lost: dict[str, float], back: dict[str, float], held_at: float | None, shared: bool
) -> None:
    assert shares_its_loss(lost, back, held_at=held_at) is shared


# Where several processes have the models: a model must be alone among all, and in its own process.


def test_models_of_one_process_that_fail_together_share_their_trouble() -> None:
    """3 of 20 fail, which is no mass; but they are all that their process was asked for."""
    court = Court(LETTERS[:20], failures=1)
    for number, (name, record) in enumerate(court.records.items()):
        record.group = 0 if number < 3 else 1
        court.note(name, Outcome.MODEL_FAILED if number < 3 else Outcome.SUCCEEDED, 10.0)
    crowds = Crowds(court.records.values(), 20, Health())
    everybody, process = crowds.around(court.records["a"])
    assert not everybody.shares_trouble("predict", 10.0)
    assert process.shares_trouble("predict", 10.0)
    assert not any(crowd.shares_trouble("predict", 10.0) for crowd in crowds.around(court.records["t"]))


def test_two_models_of_a_small_process_are_no_mass() -> None:
    """Whatever a process is asked for, fewer than `mass_minimum` models are none, as in a large crunch."""
    court = Court(LETTERS[:20], failures=1)
    for number, (name, record) in enumerate(court.records.items()):
        record.group = number // 2
        court.note(name, Outcome.MODEL_FAILED if number < 2 else Outcome.SUCCEEDED, 10.0)
    crowds = Crowds(court.records.values(), 20, Health())
    assert not any(crowd.shares_trouble("predict", 10.0) for crowd in crowds.around(court.records["a"]))


def test_losses_of_one_process_are_looked_at_by_themselves() -> None:
    """4 of 200 are lost, each in a network of its own; in a process with 30 models, that is too many."""
    court = Court([f"m{number}" for number in range(200)])
    for number, record in enumerate(court.records.values()):
        record.group = 0 if number < 30 else 1
        record.connected = number >= 4
        record.lost_at = 100.0 if number < 4 else record.lost_at
    crowds = Crowds(court.records.values(), 200, Health())
    everybody, process = crowds.around(court.records["m0"])
    assert not everybody.lost_with_others(court.records["m0"])
    assert process.lost_with_others(court.records["m0"])


def test_all_models_of_one_process_are_one_crowd() -> None:
    court = Court("abc")
    crowds = Crowds(court.records.values(), 3, Health())
    assert crowds.around(court.records["a"]) == [crowds.all]


def test_a_report_is_held_if_its_process_shares_the_trouble() -> None:
    court = Court(LETTERS[:20])
    for number, (name, record) in enumerate(court.records.items()):
        record.group = 0 if number < 3 else 1
        court.note(name, Outcome.MODEL_FAILED if number < 3 else Outcome.SUCCEEDED, 10.0)
    decision = court.judge.reports.decide(10.0, 20)
    assert {report.record.model_id for report in decision.held} == set("abc")
