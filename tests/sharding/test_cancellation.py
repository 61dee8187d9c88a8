"""Cancelling a cluster over shards anywhere in its life leaves nothing; cancelling a call leaves it usable.

The scenes are those of `tests/cluster`, over shards in this process: the steps of shards count, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from helpers.checkpoints import cancel_everywhere
from helpers.cluster_scenarios import (
    abandon,
    call,
    call_one,
    call_slow,
    call_twice,
    infer,
    iterate,
    life_with_joins,
    no_cluster,
    nothing_is_left,
    running_cluster,
    still_usable,
    whole_life,
)
from helpers.over_shards import over_shards
from trio.testing import MockClock

Scenario = Callable[[Any], Awaitable[None]]


@pytest.fixture(autouse=True)
def _over_shards() -> Iterator[None]:
    with over_shards():
        yield


@pytest.mark.parametrize(
    ("life", "points"), [(whole_life, 20), (life_with_joins, 20)], ids=["calls", "joins"]
)
async def test_a_life_cancelled_anywhere_leaves_nothing(
    autojump_clock: MockClock, life: Scenario, points: int
) -> None:
    assert await cancel_everywhere(no_cluster, life, nothing_is_left, stride=23) >= points


@pytest.mark.parametrize("scenario", [call, infer, iterate, abandon, call_one, call_slow, call_twice])
async def test_what_is_cancelled_anywhere_leaves_the_cluster_usable(
    autojump_clock: MockClock, scenario: Scenario
) -> None:
    async with running_cluster() as scene:
        subject = partial(nullcontext, scene)
        assert await cancel_everywhere(subject, scenario, still_usable) >= 10
