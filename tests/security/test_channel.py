"""`model.channel` keeps a model's secrets as rounds do: its calls carry tokens, and their answers are proved.

The health service is the exception: it is asked without a token, and a proof that is missing is no failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from helpers.coordinating import until
from helpers.gateways import TOKEN, gateway, make_credentials, read_token, trust_alone
from helpers.secure_crunch import AUTHORITY, Node, Scene, answer, changed_proofs, coordinating
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import (
    GatewayCredentials,
    ModelRunner,
    ModelState,
    ProofFailed,
    SecureCredentials,
    Status,
)
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponseServingStatus,
    HealthStub,
)
from trio_model_runner.security.delegation import UnknownIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/dynamic_subclass.DynamicSubclassService/Call"


@pytest.fixture(scope="module")
def gateway_credentials() -> GatewayCredentials:
    return make_credentials()


@pytest.fixture
def gateway_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    trust_alone(AUTHORITY, tmp_path, monkeypatch)
    with gateway() as node:
        yield node


async def check_health(model: ModelRunner) -> bool:
    response = await HealthStub(model.channel).check(HealthCheckRequest(), timeout=10.0)
    return response.status is HealthCheckResponseServingStatus.SERVING


async def call(model: ModelRunner) -> str:
    response = await DynamicSubclassServiceStub(model.channel).call(CallRequest("predict"), timeout=10.0)
    return response.method_response.value.decode()


async def check_distrusted(scene: Scene, node: Node, error: ProofFailed, said: str) -> None:
    """As after a round: the model is out and reported, its connection ends, and nobody calls it again."""
    assert said in str(error)
    model = scene.cluster.announced["7"]
    assert (model.state, model.error) == (ModelState.FAILED, error)
    report = await scene.first_report()
    assert (report["failure_code"], said in report["failure_reason"]) == ("CONNECTION_FAILED", True)
    visits = len(node.visits)
    with pytest.raises(CallInterrupted, match="not connected"):
        await call(model)
    assert (await model.call("predict")).status is Status.ABSENT
    assert (len(node.visits), scene.connections(node), len(scene.crunch.reports)) == (visits, 1, 1)


async def test_in_secure_mode_stubs_run_on_the_connection_that_was_proved(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        assert await check_health(model)
        assert await call(model) == "here"
        assert scene.connections(node) == 1
        assert len({visit.peer for visit in node.visits}) == 1


@pytest.mark.parametrize("change", ["nothing", "a part", "a stranger's", "another model's", "an expired one"])
async def test_an_answer_with_another_proof_is_not_delivered(
    credentials: SecureCredentials, node: Node, change: str
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        metadata, said = changed_proofs(node)[change]
        node.proof = lambda method: metadata
        with pytest.raises(ProofFailed) as raised:
            await call(model)
        await check_distrusted(scene, node, raised.value, said)


async def test_nothing_of_an_answer_is_delivered_before_its_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        node.proof = lambda method: node.delegate(model_id="8")
        received: list[Any] = []
        with pytest.raises(ProofFailed):
            await receive_step_by_step(model, received)
        assert received == [None]
        assert model.state is ModelState.FAILED


async def receive_step_by_step(model: ModelRunner, received: list[Any]) -> None:
    channel: Any = model.channel
    async with channel.request(PATH, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream:
        await stream.send_message(CallRequest("predict"), end=True)
        try:
            await stream.recv_initial_metadata()
        finally:
            received.append(stream.initial_metadata)


async def test_other_calls_on_the_connection_end_with_a_failed_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    """A call in a round waits for its turn behind the one whose answer is forged."""
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        node.proof = lambda method: node.delegate(model_id="8")
        results = []

        async def call_in_a_round() -> None:
            results.append((await scene.cluster.call("predict")).by_id["7"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_in_a_round)
            with pytest.raises((ProofFailed, CallInterrupted)):
                await call(model)
        assert [result.value for result in results] == [None]
        assert results[0].status in (
            Status.FAILED,
            Status.ABSENT,
        )  # if the answer came before the round began
        await scene.first_report()
        assert len(scene.crunch.reports) == 1


@pytest.mark.parametrize("proof", ["good", "missing"])
async def test_a_health_answer_needs_no_proof(credentials: SecureCredentials, node: Node, proof: str) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model, good = scene.cluster.models["7"], node.delegate()
        node.proof = lambda method: good if method != "Check" or proof == "good" else ()
        for _ in range(2):
            assert await check_health(model)
        assert await call(model) == "here"
        assert model.state is ModelState.READY


@pytest.mark.parametrize("change", ["a part", "a stranger's", "another model's", "an expired one"])
async def test_a_health_answer_with_a_wrong_proof_is_a_failed_proof(
    credentials: SecureCredentials, node: Node, change: str
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        good, (wrong, said) = node.delegate(), changed_proofs(node)[change]
        node.proof = lambda method: wrong if method == "Check" else good
        with pytest.raises(ProofFailed) as raised:
            await check_health(scene.cluster.models["7"])
        await check_distrusted(scene, node, raised.value, said)


async def test_a_status_and_nothing_else_needs_no_proof(credentials: SecureCredentials, node: Node) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        node.refusal = grpc.StatusCode.UNAUTHENTICATED
        for send in (call, check_health):
            with pytest.raises(GRPCError) as raised:
                await send(model)
            assert raised.value.status is GRPCStatus.UNAUTHENTICATED
        assert model.state is ModelState.READY


async def test_an_error_behind_a_proof_is_verified_first(credentials: SecureCredentials, node: Node) -> None:
    node.behave = lambda request, context: context.abort(grpc.StatusCode.INTERNAL, "broken")
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        with pytest.raises(GRPCError, match="broken"):
            await call(model)
        node.proof = lambda method: node.delegate(model_id="8")
        with pytest.raises(ProofFailed) as raised:
            await call(model)
        await check_distrusted(scene, node, raised.value, "model_id '8'")


async def test_infos_that_lose_the_wallet_blame_nobody(credentials: SecureCredentials, node: Node) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        scene.crunch.orchestrator.announce(node.entry(cruncher_wallet_pubkey=None))
        async with scene.cluster.changes() as changes:
            while "cruncher_wallet_pubkey" in model.infos:
                await changes.__anext__()
        with pytest.raises(CallInterrupted, match="says no cruncher_wallet_pubkey"):
            await call(model)
        assert model.state is ModelState.FAILED
        assert isinstance(model.error, UnknownIdentity)
        assert "Call" not in node.methods
        scene.crunch.orchestrator.announce(node.entry())
        await until(scene.cluster, lambda: model.state is ModelState.READY)
        assert await call(model) == "here"
    assert scene.crunch.reports == []


async def test_a_gateway_gets_a_token_with_each_call_of_the_models_service_and_none_for_health(
    gateway_credentials: GatewayCredentials, gateway_node: Node
) -> None:
    async with coordinating(gateway_node, credentials=gateway_credentials) as scene:
        model = scene.cluster.models["7"]
        assert await check_health(model)
        for _ in range(2):
            assert await call(model) == "here"
        assert (await model.call("predict")).unwrap() == "here"
        assert scene.connections(gateway_node) == 1
    assert gateway_node.methods == ["Setup", "Check", "Call", "Call", "Call"]
    for visit in gateway_node.visits:
        if visit.method == "Check":
            assert not {*TOKEN} & visit.metadata.keys()
        else:
            assert read_token(visit.metadata)["model_id"] == "7"


async def test_a_gateways_answers_need_no_proof_and_a_refusal_counts_nothing(
    gateway_credentials: GatewayCredentials, gateway_node: Node
) -> None:
    async with coordinating(gateway_node, credentials=gateway_credentials) as scene:
        model = scene.cluster.models["7"]
        gateway_node.refusal = grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(GRPCError) as raised:
            await call(model)
        assert raised.value.status is GRPCStatus.UNAUTHENTICATED
        gateway_node.refusal = None
        gateway_node.behave = lambda request, context: answer("still here")
        assert await call(model) == "still here"
        await wait_all_tasks_blocked()
        assert (model.state, scene.cluster.snapshot().reports_pending) == (ModelState.READY, 0)
