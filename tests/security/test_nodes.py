"""Connections to secure nodes: over TLS, from real servers, and what other credentials ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from helpers.secure_nodes import (
    BUSY,
    Metadata,
    Wallet,
    call,
    connected,
    public_key_of,
    secure_node,
    write_credentials,
)

from trio_model_runner.errors import ProofFailed
from trio_model_runner.security import SecureCredentials
from trio_model_runner.security.delegation import WALLET, ConnectionProof, UnknownIdentity
from trio_model_runner.security.node_security import NodeSecurity, node_security

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUTHORITY = trustme.CA()
PUBLIC_KEY = public_key_of(AUTHORITY.issue_cert("other.example").cert_chain_pems[0].bytes())
PARTICIPANT = Wallet()
STRANGER = Wallet()


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> NodeSecurity:
    directory: Path = write_credentials(tmp_path_factory.mktemp("credentials"), AUTHORITY)
    return node_security(SecureCredentials.from_directory(directory))


async def ask(
    nursery: trio.Nursery, security: NodeSecurity, metadata: Callable[[bytes], Metadata]
) -> ConnectionProof:
    """Prove a connection to a node that shows this, by a health check."""
    with secure_node(AUTHORITY, metadata) as port:
        async with connected(nursery, security, port) as connection:
            proof = security.proof(connection.peer_certificate)
            assert proof is not None
            assert not proof.holds(PARTICIPANT.identity())
            answer = await call(connection, security).perform(5)
            proof.verify(answer.metadata, PARTICIPANT.identity())
            return proof


async def test_a_health_check_proves_a_secure_node(nursery: trio.Nursery, security: NodeSecurity) -> None:
    assert (await ask(nursery, security, PARTICIPANT.delegate)).holds(PARTICIPANT.identity())


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (lambda key: (), "without a proof"),
        (lambda key: PARTICIPANT.delegate(key)[:2], f"no {WALLET}"),
        (STRANGER.delegate, "wallet is"),
        (lambda key: (*STRANGER.delegate(key)[:2], (WALLET, PARTICIPANT.address)), "signature"),
        (lambda key: PARTICIPANT.delegate(PUBLIC_KEY), "another TLS key"),
        (lambda key: PARTICIPANT.delegate(key, model_id="1"), "model_id '1'"),
        (lambda key: PARTICIPANT.delegate(key, hotkey="1"), "hotkey '1'"),
        (lambda key: PARTICIPANT.delegate(key, expires_at=1), "expired"),
        (lambda key: PARTICIPANT.delegate(key) * 2, "more than once"),
    ],
)
async def test_a_server_that_breaks_one_condition_is_not_proved(
    nursery: trio.Nursery, security: NodeSecurity, metadata: Callable[[bytes], Metadata], said: str
) -> None:
    with pytest.raises(ProofFailed, match=said):
        await ask(nursery, security, metadata)


async def test_an_error_after_the_proof_has_the_proof_and_one_before_it_has_not(
    nursery: trio.Nursery, security: NodeSecurity
) -> None:
    with secure_node(AUTHORITY, PARTICIPANT.delegate) as port:
        async with connected(nursery, security, port) as connection:
            busy = call(connection, security, BUSY)
            with pytest.raises(GRPCError, match="Server busy"):
                await busy.perform(5)
            assert not busy.trailers_only
            unknown = call(connection, security, "/no.such/Method")
            with pytest.raises(GRPCError) as raised:
                await unknown.perform(5)
            assert raised.value.status is Status.UNIMPLEMENTED
            assert unknown.trailers_only


async def test_a_node_must_have_the_name_of_its_model(nursery: trio.Nursery, security: NodeSecurity) -> None:
    with (
        secure_node(AUTHORITY, PARTICIPANT.delegate, model_id="other") as port,
        pytest.raises(ConnectionError, match=r"not valid for 'model-node-13367\.crunchdao\.internal'"),
    ):
        async with connected(nursery, security, port):
            raise AssertionError


async def test_a_node_must_be_certified_by_the_authority(
    nursery: trio.Nursery, security: NodeSecurity
) -> None:
    with (
        secure_node(trustme.CA(), PARTICIPANT.delegate) as port,
        pytest.raises(ConnectionError, match="not to be trusted"),
    ):
        async with connected(nursery, security, port):
            raise AssertionError


@pytest.mark.parametrize(
    "model_id", ["", "a b", "a/b", "*", "\x00", "é", "x" * 60, "a..b", ".", "a\n", "[::1]"]
)
def test_a_model_id_that_no_certificate_could_name_is_refused(security: NodeSecurity, model_id: str) -> None:
    for ask_name in (security.tls, lambda each: security.authority(each, "")):
        with pytest.raises(UnknownIdentity, match="no certificate could name"):
            ask_name(model_id)


async def test_without_credentials_nothing_is_asked_for() -> None:
    security = node_security(None)
    assert security.tls("1") is None
    assert security.authority("1", "node:50051") == "node:50051"
    assert security.proof(None) is None
    assert security.ready_metadata("1", "/a.b/C") == ()
    assert await security.call_metadata("1", "/a.b/C") == ()
