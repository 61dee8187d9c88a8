"""How a connection to a node is made, and made ready for calls: by the proof, and by the Setup.

A new connection may lead to another process than the last one, so both are done on each. If a proof is
needed, it comes first, by a health check: a Setup has the class and its arguments, and only the model's own
node may see these. A node that was busy for so long that its proof has expired proves itself once more.

A node that is busy answers a Setup with "Server busy". That is an answer, so nobody is blamed for it: the
`watch` waits until the node is through. A Setup that is not answered in time is an overrun as any other.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

import trio
from grpclib.exceptions import GRPCError

from ..backoff import growing_waits
from ..network.tls import TLSNetwork
from ..rpc.connecting import open_connection
from ..services.base import NodeService, Request, SetupAnswer
from .node_connection import NodeBusyError, NodeConnection, status_text
from .policy import (
    Fact,
    Outcome,
    is_about_the_way,
    is_unknown_method,
    may_still_run,
    outcome_of_fact,
    outcome_of_proof,
    outcome_of_setup,
    outcome_of_setup_error,
    succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..rpc.call import Answer, UnaryCall
    from .handle import ModelRunner
    from .node_resources import NodeResources

__all__ = ["HEALTH_CHECK", "BringUpError", "SetupWatch", "connect", "greet", "prove", "set_up"]

_BUSY_RETRY: Final = 0.1
_NEARLY_ALL: Final = 0.9
"""Of a Setup's time. A node that says earlier that the deadline has passed does not mean our deadline."""

_SHORTEST_WAIT: Final = 0.001
_LONGEST_WAIT: Final = 1.0
HEALTH_CHECK: Final = Request("/grpc.health.v1.Health/Check")


