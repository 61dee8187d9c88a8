"""A cluster that only observes takes a node's certificate, and its proof where a health check brings one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme
from helpers.secure_crunch import AUTHORITY, PROMPT, STRANGER, Node
from helpers.secure_nodes import write_credentials

from trio_model_runner import Cluster, ModelState, ProofFailed, SecureCredentials
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.config import Keepalive
from trio_model_runner.proto.dynamic_subclass import CallRequest, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthStub
from trio_model_runner.testing import LocalCrunch


@pytest.fixture
def credentials(tmp_path: Path) -> SecureCredentials:
    return SecureCredentials.from_directory(write_credentials(tmp_path, AUTHORITY))


@contextlib.asynccontextmanager
async def observing(
    node: Node, credentials: SecureCredentials, **infos: str | None
) -> AsyncIterator[Cluster]:
    async with LocalCrunch() as crunch:
        crunch.orchestrator.announce(node.entry(**infos))
        config = crunch.config(
            credentials=credentials, backoff=PROMPT, startup_timeout=30.0, keepalive=Keepalive(interval=0.05)
        )
        async with Cluster(config) as cluster:
            yield cluster


async def test_a_node_that_proves_itself_is_reachable_and_is_asked_for_nothing_but_health(
    credentials: SecureCredentials,
) -> None:
    with Node() as node:
        async with observing(node, credentials) as cluster:
            model = cluster.models["7"]
            assert model.state is ModelState.REACHABLE
            answer = await HealthStub(model.channel).check(HealthCheckRequest(), timeout=10.0)
            assert answer.status == 1
        assert set(node.methods) == {"Check"}


async def test_a_node_whose_health_checks_prove_nothing_is_reachable_and_gets_nothing_of_value(
    credentials: SecureCredentials,
) -> None:
    with Node() as node:
        node.proof = lambda method: ()
        async with observing(node, credentials, cruncher_wallet_pubkey=None) as cluster:
            model = cluster.models["7"]
            stub = DynamicSubclassServiceStub(model.channel)
            with pytest.raises(CallInterrupted, match="has not proved"):
                await stub.call(CallRequest(), timeout=10.0)
            assert model.state is ModelState.REACHABLE
        assert set(node.methods) == {"Check"}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_a_proof_that_is_not_the_model_s_is_found(credentials: SecureCredentials, later: bool) -> None:
    with Node() as node:
        wrong = STRANGER.delegate(node.public_key, model_id="7")
        if not later:
            node.proof = lambda method: wrong
        async with observing(node, credentials) as cluster:
            model = cluster.announced["7"]
            node.proof = lambda method: wrong
            with trio.fail_after(30):
                while model.state is not ModelState.FAILED:
                    await cluster._fleet.changed.wait()
            assert isinstance(model.error, ProofFailed)
            assert "the node's wallet is" in str(model.error)


@pytest.mark.parametrize("authority", [AUTHORITY, trustme.CA()], ids=["name", "authority"])
async def test_a_certificate_that_is_not_the_model_s_is_found(
    credentials: SecureCredentials, authority: trustme.CA
) -> None:
    with Node(authority=authority, names=("model-node-8.crunchdao.internal",)) as node:
        async with observing(node, credentials) as cluster:
            model = cluster.announced["7"]
            assert model.state is ModelState.FAILED
            assert isinstance(model.error, ProofFailed)
