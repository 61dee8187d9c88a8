"""Stubs on `model.channel` against real nodes: in plaintext, in secure mode, and behind a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.gateways import make_credentials, trust_alone
from helpers.insides import actor_of
from helpers.secure_crunch import AUTHORITY, coordinating
from helpers.secure_nodes import write_credentials

from trio_model_runner import ModelRunner, SecureCredentials, Status
from trio_model_runner.proto.commons import Argument, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponseServingStatus,
    HealthStub,
)

from .clusters import SERVICE, hold_only, joined_by
from .node_process import NodePool, NodeProcess
from .proxies import ProvingFront, tls_gateway
from .waiting import PATIENT, Release, wait_for_holding


@pytest.fixture
def node(pool: NodePool) -> NodeProcess:
    (node,) = pool.start("steady")
    return node


async def check_health(model: ModelRunner) -> None:
    answer = await HealthStub(model.channel).check(HealthCheckRequest(), timeout=PATIENT)
    assert answer.status is HealthCheckResponseServingStatus.SERVING


async def call(model: ModelRunner, method: str, text: str | None = None) -> CallResponse:
    arguments = [] if text is None else [Argument(1, Variant(VariantType.STRING, text.encode()))]
    stub = DynamicSubclassServiceStub(model.channel)
    answer = await stub.call(CallRequest(method, arguments), timeout=PATIENT)
    assert answer.status.code == "SUCCESS"
    return answer


async def check_all(model: ModelRunner) -> None:
    """Health, calls by stubs and calls of rounds go over the same channel's connection, in any order."""
    for _ in range(3):
        await check_health(model)
        assert (await call(model, "predict")).method_response.type is VariantType.DOUBLE
        assert (await model.call("predict")).unwrap() == 1.5


async def test_in_plaintext(node: NodeProcess) -> None:
    async with joined_by([node]) as cluster:
        await check_all(cluster.models["steady"])


async def test_in_secure_mode(node: NodeProcess, tmp_path: Path) -> None:
    credentials = SecureCredentials.from_directory(write_credentials(tmp_path / "credentials", AUTHORITY))
    with ProvingFront(node) as front:
        async with coordinating(front, service=SERVICE, credentials=credentials) as scene:
            await check_all(scene.cluster.models["steady"])
            front.proof = lambda method: ()  # what a health answer may lack
            await check_health(scene.cluster.models["steady"])
        assert scene.connections(front) == 1


async def test_behind_a_gateway(node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust_alone(AUTHORITY, tmp_path, monkeypatch)
    async with tls_gateway(node, AUTHORITY) as port:
        entry: dict[str, Any] = node.entry() | {"port": port}
        async with coordinating(entry, service=SERVICE, credentials=make_credentials()) as scene:
            await check_all(scene.cluster.models["steady"])
        assert scene.network.connections[port] == 1


async def test_a_stubs_call_takes_its_turn_with_those_of_rounds(node: NodeProcess, release: Release) -> None:
    """A node that runs one call refuses another as busy; here neither way is one refused."""
    async with joined_by([node]) as cluster:
        model, order = cluster.models["steady"], []

        async def play_a_round() -> None:
            results = await cluster.call("hold", hold_only("steady", release))
            assert results[model].status is Status.SUCCESS
            order.append("round")

        async def call_by_stub() -> None:
            await call(model, "predict")
            order.append("stub")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_a_round)
            await wait_for_holding([node])
            nursery.start_soon(call_by_stub)
            await check_health(model)  # which waits for nobody
            assert order == []
            release.now()
        assert order == ["round", "stub"]


async def test_a_round_waits_for_a_stubs_call(node: NodeProcess, release: Release) -> None:
    async with joined_by([node]) as cluster:
        model, order = cluster.models["steady"], []

        async def call_by_stub() -> None:
            await call(model, "hold", release.path)
            order.append("stub")

        async def play_a_round() -> None:
            assert (await cluster.call("predict"))[model].unwrap() == 1.5
            order.append("round")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_by_stub)
            await wait_for_holding([node])
            nursery.start_soon(play_a_round)
            await check_health(model)
            # Private: else the node would be asked again and again, and refuse as often.
            assert len(actor_of(model)._queue) == 2
            assert order == []
            release.now()
        assert order == ["stub", "round"]