class BringUpError(Exception):
    """A model can't be set up, and trying again at once would not help.

    Attributes:
        outcome: what this means.
        error: the exception behind it, if there is one.
        setup_sent_at: when the Setup was sent whose answer says this; None if it is no such answer.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        error: BaseException | None = None,
        *,
        setup_sent_at: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.error = error
        self.setup_sent_at = setup_sent_at


class SetupWatch(Protocol):
    """What a Setup needs, to wait for a node that is busy."""

    async def wait_while_busy(self, node: NodeConnection) -> None:
        """The node said that it is busy: wait until it is through, or its connection is gone."""

    async def wait_after_overrun(self, node: NodeConnection, began: float) -> None:
        """A Setup that was sent at `began` was not answered in time: wait likewise."""

    def note_sent(self) -> None:
        """A Setup may have reached the node."""


async def connect(
    nursery: trio.Nursery, model: ModelRunner, resources: NodeResources, limiter: trio.CapacityLimiter
) -> NodeConnection:
    """Connect to a model's node.

    Args:
        nursery: the connection's tasks run in it.
        model: the model.
        resources: has the settings, the credentials, and the reader of sockets.
        limiter: limits how many connect at the same time.

    Raises:
        ProofFailed: the node's certificate is not the model's.
        OSError: nothing answers there; see `rpc.connecting.open_connection`.
    """
    config, security = resources.config, resources.security
    network = config.node_network
    if (tls := security.tls(model.model_id)) is not None:
        network = TLSNetwork(tls.context, network, server_hostname=tls.server_hostname)
    try:
        await network.look_up(model.host)  # not in a turn: a name that never resolves would use it up
        async with limiter:
            connection = await open_connection(
                nursery,
                network,
                model.host,
                model.port,
                timeout=config.backoff.connect_timeout,
                max_header_bytes=config.limits.max_header_bytes,
                hub=resources.hub,
            )
    except OSError as error:
        if (failure := security.failed_proof(error)) is not None:
            raise failure from error
        raise
    return NodeConnection(connection, model, security, config.limits, resources.fence)


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
            await _ask(node, HEALTH_CHECK, timeout, "the health check", exempt=True)
        except GRPCError as error:
            if not is_unknown_method(error):
                raise
        if node.must_prove:
            empty_setup = Request(service.setup_request().path)
            await _ask(node, empty_setup, timeout, "an empty Setup", exempt=False)
    except GRPCError as error:
        if node.must_prove:
            raise _refusal("the node did not prove itself", error) from None


async def greet(node: NodeConnection, timeout: float) -> None:
    """Ask a node that is only observed for a sign of life, by a health check.

    Any answer is one: nodes say that they serve, whatever the model does, and some have no health service. If
    there is a proof with it, it is verified.

    Args:
        node: the connection.
        timeout: seconds that the answer may take.

    Raises:
        BringUpError: the node did not answer in time, or refuses us.
        ProofFailed: the node does not belong to the model.
        OSError, CallInterrupted: the connection failed.
    """
    try:
        await _ask(node, HEALTH_CHECK, timeout, "the health check", exempt=True)
    except GRPCError as error:
        if not is_unknown_method(error):
            raise _refusal("the node refuses the health check", error) from None


def _refusal(text: str, error: GRPCError) -> BringUpError | ConnectionError:
    """What a status means that came instead of an answer to a health check, or to an empty Setup."""
    text = f"{text}: {status_text(error)}"
    outcome = outcome_of_proof(error)
    return ConnectionError(text) if outcome is None else BringUpError(outcome, text, error)


async def set_up(node: NodeConnection, service: NodeService, timeout: float, watch: SetupWatch) -> bool:
    """Set a model up, and return whether the node said that it made an instance.

    This takes as long as the node is busy. Only the end of the connection ends that.

    Args:
        node: the connection.
        service: the gRPC service that the node has.
        timeout: seconds that one Setup may take.
        watch: waits while the node is busy.

    Raises:
        BringUpError: the Setup failed.
        ProofFailed: the answer does not come from the model's node.
        OSError, CallInterrupted: the connection failed.
    """
    waits = growing_waits(_SHORTEST_WAIT, maximum=_LONGEST_WAIT)
    while True:
        if node.must_prove:
            await prove(node, service, timeout)
        began = trio.current_time()
        setup = await _try_setup(node, service, timeout, watch.note_sent)
        if setup is _NoAnswer.BUSY:
            await watch.wait_while_busy(node)
            await trio.sleep(next(waits))  # a node may say that it is through, and be busy all the same
        elif setup is _NoAnswer.TOO_LATE:
            await watch.wait_after_overrun(node, began)
        else:
            outcome = outcome_of_setup(setup.code)
            if not succeeded(outcome):
                raise BringUpError(outcome, f"Setup: {setup.code}: {setup.message}", setup_sent_at=began)
            return setup.fresh


class _NoAnswer(enum.Enum):
    """Why there is no answer to a Setup."""

    BUSY = enum.auto()
    TOO_LATE = enum.auto()


async def _try_setup(
    node: NodeConnection, service: NodeService, timeout: float, note_sent: Callable[[], None]
) -> SetupAnswer | Literal[_NoAnswer.BUSY, _NoAnswer.TOO_LATE]:
    """Send a Setup once.

    Args:
        node: the connection.
        service: the gRPC service that the node has.
        timeout: seconds that it may take.
        note_sent: told that the Setup may have reached the node, if its answer is not read.
    """
    began = trio.current_time()
    call: UnaryCall | None = None
    answered = False
    try:
        with node.time_limit(timeout):
            call = await node.new_call(service.setup_request())
            await call.run(timeout)
            answered = call.error is None
            return service.read_setup(_answer(node, call, "Setup", asked_at=began).message)
    except NodeBusyError:
        return _NoAnswer.BUSY
    except GRPCError as error:
        if may_still_run(error) and trio.current_time() >= began + timeout * _NEARLY_ALL:
            return _NoAnswer.TOO_LATE
        text = f"Setup: {status_text(error)}"
        raise BringUpError(outcome_of_setup_error(error), text, error, setup_sent_at=began) from error
    except ValueError as error:
        text = f"Setup: the answer can't be read: {error}"
        raise BringUpError(outcome_of_setup_error(error), text, error, setup_sent_at=began) from error
    finally:
        if call is not None and call.handed_over and not answered:
            note_sent()
    return _NoAnswer.TOO_LATE


async def _ask(node: NodeConnection, request: Request, timeout: float, what: str, *, exempt: bool) -> Answer:
    """Send a request without secrets, again and again while the node is busy with something else."""
    with node.time_limit(timeout):
        while True:
            call = await node.new_call(request, unproved=True)
            asked_at = trio.current_time()
            await call.run(timeout)
            try:
                return _answer(node, call, what, asked_at=asked_at, exempt=exempt)
            except NodeBusyError:
                pass
            await trio.sleep(_BUSY_RETRY)
    raise BringUpError(
        outcome_of_fact(Fact.PROOF_UNANSWERED), f"{what} was not answered within {timeout:g} s"
    )


def _answer(
    node: NodeConnection, call: UnaryCall, what: str, *, asked_at: float, exempt: bool = False
) -> Answer:
    """The answer to a call that has ended; a broken way to the node is an error of the connection."""
    try:
        return node.answer(call, asked_at=asked_at, exempt=exempt)
    except GRPCError as error:
        if is_about_the_way(error):
            raise ConnectionError(f"{what}: {status_text(error)}") from None  # which says it all
        raise
