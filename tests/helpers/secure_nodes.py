"""Nodes in secure mode, on grpcio, with certificates of a test's own authority and a wallet's word for them.

They do what deployed secure nodes do: TLS with certificates both ways, and the proof as initial metadata of
every unary answer, sent before the method runs, so that errors of the method come after it, too.
"""

from __future__ import annotations

import base64
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from trio_model_runner.network import TCPNetwork
from trio_model_runner.network.tls import TLSNetwork
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.protocol import request_fields
from trio_model_runner.security.delegation import NodeIdentity
from trio_model_runner.testing import wallet as testing
from trio_model_runner.testing.wallet import Metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import trio
    import trustme

    from trio_model_runner.rpc.connection import Connection
    from trio_model_runner.security.node_security import NodeSecurity

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
BUSY = "/dynamic_subclass.DynamicSubclassService/Call"
MODEL_ID = "13367"
HOTKEY = "DefdJmxDmABxtreRA2VjoR9ssoTkipfh45F9mM8H5VZ9"


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def public_key_of(certificate_pem: bytes) -> bytes:
    key = load_pem_x509_certificate(certificate_pem).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Wallet(testing.Wallet):
    """A participant's wallet, which vouches for this model by default."""

    def identity(self, model_id: str = MODEL_ID, hotkey: str = HOTKEY) -> NodeIdentity:
        return NodeIdentity(model_id, self.address, hotkey)

    def delegate(self, public_key: bytes, **fields: Any) -> Metadata:
        """Vouch for a TLS key; fields of the message can be changed, or left out by None."""
        return super().delegate(public_key, **{"hotkey": HOTKEY, "model_id": MODEL_ID} | fields)


class _SendsProof(grpc.ServerInterceptor):
    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler.unary_unary

        def proving(request: Any, context: grpc.ServicerContext) -> Any:
            context.send_initial_metadata(self._metadata)
            return method(request, context)

        return grpc.unary_unary_rpc_method_handler(
            proving, handler.request_deserializer, handler.response_serializer
        )


def _check(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
    return HealthCheckResponse(status=1)  # type: ignore[arg-type]


def _refuse_as_busy(request: bytes, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server busy")


@contextlib.contextmanager
def secure_node(
    authority: trustme.CA, metadata: Callable[[bytes], Metadata], *, model_id: str = MODEL_ID
) -> Iterator[int]:
    """Run a secure node; gives its port. `metadata` makes what it sends along from its public key."""
    certificate = authority.issue_cert(f"model-node-{model_id}.crunchdao.internal")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    check = grpc.unary_unary_rpc_method_handler(
        _check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
    )
    busy = grpc.unary_unary_rpc_method_handler(_refuse_as_busy, None, None)
    handlers = (
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
        grpc.method_handlers_generic_handler("dynamic_subclass.DynamicSubclassService", {"Call": busy}),
    )
    credentials = grpc.ssl_server_credentials(
        [(key, chain)], authority.cert_pem.bytes(), require_client_auth=True
    )
    with ThreadPoolExecutor(2) as executor:
        server = grpc.server(executor, interceptors=[_SendsProof(metadata(public_key_of(chain)))])
        server.add_generic_rpc_handlers(handlers)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


def write_credentials(directory: Path, authority: trustme.CA, *, name: str = "coordinator") -> Path:
    """Make a directory as the platform's tool does: ``ca.crt``, ``tls.crt``, ``tls.key``."""
    certificate = authority.issue_cert(f"{name}@example.org", common_name=name)
    directory.mkdir(exist_ok=True)
    authority.cert_pem.write_to_path(directory / "ca.crt")
    certificate.cert_chain_pems[0].write_to_path(directory / "tls.crt")
    certificate.private_key_pem.write_to_path(directory / "tls.key")
    (directory / "tls.key").chmod(0o600)
    return directory


@contextlib.asynccontextmanager
async def connected(
    nursery: trio.Nursery, security: NodeSecurity, port: int, model_id: str = MODEL_ID
) -> AsyncIterator[Connection]:
    tls = security.tls(model_id)
    assert tls is not None
    network = TLSNetwork(tls.context, TCPNetwork(), server_hostname=tls.server_hostname)
    connection = await open_connection(nursery, network, "127.0.0.1", port)
    try:
        yield connection
    finally:
        await connection.aclose()


def call(
    connection: Connection, security: NodeSecurity, path: str = HEALTH_CHECK, *, model_id: str = MODEL_ID
) -> UnaryCall:
    fields = request_fields(path, scheme="https", authority=security.authority(model_id, connection.peer))
    return UnaryCall(connection, fields, (b"",), max_message_bytes=1 << 20)
