"""The table of blame, row by row, for models that can't be brought up: who is reported, and when."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Self

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import actor_of, counts_of
from trio.testing import MockClock

from trio_model_runner import Cluster, DynamicSubclassService, ModelState, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import Faults, LocalCrunch

MODELS = [*"abcdef"]


def many(model: Any = Model) -> dict[str, Any]:
    """So many that one is no mass."""
    return dict.fromkeys(MODELS, model)


@pytest.mark.parametrize(
    ("faults", "code", "after"),
    [
        (Faults(setup_status=("SETUP_FAILED", "no")), "MULTIPLE_FAILED", 60),
        (Faults(setup_error=(GRPCStatus.INTERNAL, "no")), "MULTIPLE_FAILED", 60),
        (Faults(setup_status=("BAD_IMPLEMENTATION", "no module")), "BAD_IMPLEMENTATION", 60),
        (Faults(setup_error=(GRPCStatus.UNAVAILABLE, "later")), "CONNECTION_FAILED", 90),
        (Faults(silent=True), "CONNECTION_FAILED", 150),  # it is tried once more at 140
        (Faults(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "CONNECTION_FAILED", 90),
    ],
)
async def test_who_can_not_be_brought_up_is_absent_and_reported(
    autojump_clock: MockClock, faults: Faults, code: str, after: float
) -> None:
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        crunch.node("a").faults = faults
        async with Cluster(crunch.config(), SERVICE) as cluster:
            assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
            (report,) = await crunch.wait_for_reports()
            assert (report["model_id"], report["failure_code"]) == ("a", code)
            assert trio.current_time() == pytest.approx(after, abs=0.5)


@pytest.mark.parametrize("status", [GRPCStatus.UNIMPLEMENTED, GRPCStatus.PERMISSION_DENIED])
async def test_a_node_that_does_not_serve_us_is_out_but_not_reported(
    autojump_clock: MockClock, status: GRPCStatus
) -> None:
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        crunch.node("a").faults.setup_error = (status, "not here")
        async with Cluster(crunch.config(), SERVICE) as cluster:
            assert cluster.announced["a"].state is ModelState.FAILED
            assert "not here" in str(cluster.announced["a"].error)
            await trio.sleep(1000)
            assert crunch.reports == []


async def test_a_class_that_no_node_has_is_our_typo(autojump_clock: MockClock) -> None:
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        for model_id in MODELS:
            crunch.node(model_id).faults.setup_status = ("BAD_IMPLEMENTATION", "No module named 'crnch'")
        async with Cluster(crunch.config(), DynamicSubclassService("crnch.Model")):
            await trio.sleep(1000)
            assert crunch.reports == []


async def test_files_that_we_have_too_many_of_are_not_a_models_fault(autojump_clock: MockClock) -> None:
    class Exhausted(MemoryNetwork):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            if host == "full":
                await trio.lowlevel.checkpoint()
                cause = ExceptionGroup("all", [OSError(errno.EMFILE, "Too many open files")])
                raise OSError("all attempts to connect failed") from cause
            return await super().connect(host, port)

    async with LocalCrunch(many(), network=Exhausted()) as crunch:
        await crunch.add("x", Model(), host="full")
        async with Cluster(crunch.config(startup_timeout=60), SERVICE) as cluster:
            assert cluster.announced["x"].state is ModelState.FAILED
            await trio.sleep(1000)
            assert crunch.reports == []


async def test_who_is_announced_anew_begins_anew(autojump_clock: MockClock) -> None:
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        node = crunch.node("a")
        node.faults.setup_status = ("SETUP_FAILED", "no")
        async with Cluster(crunch.config(), SERVICE) as cluster:
            assert cluster.snapshot().reports_pending == 1
            await trio.sleep(50)
            node.faults = Faults(setup_delay=100)  # its author has mended it; it needs its time now
            crunch.announce("a")
            await until(cluster, lambda: "a" in cluster.models)
            await trio.sleep(100)
            assert crunch.reports == []


async def test_a_setup_that_hangs_is_an_overrun_of_setup(autojump_clock: MockClock) -> None:
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        node = crunch.node("a")
        node.faults.hang_setup = True
        async with Cluster(crunch.config(startup_timeout=1), SERVICE) as cluster:
            model = cluster.announced["a"]
            due_at = None
            while not crunch.reports:
                before = trio.current_time()
                results = await cluster.call("predict")
                assert results.by_id["a"].status is Status.ABSENT
                assert len(results.succeeded) == len(MODELS) - 1
                assert trio.current_time() == before  # nobody waits for it
                if due_at is None and cluster.snapshot().reports_pending:
                    due_at = trio.current_time()
                await trio.sleep(5)
                assert model.state is ModelState.SETTING_UP or crunch.reports
            # One timeout after 120 s, and one more after each window of 120 s.
            assert due_at == pytest.approx(4 * 120, abs=15)
            assert trio.current_time() == pytest.approx(due_at + 60, abs=10)
            (report,) = crunch.reports
            assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_TIMEOUT")


async def test_a_node_that_is_busy_at_setup_is_never_given_up_for_that(autojump_clock: MockClock) -> None:
    async with (
        LocalCrunch(many(), network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE) as stranger,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(stranger.models["a"].call, "hang")
        await crunch.node("a").wait_for_calls(1)
        async with Cluster(crunch.config(startup_timeout=1), SERVICE) as cluster:
            for _ in range(20):
                assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
                await trio.sleep(10)
            model = cluster.announced["a"]
            assert (model.state, counts_of(model)) == (ModelState.SETTING_UP, (0, 0, 0))
            assert crunch.reports == []
            crunch.node("a").kill()
            crunch.node("a").restart()
            await cluster.wait_for_models(len(MODELS))
        nursery.cancel_scope.cancel()


class Late(tuple[GRPCStatus, str]):
    """What a node fails each Setup with: DEADLINE_EXCEEDED, at once; after 50 of these, something else.

    Attributes:
        setups: how many Setups there were.
    """

    def __new__(cls) -> Self:
        return super().__new__(cls, (GRPCStatus.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def __init__(self) -> None:
        self.setups = 0

    def __iter__(self) -> Iterator[Any]:
        self.setups += 1
        yield GRPCStatus.DEADLINE_EXCEEDED if self.setups <= 50 else GRPCStatus.INTERNAL
        yield "Deadline Exceeded"


async def test_a_node_that_says_at_once_that_a_setup_was_late_is_not_asked_again_and_again(
    autojump_clock: MockClock,
) -> None:
    """No timeout counts faster than it could come, and a hostile node keeps this process no busier."""
    async with LocalCrunch(many(), network=MemoryNetwork()) as crunch:
        late = Late()
        crunch.node("a").faults.setup_error = late
        async with Cluster(crunch.config(startup_timeout=1), SERVICE) as cluster:
            for _ in range(20):
                await cluster.call("predict")
                await trio.sleep(5)
            assert late.setups <= 20
            assert counts_of(cluster.announced["a"])[1] <= 1
            assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_FAILED"]


async def test_a_node_that_drops_each_connection_after_the_setup_is_not_connected_to_without_a_wait(
    autojump_clock: MockClock,
) -> None:
    """An instance is no success of a call, so the attempts are not counted from the first again."""
    attempts = 0

    class Counting(MemoryNetwork):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            nonlocal attempts
            attempts += port == crunch.node("a").port
            return await super().connect(host, port)

    async with (
        LocalCrunch(many(), network=Counting()) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
        trio.open_nursery() as nursery,
    ):
        model = cluster.announced["a"]

        @nursery.start_soon
        async def drop() -> None:
            while True:
                await until(cluster, lambda: actor_of(model).ready)
                await trio.sleep(0.1)
                crunch.node("a").break_connections()
                await until(cluster, lambda: not actor_of(model).ready)

        await trio.sleep(60)
        nursery.cancel_scope.cancel()
        assert attempts <= 12
