"""What is this machine's trouble, and not a model's: a process that oversleeps, and a firewall of our own."""

from __future__ import annotations

import errno

import pytest
import trio
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import actor_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState, Status
from trio_model_runner.model.policy import Outcome, Progress, outcome_of_cut_off, outcome_of_unreachable
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

OVERSLEPT = 0.25
"""Seconds. It is a number on purpose: `policy.OVERSLEPT` must not change unnoticed."""


@pytest.mark.parametrize(
    ("late", "outcome"),
    [
        (0.0, Outcome.OVERRAN),
        (OVERSLEPT, Outcome.OVERRAN),
        (OVERSLEPT + 0.001, Outcome.NOT_REACHED),
    ],
)
def test_nobody_is_blamed_if_we_were_more_than_a_quarter_of_a_second_late(
    late: float, outcome: Outcome
) -> None:
    assert outcome_of_cut_off(Progress.CUT_OFF, seconds_late=late, cut_short=False) is outcome


@pytest.mark.parametrize(("late", "timeouts"), [(OVERSLEPT - 0.01, 1), (OVERSLEPT + 0.01, 0)])
async def test_a_process_that_oversleeps_blames_nobody(
    autojump_clock: MockClock, late: float, timeouts: int
) -> None:
    async with (
        LocalCrunch({"a": Model, "b": Model, "c": Model}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
        trio.open_nursery() as nursery,
    ):
        crunch.node("a").faults.delay = 3

        @nursery.start_soon
        async def oversleep() -> None:
            await trio.sleep(0.5)
            autojump_clock.jump(0.5 + late)

        results = await cluster.call("predict", Arguments(1.0), timeout=1)
        assert results.by_id["a"].status is Status.TIMEOUT
        assert len(results.succeeded) == 2
        await trio.sleep(5)  # by then the node has given its sign of life
        assert timeouts_of(cluster.models["a"]) == timeouts


@pytest.mark.parametrize(
    "name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "EACCES", "EPERM"]
)
def test_an_error_of_this_machine_is_no_nodes(name: str) -> None:
    error = OSError(getattr(errno, name), "no")
    assert outcome_of_unreachable(error) is Outcome.UNREACHABLE_FROM_HERE


def test_one_local_error_among_several_addresses_says_so() -> None:
    error = OSError("all attempts failed")
    error.__cause__ = ExceptionGroup("", [OSError(errno.ECONNREFUSED, "no"), OSError(errno.EPERM, "no")])
    assert outcome_of_unreachable(error) is Outcome.UNREACHABLE_FROM_HERE


class FirewalledNetwork(MemoryNetwork):
    """A network behind a firewall of our own, which forbids some ports."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: set[int] = set()

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        if port in self.forbidden:
            await trio.lowlevel.checkpoint()
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return await super().connect(host, port)


async def test_a_firewall_of_our_own_blames_nobody(autojump_clock: MockClock) -> None:
    network = FirewalledNetwork()
    async with (
        LocalCrunch(dict.fromkeys("abcdef", Model), network=network) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        model = cluster.models["a"]
        network.forbidden.add(model.port)
        crunch.node("a").break_connections()
        await until(cluster, lambda: model.state is ModelState.FAILED)
        assert isinstance(model.error, PermissionError)
        for _ in range(20):
            assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
            await trio.sleep(100)
        assert crunch.reports == []
        assert cluster.snapshot().reports == ()
        standing = actor_of(model).conduct.record.standing("predict")
        assert standing.hindered == 0
        network.forbidden.clear()
        await cluster.wait_for_models(6)
