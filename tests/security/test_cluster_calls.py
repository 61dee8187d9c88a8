"""Every answer of a secure node is proved before its value is given to anybody."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest
import trio
from helpers.coordinating import until
from helpers.insides import counts_of, failures_of
from helpers.secure_crunch import STRANGER, Node, Scene, answer, busy, changed_proofs, coordinating

from trio_model_runner import Arguments, ProofFailed, SecureCredentials, Status
from trio_model_runner.config import Limits
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse
from trio_model_runner.security.delegation import UnknownIdentity


async def call(scene: Scene) -> Any:
    return (await scene.cluster.call("predict", Arguments("payload"))).by_id["7"]


async def check_distrusted(scene: Scene, node: Node, result: Any, said: str) -> None:
    """The answer is a failed proof, the model is out and reported, and nobody calls it again."""
    assert result.status is Status.FAILED
    assert result.value is None
    assert isinstance(result.error, ProofFailed)
    assert said in result.detail
    report = await scene.first_report()
    assert report["failure_code"] == "CONNECTION_FAILED"
    assert said in report["failure_reason"]
    assert scene.state(node) == "failed"
    assert scene.error(node) is result.error
    calls = len(node.visits)
    assert (await call(scene)).status is Status.ABSENT
    assert len(node.visits) == calls
    assert scene.connections(node) == 1
    assert len(scene.crunch.reports) == 1


@pytest.mark.parametrize("change", ["nothing", "a part", "a stranger's", "another model's", "an expired one"])
async def test_an_answer_with_another_proof_is_nobodys(
    credentials: SecureCredentials, node: Node, change: str
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        assert (await call(scene)).unwrap() == "here"
        metadata, said = changed_proofs(node)[change]
        node.proof = lambda method: metadata
        await check_distrusted(scene, node, await call(scene), said)


async def test_a_new_proof_that_is_as_good_is_taken(credentials: SecureCredentials, node: Node) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        later = node.delegate(expires_at=int(time.time()) + 3600)
        node.proof = lambda method: later
        assert (await call(scene)).unwrap() == "here"


async def test_infos_that_lose_the_wallet_put_a_model_out_and_blame_nobody(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        model = scene.cluster.models["7"]
        scene.crunch.orchestrator.announce(node.entry(cruncher_wallet_pubkey=None))
        async with scene.cluster.changes() as changes:
            while "cruncher_wallet_pubkey" in model.infos:
                await changes.__anext__()
        calls = len(node.visits)
        assert (await call(scene)).value is None
        assert isinstance(scene.error(node), UnknownIdentity)
        assert scene.state(node) == "failed"
        assert len(node.visits) == calls
        assert scene.cluster.snapshot().reports_pending == 0
        scene.crunch.orchestrator.announce(node.entry())
        await scene.cluster.wait_for_models(1)
        assert (await call(scene)).unwrap() == "here"
    assert scene.crunch.reports == []


async def test_a_busy_node_is_asked_again_and_not_blamed(credentials: SecureCredentials, node: Node) -> None:
    times = 3

    def behave(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        nonlocal times
        times -= 1
        return busy(context) if times else answer()

    node.behave = behave
    async with coordinating(node, credentials=credentials) as scene:
        assert (await call(scene)).unwrap() == "here"
        assert node.methods == ["Check", "Setup", "Call", "Call", "Call"]
        assert counts_of(scene.cluster.models["7"]) == (0, 0, 0)


async def test_an_error_without_metadata_is_taken_as_it_is_and_no_failed_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    async with coordinating(node, credentials=credentials) as scene:
        node.refusal = grpc.StatusCode.UNAUTHENTICATED
        result = await call(scene)
        assert result.status is Status.FAILED
        assert "UNAUTHENTICATED" in result.detail
        assert scene.state(node) == "ready"
        assert failures_of(scene.cluster.models["7"]) == 0


async def test_an_error_behind_a_forged_proof_is_a_failed_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    forged = STRANGER.delegate(node.public_key, model_id="7")
    node.behave = lambda request, context: busy(context)
    async with coordinating(node, credentials=credentials) as scene:
        node.proof = lambda method: forged
        await check_distrusted(scene, node, await call(scene), "the node's wallet is")


async def test_an_answer_that_is_refused_before_it_was_read_must_be_proved_too(
    node: Node, credentials: SecureCredentials
) -> None:
    node.behave = lambda request, context: answer("x" * 10_000)
    limits = Limits(max_message_bytes=5000)
    async with coordinating(node, credentials=credentials, limits=limits) as scene:
        node.proof = lambda method: ()
        result = await call(scene)
        assert result.status is Status.FAILED
        assert isinstance(result.error, ProofFailed)


async def test_a_setup_whose_answer_is_not_proved_does_not_make_a_model_ready(
    credentials: SecureCredentials, node: Node
) -> None:
    good, forged = node.delegate(), node.delegate(model_id="8")
    node.proof = lambda method: forged if method == "Setup" else good
    joined: list[Any] = []

    async def on_join(join: Any) -> None:
        joined.append(join)

    async with coordinating(node, credentials=credentials, on_join=on_join) as scene:
        assert "model_id '8'" in (await scene.first_report())["failure_reason"]
        assert scene.state(node) == "failed"
        assert joined == []


async def test_an_unproved_answer_in_on_join_keeps_the_model_out(
    credentials: SecureCredentials, node: Node
) -> None:
    good, forged = node.delegate(), node.delegate(model_id="8")
    node.proof = lambda method: forged if method == "Call" else good

    async def on_join(join: Any) -> None:
        (await join.model.call("tick")).unwrap()

    async with coordinating(node, credentials=credentials, on_join=on_join) as scene:
        assert "model_id '8'" in (await scene.first_report())["failure_reason"]
        assert isinstance(scene.error(node), ProofFailed)
        assert node.methods == ["Check", "Setup", "Call"]


async def test_other_calls_in_flight_are_not_blamed_for_a_failed_proof(
    credentials: SecureCredentials, node: Node
) -> None:
    """One more call is on its way when an answer of the same node is not its own."""
    forged = node.delegate(model_id="8")
    async with coordinating(node, credentials=credentials) as scene:
        node.proof = lambda method: forged
        results: list[Any] = []

        async def call_once() -> None:
            results.append(await call(scene))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(call_once)
        await until(scene.cluster, lambda: scene.state(node) == "failed")
        await scene.first_report()
        assert {result.value for result in results} == {None}
        assert Status.SUCCESS not in {result.status for result in results}
        assert len(scene.crunch.reports) == 1
