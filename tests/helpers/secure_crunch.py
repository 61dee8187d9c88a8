"""A crunch whose nodes speak TLS: real servers that write down what they are sent, and a local orchestrator.

The nodes answer as deployed ones do, on grpcio, and what they prove can be changed at any time. `network`
counts the connections, since a server in a library says nothing of those whose handshake failed.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import attrs
import grpc
import trio
import trustme

from helpers.secure_nodes import HOTKEY, Metadata, Wallet, public_key_of
from trio_model_runner import Cluster, DynamicSubclassService
from trio_model_runner.config import Backoff, Health
from trio_model_runner.network import Network, TCPNetwork
from trio_model_runner.proto.commons import Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, SetupRequest, SetupResponse
from trio_model_runner.proto.grpc.health.v1 import HealthCheckResponse
from trio_model_runner.services import NodeService
from trio_model_runner.testing import LocalCrunch

if TYPE_CHECKING:
    from types import TracebackType

AUTHORITY = trustme.CA()
PARTICIPANT = Wallet()
STRANGER = Wallet()
SERVICE = DynamicSubclassService("crunch.ClassifiedName")
PROMPT = Backoff(attempts=3, initial=0.001, maximum=0.01)
ALONE = Health(require_witness=False, mass_window=0.05)

Behaviour = Callable[[CallRequest, grpc.ServicerContext], CallResponse]


@attrs.frozen
class Visit:
    """A request that reached a node.

    Attributes:
        method: its name alone.
        request: the message.
        metadata: what came with it.
        peer: the connection that it came on.
    """

    method: str
    request: bytes
    metadata: dict[str, str]
    peer: str


def answer(text: str = "here") -> CallResponse:
    return CallResponse(
        status=Status(code="SUCCESS"),
        method_response=Variant(type=VariantType.STRING, value=text.encode()),
    )


def busy(context: grpc.ServicerContext) -> CallResponse:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server busy")
    raise AssertionError


class Node(grpc.GenericRpcHandler):
    """One model's node.

    Args:
        model_id: the model.
        authority: who makes its certificate; None serves plaintext.
        names: what the certificate says; by default the model's own name.
        mutual: clients must have a certificate of the authority's.
        wallet: the participant's.

    Attributes:
        proof: gives the metadata that an answer begins with, for a method's name.
        refusal: the status with which every request is refused before anything else.
        behave: what a call does.
        visits: what came, oldest first.
    """

    def __init__(
        self,
        model_id: str = "7",
        *,
        authority: trustme.CA | None = AUTHORITY,
        names: tuple[str, ...] = (),
        mutual: bool = True,
        wallet: Wallet = PARTICIPANT,
    ) -> None:
        self.model_id = model_id
        self.wallet = wallet
        self.refusal: grpc.StatusCode | None = None
        self.behave: Behaviour = lambda request, context: answer()
        self.visits: list[Visit] = []
        self._instance = False
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(2)
        self._server = grpc.server(self._executor)
        self._server.add_generic_rpc_handlers((self,))
        self.public_key = b""
        if authority is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            certificate = authority.issue_cert(*(names or (f"model-node-{model_id}.crunchdao.internal",)))
            key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
            self.public_key = public_key_of(chain)
            credentials = grpc.ssl_server_credentials(
                [(key, chain)], AUTHORITY.cert_pem.bytes() if mutual else None, require_client_auth=mutual
            )
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        good = self.delegate()
        self.proof: Callable[[str], Metadata] = lambda method: good

    def delegate(self, **fields: Any) -> Metadata:
        """A good proof, or one with other fields."""
        return self.wallet.delegate(self.public_key, **{"model_id": self.model_id} | fields)

    @property
    def methods(self) -> list[str]:
        """The names of the methods that were asked for."""
        return [visit.method for visit in self.visits]

    def entry(self, **infos: Any) -> dict[str, Any]:
        """What an orchestrator says of it, with other infos."""
        known = {
            "model_name": f"model {self.model_id}",
            "cruncher_wallet_pubkey": self.wallet.address,
            "cruncher_hotkey": HOTKEY,
        }
        return {
            "deployment_id": f"deployment-of-{self.model_id}",
            "model_id": self.model_id,
            "state": "RUNNING",
            "ip": "127.0.0.1",
            "port": self.port,
            "infos": {name: value for name, value in (known | infos).items() if value is not None},
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method.rpartition("/")[2]
        metadata = {key: str(value) for key, value in details.invocation_metadata}

        def serve(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.visits.append(Visit(method, request, metadata, context.peer()))
            if self.refusal is not None:
                context.abort(self.refusal, "TLS certificate hash does not match registered certificate")
            if proof := self.proof(method):
                context.send_initial_metadata(proof)
            return self._respond(method, request, context)

        return grpc.unary_unary_rpc_method_handler(serve)

    def _respond(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == "Check":
            return bytes(HealthCheckResponse(status=1))  # type: ignore[arg-type]
        if method == "Setup":
            return bytes(SetupResponse(status=self._set_up(SetupRequest.FromString(request).class_name)))
        return bytes(self.behave(CallRequest.FromString(request), context))

    def _set_up(self, class_name: str) -> Status:
        with self._lock:
            if self._instance:
                return Status(code="SUCCESS", message="Instance already exists")
            if not class_name:
                return Status(code="INVALID_ARGUMENT", message="no class name")
            self._instance = True
        return Status(code="SUCCESS", message="Instance created successfully")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()
        self._executor.shutdown()


class CountingNetwork(Network):
    """TCP that counts the connections to each port."""

    def __init__(self) -> None:
        self.connections: Counter[int] = Counter()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.connections[port] += 1
        return await TCPNetwork().connect(host, port)


@attrs.frozen
class Scene:
    """A cluster, and the crunch that it coordinates.

    Attributes:
        network: counts the cluster's connections.
    """

    crunch: LocalCrunch
    cluster: Cluster
    network: CountingNetwork

    def state(self, node: Node) -> str:
        return self.cluster.announced[node.model_id].state.value

    def error(self, node: Node) -> BaseException | None:
        return self.cluster.announced[node.model_id].error

    def connections(self, node: Node) -> int:
        return self.network.connections[node.port]

    async def first_report(self) -> dict[str, Any]:
        with trio.fail_after(30):
            await self.crunch.orchestrator.wait_for_reports(1)
        return self.crunch.reports[0]


@contextlib.asynccontextmanager
async def coordinating(
    *nodes: Node | dict[str, Any], service: NodeService = SERVICE, on_join: Any = None, **settings: Any
) -> AsyncIterator[Scene]:
    """Coordinate these nodes, or what an orchestrator says of them; one that is alone can be reported."""
    network = CountingNetwork()
    defaults = {"network": network, "backoff": PROMPT, "startup_timeout": 30.0, "health": ALONE}
    settings = defaults | settings
    async with LocalCrunch() as crunch:
        crunch.orchestrator.announce(*(each.entry() if isinstance(each, Node) else each for each in nodes))
        async with Cluster(crunch.config(**settings), service, on_join=on_join) as cluster:
            yield Scene(crunch, cluster, network)


def changed_proofs(node: Node) -> dict[str, tuple[Metadata, str]]:
    """Proofs that are not the node's, by what they are: each with the reason why it is none."""
    return {
        "nothing": ((), "without a proof"),
        "a part": (node.delegate()[:2], "has no x-server-wallet-pubkey"),
        "a stranger's": (STRANGER.delegate(node.public_key, model_id="7"), "the node's wallet is"),
        "another model's": (node.delegate(model_id="8"), "model_id '8'"),
        "an expired one": (node.delegate(expires_at=1_700_000_000), "has expired"),
    }
