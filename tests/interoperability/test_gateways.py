"""A cluster in gateway mode through nginx and Envoy, with fifty models behind each."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trustme
from helpers.gateways import make_credentials, trust_alone
from helpers.insides import failures_of

from trio_model_runner import (
    Arguments,
    Cluster,
    DynamicSubclassService,
    GatewayCredentials,
    PredictResult,
    Status,
)
from trio_model_runner.config import Backoff
from trio_model_runner.network import Network, TCPNetwork
from trio_model_runner.testing import LocalCrunch

from .proxies import PROXIES, Backend, Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

AUTHORITY = trustme.CA()
MODELS = [f"m-{number:02}" for number in range(50)]
LARGE = "x" * (20 * 1024 * 1024)
SERVICE = DynamicSubclassService("crunch.Model")

both = pytest.mark.parametrize("kind", PROXIES, indirect=True)


class Gate:
    """Where calls wait until they are let through."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = trio.Event()
        self.full = trio.Event()

    async def wait(self) -> str:
        self.waiting += 1
        if self.waiting == len(MODELS):
            self.full.set()
        await self.open.wait()
        return "through"


@attrs.frozen
class Model:
    """Answers with what it is sent, or when it is let through."""

    gate: Gate

    def predict(self, value: str = "") -> str:
        return value

    async def wait(self) -> str:
        return await self.gate.wait()


class CountingNetwork(Network):
    """TCP that counts the connections to each port."""

    def __init__(self) -> None:
        self.connections: Counter[int] = Counter()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.connections[port] += 1
        return await TCPNetwork().connect(host, port)


@attrs.frozen
class Scene:
    """A cluster, and what is behind its gateway."""

    crunch: LocalCrunch
    cluster: Cluster
    proxy: Proxy
    gate: Gate
    network: CountingNetwork

    @property
    def connections(self) -> int:
        """How many connections the cluster has made to the gateway."""
        return self.network.connections[self.proxy.port]


@pytest.fixture(scope="module")
def credentials() -> GatewayCredentials:
    return make_credentials()


@pytest.fixture
async def scene(
    kind: str, credentials: GatewayCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    trust_alone(AUTHORITY, tmp_path, monkeypatch)
    async with coordinating(kind, credentials) as scene:
        yield scene


@asynccontextmanager
async def coordinating(kind: str, credentials: GatewayCredentials) -> AsyncIterator[Scene]:
    """A cluster of all models; each is announced where the gateway is."""
    gate, network = Gate(), CountingNetwork()
    certificate = AUTHORITY.issue_cert("127.0.0.1")
    async with LocalCrunch() as crunch:
        nodes = [await crunch.add(model_id, Model(gate), announce=False) for model_id in MODELS]
        backends = [Backend(node.port, model_id) for node, model_id in zip(nodes, MODELS, strict=True)]
        with PROXIES[kind](*backends, tls=certificate) as proxy:
            for model_id in MODELS:
                crunch.announce(model_id, ip="127.0.0.1", port=proxy.port)
            config = crunch.config(
                credentials=credentials,
                network=network,
                timeout=30.0,
                backoff=Backoff(attempts=1000, initial=0.01, maximum=0.05),
            )
            async with Cluster(config, SERVICE) as cluster:
                await cluster.wait_for_models(len(MODELS))
                yield Scene(crunch, cluster, proxy, gate, network)


async def meet_at_the_gate(
    scene: Scene, event: Callable[[], Awaitable[object]]
) -> Mapping[str, PredictResult]:
    """A round in whose middle that happens, when all models have been asked and none has answered."""
    results: dict[str, PredictResult] = {}

    async def wait() -> None:
        results.update((await scene.cluster.call("wait")).by_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await scene.gate.full.wait()
        await event()
        scene.gate.open.set()
    return results


def troubles(results: Mapping[Any, PredictResult]) -> list[str]:
    """What the results are that are no successes; there is one for each model."""
    assert len(results) == len(MODELS)
    return [result.detail for result in results.values() if result.status is not Status.SUCCESS]


def failures(scene: Scene) -> int:
    """How many failures count against all models together."""
    return sum(failures_of(model) for model in scene.cluster.announced.values())


@both
async def test_a_gateway_that_reloads_in_the_middle_of_a_round_costs_no_answer(scene: Scene) -> None:
    """Calls that it has go on, and its connections retire in peace."""

    async def reload() -> None:
        scene.proxy.reload()
        await trio.to_thread.run_sync(scene.proxy.wait_until_retiring)

    assert troubles(await scene.cluster.predict()) == []
    assert scene.connections == len(MODELS)
    assert troubles(await meet_at_the_gate(scene, reload)) == []
    while scene.connections < 2 * len(MODELS):
        assert troubles(await scene.cluster.predict()) == []
    assert scene.crunch.reports == []
    assert failures(scene) == 0


@both
async def test_a_node_that_dies_behind_a_gateway_is_its_models_trouble_alone(scene: Scene) -> None:
    """It dies while all are asked, stays away for some rounds, and comes back at its place.

    What the gateway says of it (nginx with a page, Envoy with a status) is about the way to it: no failure.
    """
    victim = MODELS[7]

    async def crash() -> None:
        await scene.crunch.crash(victim, announce=False)

    async def results() -> tuple[PredictResult, list[str]]:
        by_id = (await scene.cluster.predict()).by_id
        return by_id[victim], troubles(by_id)

    asked = await meet_at_the_gate(scene, crash)
    assert (asked[victim].status, len(troubles(asked))) == (Status.FAILED, 1)
    for _ in range(3):
        result, found = await results()
        assert result.status in {Status.FAILED, Status.ABSENT}
        assert found == [result.detail]
    assert failures(scene) == 0
    await scene.crunch.recover(victim, announce=False)
    while (await results())[1]:
        pass
    assert scene.crunch.reports == []
    assert failures(scene) == 0


@both
async def test_twenty_mebibytes_go_both_ways_through_a_gateway(scene: Scene) -> None:
    round_ = await scene.cluster.call("predict", Arguments(LARGE), models=MODELS[:1])
    assert [result.unwrap() == LARGE for result in round_.values()] == [True]
