"""What a round leaves behind: its results, and nothing that only the garbage collector would find."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.coordinating import Model, coordinating
from trio.testing import MockClock

from trio_model_runner import Arguments, Status


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def refuse(_: Any) -> Any:
    raise ValueError("too high")


@pytest.mark.parametrize(
    ("method", "arguments", "settings", "status"),
    [
        ("tick", Arguments(1), {}, Status.SUCCESS),
        ("tick", lambda _: Arguments(1), {}, Status.SUCCESS),
        ("predict", Arguments([1.5] * 5_000), {}, Status.SUCCESS),
        ("fail", Arguments(), {}, Status.FAILED),
        ("tick", Arguments(), {"returns": str}, Status.FAILED),
        ("tick", Arguments(), {"returns": refuse}, Status.FAILED),
        ("hang", Arguments(), {}, Status.TIMEOUT),
    ],
)
async def test_results_are_let_go_of_at_once(
    method: str,
    arguments: Any,
    settings: dict[str, Any],
    status: Status,
    no_collector: None,
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        results = await cluster.call(method, arguments, **settings)
        kept = [weakref.ref(result) for result in results.values()]
        assert [result.status for result in results.values()] == [status] * 2
        del results
        # Private: the cluster keeps its last round for `snapshot`, and lets go of it with the next one.
        cluster._caller.last_round = None
        assert [reference() for reference in kept] == [None, None]


async def test_a_kept_result_keeps_nothing_of_its_round(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        arguments = Arguments(1)
        reference = weakref.ref(arguments)
        crunch.node("a").faults.drop_after_request = True
        result = (await cluster.call("tick", arguments)).by_id["a"]
        assert (result.status, result.error is None) == (Status.FAILED, False)
        del arguments
        assert reference() is None
