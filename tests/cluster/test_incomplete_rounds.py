"""A round that lacks a result is a bug of ours, and raises: a coordinator must account for every model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from helpers.coordinating import Model, coordinating

from trio_model_runner import Cluster
from trio_model_runner.cluster import rounds
from trio_model_runner.model.call import Call

MODELS = dict.fromkeys("abc", Model)


@pytest.fixture
def one_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round loses the result of its first call, which nothing that a node does could bring about."""
    fan_out = rounds._fan_out  # private: nothing else stands between a call's result and its round

    async def fan_out_and_lose(
        calls: Sequence[Call], cutoff: trio.CancelScope, cut_short: Callable[[], str]
    ) -> None:
        await fan_out(calls, cutoff, cut_short)
        calls[0].result = None

    monkeypatch.setattr(rounds, "_fan_out", fan_out_and_lose)


async def iterate(cluster: Cluster) -> None:
    async with cluster.as_completed("predict") as results:
        async for _ in results:
            pass


@pytest.mark.usefixtures("one_is_lost")
async def test_a_round_that_lacks_a_result_raises_and_is_no_last_round() -> None:
    async with coordinating(MODELS) as (_, cluster):
        with pytest.raises(RuntimeError, match="has 2 results of 3 members"):
            await cluster.call("predict")
        with pytest.raises(RuntimeError, match="has 2 results of 3 members"):
            await iterate(cluster)
        with pytest.raises(RuntimeError, match="has 0 results of 1 members"):
            await cluster.models["a"].call("predict")
        assert cluster.snapshot().last_round is None
