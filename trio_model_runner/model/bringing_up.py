"""How a connection to a node is made, and made ready for calls: by the proof, and by the Setup.

A new connection may lead to another process than the last one, so both are done on each. If a proof is
needed, it comes first, by a health check: a Setup has the class and its arguments, and only the model's own
node may see these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from grpclib.exceptions import GRPCError

from ..network.tls import TLSNetwork
from ..rpc.connecting import open_connection
from ..services.base import NodeService, Request
from .node_connection import NodeBusyError, NodeConnection, status_text
from .policy import (
    Fact,
    Outcome,
    is_about_the_connection,
    is_unknown_method,
    outcome_of_fact,
    outcome_of_proof,
    outcome_of_setup,
    outcome_of_setup_error,
    succeeded,
)

if TYPE_CHECKING:
    from ..rpc.call import Answer
    from .handle import ModelRunner
    from .supervisor import Supervisor

__all__ = ["BringUpError", "connect", "prove", "set_up"]

_BUSY_RETRY: Final = 0.1
_HEALTH_CHECK: Final = Request("/grpc.health.v1.Health/Check")


class BringUpError(Exception):
    """A model can't be set up, and trying again at once would not help.

    Attributes:
        outcome: what this means.
        error: the exception behind it, if there is one.
    """

    def __init__(self, outcome: Outcome, reason: str, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.error = error


async def connect(nursery: trio.Nursery, model: ModelRunner, supervisor: Supervisor) -> NodeConnection:
    """Connect to a model's node.

    Args:
        nursery: the connection's tasks run in it.
        model: the model.
        supervisor: has the settings, the credentials, and the reader of sockets.

    Raises:
        ProofFailed: the node's certificate is not the model's.
        OSError: nothing answers there; see `rpc.connecting.open_connection`.
    """
    config, security = supervisor.config, supervisor.security
    network = config.node_network
    if (tls := security.tls(model.model_id)) is not None:
        network = TLSNetwork(tls.context, network, server_hostname=tls.server_hostname)
    try:
        async with supervisor.connect_limiter:
            connection = await open_connection(
                nursery,
                network,
                model.host,
                model.port,
                timeout=config.backoff.connect_timeout,
                max_header_bytes=config.limits.max_header_bytes,
                hub=supervisor.hub,
            )
    except OSError as error:
        if (failure := security.failed_proof(error)) is not None:
            raise failure from error
        raise
    return NodeConnection(connection, model, security, config.limits)


async def prove(node: NodeConnection, service: NodeService, timeout: float) -> None:
    """Have a node prove that it belongs to the model.

    If the health check is answered without a proof, or if the node has no health service, an empty Setup is
    sent. The proof comes with its answer: a refusal, or the text that there is an instance already.

    Args:
        node: the connection.
        service: the gRPC service that the node has.
        timeout: seconds that each request may take.

    Raises:
        BringUpError: the node did not answer in time, or refuses us. No report is made, and the orchestrator
            does not announce the model again when this ends; so the model is tried again after a while.
        ProofFailed: the node does not belong to the model.
        OSError, CallInterrupted: the connection failed.
    """
    node.identity()  # raises if no node could prove it
    try:
        try:
            await _ask(node, _HEALTH_CHECK, timeout, "the health check", exempt=True)
        except GRPCError as error:
            if not is_unknown_method(error):
                raise
        if node.must_prove:
            empty_setup = Request(service.setup_request().path)
            await _ask(node, empty_setup, timeout, "an empty Setup")
    except GRPCError as error:
        if node.must_prove:
            text = f"the node did not prove itself: {status_text(error)}"
            outcome = outcome_of_proof(error)
            if outcome is not None:
                raise BringUpError(outcome, text, error) from error
            raise ConnectionError(text) from error


async def set_up(node: NodeConnection, service: NodeService, timeout: float) -> bool:
    """Set a model up, and return whether that made a new instance.

    Args:
        node: the connection.
        service: the gRPC service that the node has.
        timeout: seconds that the setup may take.

    Raises:
        BringUpError: the Setup failed, or was not answered in time.
        ProofFailed: the answer does not come from the model's node.
        OSError, CallInterrupted: the connection failed.
    """
    try:
        answer = await _ask(node, service.setup_request(), timeout, "Setup")
        setup = service.read_setup(answer.message)
    except GRPCError as error:
        text = f"Setup: {status_text(error)}"
        raise BringUpError(outcome_of_setup_error(error), text, error) from error
    except ValueError as error:
        text = f"Setup: the answer can't be read: {error}"
        raise BringUpError(outcome_of_setup_error(error), text, error) from error
    outcome = outcome_of_setup(setup.code)
    if not succeeded(outcome):
        raise BringUpError(outcome, f"Setup: {setup.code}: {setup.message}")
    return setup.fresh


async def _ask(
    node: NodeConnection, request: Request, timeout: float, what: str, *, exempt: bool = False
) -> Answer:
    """Send a request, again and again while the node is busy with something else."""
    with trio.move_on_after(timeout):
        while True:
            call = await node.new_call(request)
            await call.run(timeout)
            try:
                return node.answer(call, exempt=exempt)
            except GRPCError as error:
                if is_about_the_connection(error):
                    raise ConnectionError(f"{what}: {status_text(error)}") from error
                raise
            except NodeBusyError:
                pass
            await trio.sleep(_BUSY_RETRY)
    raise BringUpError(
        outcome_of_fact(Fact.SETUP_UNANSWERED), f"{what} was not answered within {timeout:g} s"
    )
