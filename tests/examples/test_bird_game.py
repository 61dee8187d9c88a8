"""The bird game: each instance is told the whole history in order and once, and SIGTERM lets a round end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.programs import running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.bird_game import DRAIN_SECONDS, Game, Payloads, main
from trio_model_runner import Cluster
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.testing import CrunchFactory, Faults, InProcessEngine, LocalCrunch

instances: list[Tracker] = []
"""All that were made in a test, oldest first."""


class Tracker:
    """Keeps what it was told, one payload at a time, and believes that the dove stays where it is."""

    def __init__(self) -> None:
        self.told: list[int] = []
        instances.append(self)

    def tick(self, payload: Mapping[str, Any], performance_metrics: Mapping[str, Any]) -> None:
        assert performance_metrics == {}
        self.told.append(payload["time"])

    async def predict(self) -> list[Any]:
        return [{"density": {"name": "normal", "params": {"loc": self.told[-1], "scale": 1}}, "weight": 2}]


@pytest.fixture(autouse=True)
def _no_instances() -> None:
    instances.clear()


@pytest.fixture
def record(tmp_path: Path) -> str:
    return str(tmp_path / "rounds.jsonl")


async def flight(*events: Callable[[], Any]) -> Payloads:
    """Payloads, each after something has happened."""
    for time, event in enumerate(events):
        await event()
        yield {"dove_location": time, "time": time}


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


def told() -> list[list[int]]:
    return [instance.told for instance in instances]


def on_two_shards(network: MemoryNetwork) -> Callable[..., Cluster]:
    return partial(ShardedCluster, shards=2, engine=InProcessEngine(network=network))


@pytest.mark.parametrize("sharded", [False, True], ids=["one process", "shards"])
async def test_every_instance_is_told_everything_in_order_and_once(
    local_crunch: CrunchFactory, record: str, sharded: bool
) -> None:
    async with local_crunch({"steady": Tracker, "crashing": Tracker}) as crunch:
        events: list[Callable[[], Any]] = [
            nothing,
            partial(crunch.add, "late", Tracker),
            partial(crunch.crash, "crashing"),
            partial(crunch.recover, "crashing"),
            nothing,
            partial(crunch.redeploy, "steady", Tracker),
        ]
        game = Game()
        make_cluster = on_two_shards(crunch.network) if sharded else Cluster
        await main(crunch.config(), record, game, flight(*events), make_cluster)
        crunch.assert_no_reports()
    everything = list(range(len(events)))
    assert sorted(told()) == [everything[:2], everything[:5], *[everything] * 3]
    assert set(game.errors) == {"steady", "crashing", "late"}
    assert game.errors["steady"] == 1.0  # it moves by one in each round


HAPPENINGS = ("nothing", "busy", "free", "crash", "recover", "break", "redeploy")


@pytest.mark.parametrize("sharded", [False, True], ids=["one process", "shards"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the clock goes on
@given(story=st.lists(st.sampled_from(HAPPENINGS), min_size=4, max_size=10))
async def test_whatever_happens_no_instance_has_a_gap_or_a_payload_twice(
    story: list[str], autojump_clock: object, record: str, sharded: bool
) -> None:
    async def happen(what: str) -> None:
        node = crunch.node("odd")
        match what:
            case "busy" | "free":
                node.faults = Faults(busy=what == "busy", methods={"tick"})
            case "crash" if "odd" not in crashed:
                crashed.add("odd")
                await crunch.crash("odd")
            case "recover" if "odd" in crashed:
                crashed.clear()
                await crunch.recover("odd")
            case "redeploy":
                crashed.clear()
                await crunch.redeploy("odd", Tracker)
                await crunch.retire("odd")
            case "break":
                node.break_connections()
        await trio.sleep(0.5)

    instances.clear()
    crashed: set[str] = set()
    models = {"steady": Tracker, "odd": Tracker}
    network = MemoryNetwork()
    make_cluster = on_two_shards(network) if sharded else Cluster
    async with LocalCrunch(models, network=network, settle=True) as crunch:
        events = [partial(happen, what) for what in story]
        await main(crunch.config(timeout=1.0), record, Game(), flight(*events), make_cluster)
    assert all(each == list(range(len(each))) for each in told()), told()
    assert list(range(len(story))) in told()


async def test_sigterm_ends_a_program_that_is_still_coming_up(
    local_crunch: CrunchFactory, record: str
) -> None:
    async def send_signal() -> None:
        await crunch.settle()
        os.kill(os.getpid(), signal.SIGTERM)

    async with local_crunch() as crunch, trio.open_nursery() as nursery:
        crunch.orchestrator.pause()
        began = trio.current_time()
        nursery.start_soon(send_signal)
        await main(crunch.config(), record, Game(), flight(nothing))
        assert trio.current_time() - began < 5.0  # entering would take a minute


async def test_sigterm_lets_the_round_end_that_is_under_way(local_crunch: CrunchFactory, record: str) -> None:
    class Slow(Tracker):
        async def predict(self) -> list[Any]:
            await trio.sleep(DRAIN_SECONDS - 1.0)
            return await super().predict()

    async def send_signal() -> None:
        await crunch.node("slow").wait_for_calls(4)
        os.kill(os.getpid(), signal.SIGTERM)

    async with local_crunch({"slow": Slow, "steady": Tracker}) as crunch, trio.open_nursery() as nursery:
        nursery.start_soon(send_signal)
        game = Game()
        await main(crunch.config(timeout=60.0), record, game, flight(*[nothing] * 100))
        assert [call.method for call in crunch.node("slow").calls] == ["tick", "predict"] * 2
        assert set(game._expected) == {"slow", "steady"}  # of the last round


@pytest.mark.parametrize("options", [(), ("--shards", "2")], ids=["one process", "shards"])
async def test_as_a_program_it_is_ended_by_sigterm_with_nothing_left_to_say(
    record: str, options: Sequence[str]
) -> None:
    async with LocalCrunch({"a": Tracker, "b": Tracker}, crunch_id="bird-game") as crunch:
        async with running("bird_game.py", crunch, record, *options) as program:
            await crunch.node("a").wait_for_calls(2)
            program.terminate()
            await program.wait()
        assert program.returncode == 0, program.output
        assert "SUCCESS" in program.output.splitlines()[-1]
    lines = Path(record).read_text().splitlines()  # noqa: ASYNC240 - nobody waits for this test
    assert [json.loads(line)["method"] for line in lines] == ["tick", "predict"]
    assert told()[0] == told()[1] != []
