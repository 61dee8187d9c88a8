"""A node that answers with expired proofs, while it could do better, escapes no report.

Its connection is proved for long. What it gives with its answers is another proof, which is its
participant's, too. (In `test_lapsed_proofs` nodes have no other proof.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from helpers.secure_crunch import Node, Scene, coordinating

from trio_model_runner import Arguments, ProofFailed, SecureCredentials, Status
from trio_model_runner.config import Health
from trio_model_runner.security.delegation import ProofLapsed


@pytest.fixture
def others() -> Iterator[list[Node]]:
    with Node("8") as first, Node("9") as second:
        yield [first, second]


async def call(scene: Scene) -> Any:
    return (await scene.cluster.call("predict", Arguments("payload"))).by_id["7"]


async def test_an_answer_with_a_proof_that_had_expired_when_it_was_asked_is_the_nodes_fault(
    credentials: SecureCredentials, node: Node
) -> None:
    good = node.proof("Check")
    async with coordinating(node, credentials=credentials, clock_leeway=0.0) as scene:
        expired = node.delegate(expires_at=time.time())  # after the connection was proved
        await trio.sleep(0.01)  # so that it has expired for certain when the request is sent
        node.proof = lambda method: expired if method == "Call" else good
        result = await call(scene)
        assert (result.status, type(result.error)) == (Status.FAILED, ProofFailed)
        assert "has expired" in (await scene.first_report())["failure_reason"]
        assert scene.state(node) == "failed"
        assert scene.connections(node) == 1
    assert [report["failure_code"] for report in scene.crunch.reports] == ["CONNECTION_FAILED"]


async def test_who_lets_a_proof_expire_in_each_answer_is_unserved(
    credentials: SecureCredentials, node: Node, others: list[Node]
) -> None:
    good = node.proof("Check")

    def expire_soon(method: str) -> Any:
        if method != "Call":
            return good
        time.sleep(0.01)  # so that it held for certain when the request was sent
        return node.delegate(expires_at=time.time())

    health = Health(mass_window=0.05, unserved=0.01)
    async with coordinating(node, *others, credentials=credentials, clock_leeway=0.0, health=health) as scene:
        await scene.cluster.wait_for_models(3)
        node.proof = expire_soon
        for _ in range(4):
            result = await call(scene)
            assert (result.status, type(result.error)) == (Status.FAILED, ProofLapsed)
        assert (await scene.first_report())["failure_reason"].startswith("unserved: 4 calls of predict")
    assert [report["model_id"] for report in scene.crunch.reports] == ["7"]
