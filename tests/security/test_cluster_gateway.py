"""A cluster behind a gateway: TLS that the system's authorities vouch for, and a token with every call."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme
from helpers.gateways import PUBLIC_KEY, gateway, make_credentials, read_token, trust_alone
from helpers.insides import failures_of
from helpers.secure_crunch import AUTHORITY, PROMPT, Node, answer, busy, coordinating

from trio_model_runner import Arguments, GatewayCredentials, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse


@pytest.fixture(scope="module")
def credentials() -> GatewayCredentials:
    return make_credentials()


@pytest.fixture(autouse=True)
def system_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust_alone(AUTHORITY, tmp_path, monkeypatch)


@pytest.fixture
def node() -> Iterator[Node]:
    with gateway() as node:
        yield node


async def test_every_call_carries_a_token_for_its_model_and_its_time(credentials: GatewayCredentials) -> None:
    before = int(time.time())
    with gateway("7") as seventh, gateway("8") as eighth:
        async with coordinating(seventh, eighth, credentials=credentials) as scene:
            for _ in range(2):
                results = await scene.cluster.call("predict", Arguments(1))
                assert [result.unwrap() for result in results.values()] == ["here"] * 2
    after = time.time()
    for each in (seventh, eighth):
        assert each.methods == ["Setup", "Call", "Call"]
        for visit in each.visits:
            token = read_token(visit.metadata)
            assert token.keys() == {"model_id", "timestamp"}
            assert token["model_id"] == each.model_id
            assert before <= token["timestamp"] <= after
            assert base64.b64decode(visit.metadata[PUBLIC_KEY]) == credentials.public_key


async def test_a_request_that_is_sent_again_carries_a_token_of_that_moment(
    credentials: GatewayCredentials, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway would take an old token for a copied one."""
    times = 3

    def behave(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        nonlocal times
        times -= 1
        if not times:
            return answer()
        clock.now += 1.0
        return busy(context)

    class Clock:
        now = 1_800_000_000.5

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    node.behave = behave
    async with coordinating(node, credentials=credentials) as scene:
        # The configuration has no clock to set: a coordinator has no use for one.
        monkeypatch.setattr(scene.cluster._resources.security._tokens, "_clock", clock)  # type: ignore[attr-defined]
        assert (await scene.cluster.call("predict")).by_id["7"].unwrap() == "here"
    calls = [visit for visit in node.visits if visit.method == "Call"]
    stamps = [read_token(visit.metadata)["timestamp"] for visit in calls]
    assert stamps == [1_800_000_000, 1_800_000_001, 1_800_000_002]


async def test_a_gateway_of_an_authority_that_the_system_does_not_know_is_sent_nothing(
    credentials: GatewayCredentials,
) -> None:
    with gateway(authority=trustme.CA()) as node:
        async with coordinating(node, credentials=credentials) as scene:
            report = await scene.first_report()
            assert report["failure_code"] == "CONNECTION_FAILED"
            assert "certificate is not to be trusted" in report["failure_reason"]
            assert scene.connections(node) > PROMPT.attempts  # once more, at least, to make sure
        assert node.visits == []


async def test_a_gateway_of_another_name_is_sent_nothing(credentials: GatewayCredentials) -> None:
    with gateway(names=("gateway.example",)) as node:
        async with coordinating(node, credentials=credentials) as scene:
            assert "not valid for '127.0.0.1'" in (await scene.first_report())["failure_reason"]
        assert node.visits == []


async def test_a_plaintext_node_is_sent_no_token(credentials: GatewayCredentials) -> None:
    with gateway(authority=None) as node:
        async with coordinating(node, credentials=credentials) as scene:
            assert "plaintext" in (await scene.first_report())["failure_reason"]
        assert node.visits == []


async def test_a_gateway_that_refuses_the_token_blames_no_model(
    credentials: GatewayCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        node.refusal = grpc.StatusCode.UNAUTHENTICATED
        result = (await scene.cluster.call("predict")).by_id["7"]
        assert result.status is Status.FAILED
        assert "UNAUTHENTICATED" in result.detail
        assert failures_of(scene.cluster.models["7"]) == 0
    assert scene.crunch.reports == []


async def test_models_share_neither_tokens_nor_turns_that_would_make_them_late(
    credentials: GatewayCredentials,
) -> None:
    """Hundreds of models behind one gateway, as a coordinator has them: each call carries its own token."""
    with gateway() as node:
        entries = [node.entry() | {"model_id": str(number), "deployment_id": None} for number in range(100)]
        async with coordinating(*entries, credentials=credentials) as scene:
            results = await scene.cluster.call("predict", timeout=30)
            assert {result.status for result in results.values()} == {Status.SUCCESS}
        calls = [read_token(visit.metadata) for visit in node.visits if visit.method == "Call"]
        assert {token["model_id"] for token in calls} == {str(number) for number in range(100)}
        assert len(calls) == 100
