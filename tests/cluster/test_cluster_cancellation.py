"""Cancelling a cluster anywhere in its life leaves nothing; cancelling a call anywhere leaves it as it was.

The same goes for Ctrl-C, which comes out as itself, and in no group.
"""

from __future__ import annotations

import signal
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from helpers.checkpoints import cancel_everywhere, interrupt_every_line, interrupt_everywhere
from helpers.cluster_scenarios import (
    Scene,
    abandon,
    call,
    call_one,
    call_slow,
    call_twice,
    infer,
    iterate,
    life_with_joins,
    listen,
    no_cluster,
    nothing_is_left,
    running_cluster,
    still_usable,
    whole_life,
)
from helpers.coordinating import Model, coordinating
from trio.testing import MockClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scenario = Callable[[Any], Awaitable[None]]

PACKAGE = "trio_model_runner/"

LIVES = [pytest.param(whole_life, 60, id="calls"), pytest.param(life_with_joins, 120, id="joins")]

WITHIN = [
    pytest.param(call, 20, id="a round"),
    pytest.param(infer, 20, id="a prediction"),
    pytest.param(iterate, 20, id="results as completed"),
    pytest.param(abandon, 20, id="results left early"),
    pytest.param(call_one, 10, id="a call on one model"),
    pytest.param(call_slow, 20, id="a slow round"),
    pytest.param(call_twice, 40, id="two rounds"),
    pytest.param(listen, 3, id="changes"),
]


def by_itself(scenario: Scenario) -> Scenario:
    """The same scenario; what comes out of it must not be in a group."""

    async def play(scene: Scene) -> None:
        try:
            await scenario(scene)
        except BaseExceptionGroup as group:
            raise AssertionError("a cluster has wrapped what went through it") from group

    return play


@pytest.mark.parametrize(("life", "points"), LIVES)
async def test_a_life_cancelled_anywhere_leaves_nothing(
    autojump_clock: MockClock, life: Scenario, points: int
) -> None:
    assert await cancel_everywhere(no_cluster, life, nothing_is_left, stride=5) >= points


@pytest.mark.parametrize(("scenario", "points"), WITHIN)
async def test_what_is_cancelled_anywhere_leaves_the_cluster_usable(
    autojump_clock: MockClock, scenario: Scenario, points: int
) -> None:
    async with running_cluster() as scene:
        subject = partial(nullcontext, scene)
        assert await cancel_everywhere(subject, scenario, still_usable) >= points


def test_a_life_interrupted_anywhere_leaves_nothing() -> None:
    life = by_itself(whole_life)
    assert interrupt_everywhere(no_cluster, life, nothing_is_left, stride=7) >= 30


@pytest.mark.parametrize("scenario", [call, iterate, call_one])
def test_what_is_interrupted_anywhere_leaves_the_cluster_usable(scenario: Scenario) -> None:
    assert interrupt_everywhere(running_cluster, by_itself(scenario), still_usable, stride=2) >= 10


@pytest.mark.parametrize(("part", "points"), [("cluster", 10), ("model", 20)])
@pytest.mark.parametrize("scenario", [call, iterate])
def test_what_is_interrupted_before_any_line_leaves_the_cluster_usable(
    scenario: Scenario, part: str, points: int
) -> None:
    covered = interrupt_every_line(
        running_cluster, by_itself(scenario), still_usable, path=PACKAGE + part, stride=9
    )
    assert covered >= points


@pytest.mark.parametrize("name", ["arguments", "returns"])
def test_the_coordinator_s_own_functions_can_be_interrupted(name: str) -> None:
    reached: list[bool] = []

    def interrupt(_: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        reached.append(True)

    async def main() -> None:
        async with coordinating({"a": Model()}) as (_, cluster):
            await cluster.call("predict", **{name: interrupt})

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert not reached


@pytest.mark.parametrize(("part", "stride"), [("cluster", 31), ("model", 53), ("orchestrator", 13)])
def test_a_life_interrupted_before_any_line_leaves_nothing(part: str, stride: int) -> None:
    life, path = by_itself(whole_life), PACKAGE + part
    assert interrupt_every_line(no_cluster, life, nothing_is_left, path=path, stride=stride) >= 10
