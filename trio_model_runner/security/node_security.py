"""What a model's connections and calls need of credentials: the same questions for every kind of them.

The code that opens a connection to a node asks, in this order:

- `NodeSecurity.tls` for the TLS under HTTP/2, and `NodeSecurity.authority` for the ``:authority`` of
  requests;
- `NodeSecurity.failed_proof` if the connection can't be opened;
- `NodeSecurity.proof` for each connection. If there is a proof, nothing secret may be sent unless it holds
  (`ConnectionProof.holds`) at that moment, and answers that it does not accept must not be used.

Each call carries `NodeSecurity.call_metadata`. Without credentials, there is none of all this.

A connection must be proved by a call without secrets. A Setup is no such call: it carries the class and its
arguments. A health check is one, since deployed secure nodes send their proof with every unary answer.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

import attrs

from ..errors import ProofFailed
from ..text import quoted
from .delegation import ConnectionProof, UnknownIdentity
from .gateway import GatewayCredentials
from .secure import SecureCredentials
from .tls import client_context
from .tokens import TokenMaker, TokenMetadata

__all__ = [
    "GatewaySecurity",
    "NodeSecurity",
    "SecureSecurity",
    "TLSParameters",
    "node_security",
]

_HEALTH_SERVICE: Final = "/grpc.health.v1.Health/"
_DNS_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


@attrs.frozen
class TLSParameters:
    """How TLS is spoken with one node.

    Attributes:
        context: the trusted authorities, and our certificate.
        server_hostname: the name that the node's certificate must have; None for the host's own.
    """

    context: ssl.SSLContext
    server_hostname: str | None = None


class NodeSecurity:
    """How one cluster's connections to its nodes are secured. This base class is for plaintext.

    Attributes:
        has_proofs: nodes must prove whose they are; see `proof`.
        has_tokens: calls carry tokens, which `call_metadata` makes.
    """

    has_proofs: bool = False
    has_tokens: bool = False

    def tls(self, model_id: str) -> TLSParameters | None:
        """The parameters of TLS with a model's node; None for plaintext.

        Raises:
            UnknownIdentity: no certificate can have the model's name.
        """
        return None

    def authority(self, model_id: str, address: str) -> str:
        """The ``:authority`` of requests.

        Args:
            model_id: the model's id.
            address: where its node is, host and port.

        Raises:
            UnknownIdentity: see `tls`.
        """
        return address

    def failed_proof(self, error: OSError) -> ProofFailed | None:
        """The failed proof, if connecting ended in `error` because of one; else None."""
        return None

    def proof(self, certificate: bytes | None) -> ConnectionProof | None:
        """The check for the proofs on a new connection; None if no proof is needed.

        Args:
            certificate: the certificate that the node showed on it (X.509, DER); None without TLS.
        """
        return None

    def ready_metadata(self, model_id: str, path: str) -> TokenMetadata | None:
        """What `call_metadata` would return, or None if it would wait."""
        return ()

    async def call_metadata(self, model_id: str, path: str) -> TokenMetadata:
        """The metadata of a call. It differs from call to call, so it should not go into HPACK's table.

        Args:
            model_id: the model that is called.
            path: "/package.Service/Method".
        """
        return ()


class SecureSecurity(NodeSecurity):
    """TLS with certificates on both sides, and a wallet's signature for every node's key."""

    has_proofs = True

    def __init__(self, credentials: SecureCredentials, *, clock_leeway: float) -> None:
        self._context = credentials.context
        self._clock_leeway = clock_leeway

    def tls(self, model_id: str) -> TLSParameters:
        """See `NodeSecurity.tls`."""
        return TLSParameters(self._context, _node_name(model_id))

    def authority(self, model_id: str, address: str) -> str:
        """See `NodeSecurity.authority`: the node's name, wherever it is."""
        return _node_name(model_id)

    def failed_proof(self, error: OSError) -> ProofFailed | None:
        """See `NodeSecurity.failed_proof`: a wrong certificate would be wrong again."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return ProofFailed(str(error))
            cause = cause.__cause__
        return None

    def proof(self, certificate: bytes | None) -> ConnectionProof:
        """See `NodeSecurity.proof`."""
        return ConnectionProof(certificate, clock_leeway=self._clock_leeway)


class GatewaySecurity(NodeSecurity):
    """TLS to a gateway, and a signed token with every call."""

    has_tokens = True

    def __init__(self, credentials: GatewayCredentials) -> None:
        self._context = client_context() if credentials.tls is None else credentials.tls
        self._tokens = TokenMaker(credentials.sign, credentials.public_key)

    def tls(self, model_id: str) -> TLSParameters:
        """See `NodeSecurity.tls`."""
        return TLSParameters(self._context)

    def ready_metadata(self, model_id: str, path: str) -> TokenMetadata | None:
        """See `NodeSecurity.ready_metadata`."""
        return () if path.startswith(_HEALTH_SERVICE) else self._tokens.ready(model_id)

    async def call_metadata(self, model_id: str, path: str) -> TokenMetadata:
        """See `NodeSecurity.call_metadata`: a token; health checks have none."""
        if path.startswith(_HEALTH_SERVICE):
            return ()
        return await self._tokens.make(model_id)


def node_security(
    credentials: SecureCredentials | GatewayCredentials | None, *, clock_leeway: float = 0.0
) -> NodeSecurity:
    """Make the `NodeSecurity` of a cluster from its credentials.

    Args:
        credentials: the coordinator's credentials; None for plaintext.
        clock_leeway: a proof is accepted for so many seconds after it expired.
    """
    match credentials:
        case SecureCredentials():
            return SecureSecurity(credentials, clock_leeway=clock_leeway)
        case GatewayCredentials():
            return GatewaySecurity(credentials)
        case _:
            return NodeSecurity()


def _node_name(model_id: str) -> str:
    """The name in the certificate of a model's node."""
    name = f"model-node-{model_id}.crunchdao.internal"
    if not model_id or not _DNS_NAME.fullmatch(name):
        shown = quoted(model_id, 64, ascii_only=True)
        raise UnknownIdentity(f"no certificate could name the node of a model with the id {shown}")
    return name
