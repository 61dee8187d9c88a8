"""The way to each node: name, TCP, TLS, HTTP/2, and a health check with the proof that its answer brings.

It is the way that `model.bringing_up` takes, one stage at a time, and it ends before a Setup: a node notices
no more than a health check. Many nodes are asked side by side, each for a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio
from grpclib.exceptions import GRPCError

from ...errors import ProofFailed
from ...groups import describe
from ...model.bringing_up import HEALTH_CHECK
from ...model.node_connection import NodeBusyError, NodeConnection, status_text
from ...model.policy import is_unknown_method
from ...network import address_text
from ...network.tls import TLSNetwork
from ...orchestrator import Entry, RunState
from ...proto.grpc.health.v1 import HealthCheckResponse, HealthCheckResponseServingStatus
from ...rpc.connection import Connection
from ...rpc.ending import EndCause
from ...rpc.receiver import CallInterrupted
from ...security.delegation import carries_proof
from ...security.gateway import GatewayCredentials
from ...security.node_security import NodeSecurity, node_security
from .advice import (
    Place,
    of_name,
    of_no_health_service,
    of_no_node,
    of_node_end,
    of_proof,
    of_silence,
    of_tcp,
    of_tls,
)
from .findings import NodeReport, Stage, Trouble
from .streams import OpenStream, speaks_tls

if TYPE_CHECKING:
    from ...config import ClusterConfig
    from ...model.handle import ModelRunner

__all__ = ["AT_ONCE", "check_nodes"]

AT_ONCE: Final = 200
"""So many nodes are asked at the same time; a process may have 1,024 open files."""


async def check_nodes(
    config: ClusterConfig,
    entries: Iterable[Entry],
    timeout: float,
    on_report: Callable[[NodeReport], None] = lambda report: None,
    *,
    models: Sequence[str] = (),
) -> list[NodeReport]:
    """Go the way to the node of each model that runs.

    Args:
        config: the settings.
        entries: what the orchestrator lists.
        timeout: seconds that each node may take, from its name to its answer.
        on_report: is told of each node when it is done.
        models: the ids of the only models to look at, each of which must run; empty takes all.
    """
    security = node_security(config.credentials, clock_leeway=config.clock_leeway)
    limiter = trio.CapacityLimiter(AT_ONCE)
    each_once = {(entry.model_id, entry.deployment_id): entry for entry in entries}
    listed = [entry for entry in each_once.values() if not models or entry.model_id in models]
    running = [entry for entry in listed if entry.state is RunState.RUNNING]
    reports: dict[int, NodeReport] = {}

    async def check(number: int, entry: Entry) -> None:
        async with limiter:
            reports[number] = await _Way(config, security, entry, timeout).check()
        on_report(reports[number])

    async with trio.open_nursery() as nursery:
        for number, entry in enumerate(running):
            nursery.start_soon(check, number, entry)
    return [reports[number] for number in sorted(reports)] + _not_running(models, listed)


def _not_running(models: Iterable[str], listed: Sequence[Entry]) -> list[NodeReport]:
    """A report on each of these models that has no node."""
    states: dict[str, set[RunState]] = {model_id: set() for model_id in models}
    for entry in listed:
        states.get(entry.model_id, set()).add(entry.state)
    return [
        NodeReport(model_id, "", trouble=of_no_node(sorted(each)))
        for model_id, each in states.items()
        if RunState.RUNNING not in each
    ]


@attrs.frozen
class _Model:
    """As much of a model as a connection to its node needs."""

    model_id: str
    host: str
    port: int
    infos: Mapping[str, Any]


class _Way:
    """The way to one node.

    Attributes:
        stage: the stage that is under way.
    """

    def __init__(self, config: ClusterConfig, security: NodeSecurity, entry: Entry, timeout: float) -> None:
        self.stage = Stage.NAME
        self._config = config
        self._security = security
        self._entry = entry
        self._timeout = timeout
        self._address = address_text(entry.host, entry.port)
        self._encrypted = config.credentials is not None
        self._place = Place.GATEWAY if isinstance(config.credentials, GatewayCredentials) else Place.NODE

    async def check(self) -> NodeReport:
        """Go it."""
        report = NodeReport(self._entry.model_id, self._address)
        with trio.move_on_after(self._timeout):
            stream = await self._open()
            if isinstance(stream, Trouble):
                return attrs.evolve(report, trouble=stream)
            return await self._ask(stream, report)
        what = {
            Stage.NAME: "the resolver does not answer",
            Stage.TCP: "no answer",
            Stage.TLS: "no answer to the TLS handshake",
            Stage.HTTP2: "connected, but silent",
        }.get(self.stage, "no answer to the health check")
        return attrs.evolve(
            report, trouble=of_silence(self.stage, what, self._address, self._timeout, self._place)
        )

    async def _open(self) -> trio.abc.Stream | Trouble:
        """The stream that HTTP/2 goes over."""
        network, host, port = self._config.node_network, self._entry.host, self._entry.port
        try:
            await network.look_up(host)
        except OSError as error:
            return of_name(error, self._place)
        self.stage = Stage.TCP
        try:
            stream = await network.connect(host, port)
        except OSError as error:
            return of_tcp(error, self._address, self._place)
        try:
            parameters = self._security.tls(self._entry.model_id)
        except ProofFailed as error:
            await trio.aclose_forcefully(stream)
            return of_proof(error)
        if parameters is None:
            return stream
        self.stage = Stage.TLS
        tls = TLSNetwork(parameters.context, OpenStream(stream), server_hostname=parameters.server_hostname)
        try:
            return await tls.connect(host, port)
        except OSError as error:
            return of_tls(error, self._place)

    async def _ask(self, stream: trio.abc.Stream, report: NodeReport) -> NodeReport:
        self.stage = Stage.HTTP2
        limits = self._config.limits
        connection = Connection(stream, peer=self._address, max_header_bytes=limits.max_header_bytes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            try:
                report = await self._ask_health(connection, report)
            finally:
                with trio.CancelScope(shield=True):
                    await connection.aclose(0.2)
        return report

    async def _ask_health(self, connection: Connection, report: NodeReport) -> NodeReport:
        began = trio.current_time()
        proved: bool | None = None
        try:
            await connection.wait_ready()
            self.stage = Stage.HEALTH
            entry = self._entry
            model = cast("ModelRunner", _Model(entry.model_id, entry.host, entry.port, entry.infos))
            node = NodeConnection(connection, model, self._security, self._config.limits)
            call = await node.new_call(HEALTH_CHECK, unproved=True)
            await call.run(self._timeout)
            trouble = self._read(node, call, began)
            proved = carries_proof(call.headers) and trouble is None if node.has_proof else None
        except (CallInterrupted, OSError) as error:
            trouble = await self._of_end(connection, error)
        seconds = None if trouble is not None else trio.current_time() - began
        return attrs.evolve(report, seconds=seconds, proved=proved, trouble=trouble)

    def _read(self, node: NodeConnection, call: Any, began: float) -> Trouble | None:
        try:
            answer = node.answer(call, asked_at=began, exempt=True)
            status = HealthCheckResponse().parse(answer.message).status
        except ProofFailed as error:
            return of_proof(error)
        except NodeBusyError:
            return None  # it answers, and that is what was asked
        except GRPCError as error:
            if is_unknown_method(error):
                return of_no_health_service(self._address)
            return Trouble(
                Stage.HEALTH, "the health check is refused", status_text(error), self._place.value.other
            )
        except ValueError as error:
            return Trouble(
                Stage.HEALTH, "the health check can't be read", str(error), self._place.value.other
            )
        if status != HealthCheckResponseServingStatus.SERVING:
            name = getattr(status, "name", None) or str(status)
            return Trouble(
                Stage.HEALTH, f"health is {name}, not SERVING", self._address, self._place.value.other
            )
        return None

    async def _of_end(self, connection: Connection, error: Exception) -> Trouble:
        loss, encrypted = connection.loss, self._encrypted
        if loss is not None:
            answered, tls = self.stage is Stage.HEALTH, False
            if not answered and not encrypted and loss.cause is not EndCause.SPEAKS_HTTP1:
                tls = await speaks_tls(self._config.node_network, self._entry.host, self._entry.port)
            return of_node_end(
                loss, self._address, self._place, answered=answered, encrypted=encrypted, tls=tls
            )
        return Trouble(self.stage, "the connection was lost", describe(error), self._place.value.other)
