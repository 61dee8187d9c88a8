"""Where models are: the same in each process, in nearly equal parts; only those of a lost shard move."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.sharding.placement import place

SHARDS = st.sets(st.integers(0, 200), min_size=1, max_size=12)


def test_it_is_the_same_in_each_process_and_release() -> None:
    assert [place(f"model-{number}", range(4)) for number in range(12)] == PLACES


PLACES = [0, 1, 1, 2, 0, 3, 0, 1, 1, 2, 3, 3]


@given(st.text(st.characters()), SHARDS)
def test_a_model_is_on_a_shard_that_there_is(model_id: str, shards: set[int]) -> None:
    assert place(model_id, shards) in shards


@given(st.text(), SHARDS, st.data())
def test_only_the_models_of_a_lost_shard_move(model_id: str, shards: set[int], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(sorted(shards)))
    home = place(model_id, shards)
    if home != lost:
        assert place(model_id, shards - {lost}) == home


def test_parts_are_nearly_equal_also_after_a_loss() -> None:
    ids = [f"model-{number}" for number in range(3000)]
    for shards in (range(3), [0, 2]):
        parts = Counter(place(model_id, shards) for model_id in ids)
        assert all(abs(part - 3000 / len(shards)) < 200 for part in parts.values()), parts


def test_without_shards_there_is_no_place() -> None:
    with pytest.raises(ValueError, match="empty"):
        place("robin", [])
