"""What is done on a new connection to a node before it carries calls: the proof, and the setup.

Each new connection might lead to another process than the last one, so each goes through all of it. The proof
comes first, where one is asked for, by a health check: the setup carries the class and its arguments, and
those are nobody else's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError

from ..services.base import Request
from .node_connection import NodeBusyError, NodeConnection
from .policy import Outcome, outcome_of_grpc_error, outcome_of_setup, outcome_of_setup_error

if TYPE_CHECKING:
    from ..rpc.unary import Answer
    from .host import ModelHost
    from .runner import ModelRunner

__all__ = ["BringUpError", "prove", "set_up"]

_BUSY_RETRY: Final = 0.1
_HEALTH_CHECK: Final = Request("/grpc.health.v1.Health/Check")


class BringUpError(Exception):
    """A model can't be brought up, and trying again at once would not help.

    Attributes:
        outcome: what this means.
        error: the exception behind it, if there is one.
        may_pass: it may pass by itself, so that trying again later may help.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        error: BaseException | None = None,
        *,
        may_pass: bool = False,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.error = error
        self.may_pass = may_pass


async def prove(node: NodeConnection, host: ModelHost) -> None:  # noqa: ASYNC910 - it always asks
    """Have a node prove that it is the model's.

    Where the health check is answered without a proof, or not known, a setup that asks for nothing is made:
    the proof comes with the refusal, or with the words that there is an instance already.

    Raises:
        BringUpError: it did not answer in ``setup_timeout``, or won't talk to us. We are not told to be tried
            again when it does, and nobody is reported, so this may pass.
        ProofFailed: it is not.
        OSError, CallInterrupted: the connection is no good.
    """
    node.identity()  # or nothing could prove it
    timeout = host.config.setup_timeout
    try:
        try:
            await _ask(node, _HEALTH_CHECK, timeout, "the health check", exempt=True)
        except GRPCError as error:
            if error.status is not GRPCStatus.UNIMPLEMENTED:
                raise
        if node.must_prove:
            empty_setup = Request(host.service.setup_request().path)
            await _ask(node, empty_setup, timeout, "an empty Setup")
    except GRPCError as error:
        if node.must_prove:
            text = f"the node did not prove itself: {_describe(error)}"
            if outcome_of_grpc_error(error) is Outcome.NOT_ITS_FAULT:  # it doesn't take our certificate
                raise BringUpError(Outcome.NOT_ITS_FAULT, text, error, may_pass=True) from error
            raise ConnectionError(text) from error


async def set_up(node: NodeConnection, model: ModelRunner, host: ModelHost) -> bool:
    """Set a model up; whether that made a new instance.

    Raises:
        BringUpError: that failed, or was not answered in ``setup_timeout``.
        ProofFailed: the answer isn't the model's.
        OSError, CallInterrupted: the connection is no good.
    """
    service = host.service
    try:
        answer = await _ask(node, service.setup_request(), host.config.setup_timeout, "Setup")
        setup = service.read_setup(answer.message)
    except GRPCError as error:
        text = f"Setup: {_describe(error)}"
        raise BringUpError(outcome_of_setup_error(error), text, error) from error
    except ValueError as error:
        text = f"Setup: the answer can't be read: {error}"
        raise BringUpError(Outcome.SETUP_FAILED, text, error) from error
    outcome = outcome_of_setup(setup.code)
    if outcome is not Outcome.SUCCEEDED:
        raise BringUpError(outcome, f"Setup: {setup.code}: {setup.message}")
    host.acquit(model, service.instance_name)
    model.overrunning = False
    return setup.fresh


async def _ask(
    node: NodeConnection, request: Request, timeout: float, what: str, *, exempt: bool = False
) -> Answer:
    """Send a request until the node is not busy with something else."""
    with trio.move_on_after(timeout):
        while True:
            call = await node.new_call(request)
            await call.run(timeout)
            try:
                return node.answer(call, exempt=exempt)
            except GRPCError as error:
                if error.status is GRPCStatus.UNAVAILABLE:
                    raise ConnectionError(f"{what}: {_describe(error)}") from error
                raise
            except NodeBusyError:
                pass
            await trio.sleep(_BUSY_RETRY)
    raise BringUpError(Outcome.SETUP_UNANSWERED, f"{what} was not answered within {timeout:g} s")


def _describe(error: GRPCError) -> str:
    return f"gRPC status {error.status.name}: {error.message or 'no message'}"
