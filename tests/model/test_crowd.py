"""Rule d, for lost connections alone: with whom a model was lost, as times and nothing else."""

from __future__ import annotations

import pytest
from helpers.court import LETTERS, Court

from trio_model_runner.model.policy.crowd import Crowd


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
