"""What this library is for, at the size it is for: a few hung models cost the other ones nothing.

Each test runs on loopback, where the clock is real and a busy machine is allowed for, and in memory on a
clock that jumps, where times are exact.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_model_runner import Cluster, DynamicSubclassService, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

SERVICE = DynamicSubclassService("birdgame.trackers.TrackerBase")
SLACK = 8.0
"""Seconds that a busy machine may add to what the clock says."""

TIMEOUT = 3.0
"""Seconds of a round on loopback: a machine that stands still meanwhile does not keep answers from it."""


class Steady:
    def predict(self) -> float:
        return 1.5


class Hung:
    async def predict(self) -> None:
        await trio.sleep_forever()


class Place:
    """Where a crunch runs, and how much longer than said things may take there."""

    def __init__(self, network: MemoryNetwork | None) -> None:
        self.network = network
        self.slack = SLACK if network is None else 0.02
        self.timeout = TIMEOUT if network is None else 1.0

    def run(self, function: Any) -> None:
        clock = None if self.network is None else MockClock(autojump_threshold=0.0)
        trio.run(function, clock=clock)


@pytest.fixture(params=["loopback", "memory"])
def place(request: pytest.FixtureRequest) -> Place:
    return Place(MemoryNetwork() if request.param == "memory" else None)


def test_a_model_that_hangs_in_setup_keeps_none_of_20_waiting(place: Place) -> None:
    async def main() -> None:
        models = {f"model-{number}": Steady() for number in range(20)}
        async with LocalCrunch(models, network=place.network) as crunch:
            crunch.node("model-7").faults.hang_setup = True
            began = trio.current_time()
            config = crunch.config(startup_timeout=0.5, timeout=10.0)
            async with Cluster(config, SERVICE) as cluster:
                assert trio.current_time() - began < 0.5 + place.slack
                await cluster.wait_for_models(19)  # a busy machine may take longer than that for the others
                assert len(cluster.models) == 19
                results = await cluster.predict()
                assert trio.current_time() - began < 1.0 + place.slack
                assert len(results) == 20
                assert len(results.succeeded) == 19
                assert results.by_id["model-7"].status is Status.ABSENT
                left = trio.current_time()
            assert trio.current_time() - left < config.shutdown_grace + place.slack

    place.run(main)


@pytest.mark.parametrize("kind", ["in a method", "as a process"])
def test_5_of_50_models_that_hang_cost_no_round_more_than_its_timeout(place: Place, kind: str) -> None:
    hung = {f"model-{number}" for number in range(0, 50, 10)}
    rounds = 3 if place.network is None else 20

    async def main() -> None:
        names = [f"model-{number}" for number in range(50)]
        models = {name: Hung() if name in hung and kind == "in a method" else Steady() for name in names}
        async with (
            LocalCrunch(models, network=place.network) as crunch,
            Cluster(crunch.config(timeout=place.timeout), SERVICE) as cluster,
        ):
            assert len(cluster.models) == 50
            if kind == "as a process":
                for name in hung:
                    crunch.node(name).pause()
            for _ in range(rounds):
                began = trio.current_time()
                results = await cluster.predict()
                assert trio.current_time() - began < place.timeout + place.slack
                assert len(results) == 50
                assert len(results.succeeded) == 45
                assert {model.model_id for model in results.succeeded}.isdisjoint(hung)
                for result in (results.by_id[name] for name in hung):
                    lost = kind == "as a process" and "no answer to a PING" in result.detail
                    allowed = {Status.TIMEOUT, Status.SKIPPED, Status.ABSENT}
                    assert result.status in (allowed | {Status.FAILED} if lost else allowed)

    place.run(main)
