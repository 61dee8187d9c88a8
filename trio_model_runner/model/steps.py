"""The steps of a model's life: what is done in each, and what comes of it.

`lifecycle` says which step it is, and `actor` has it taken. A step changes no state. What comes of it is a
`StepResult`; if an event from outside was faster, nobody looks at that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs
import trio

from ..errors import ProofFailed
from ..rpc.receiver import CallInterrupted
from ..text import quoted
from .bringing_up import BringUpError, connect, prove, set_up
from .lifecycle import Event, JoinReason, Step
from .policy import Fact, outcome_of_distrust, outcome_of_fact

if TYPE_CHECKING:
    from .attempts import Attempts
    from .handle import ModelRunner
    from .node_connection import NodeConnection
    from .supervisor import Supervisor

__all__ = ["StepResult", "Steps"]

logger = logging.getLogger("trio_model_runner.model")


@attrs.frozen
class StepResult:
    """What came of a step.

    Attributes:
        event: the event that follows.
        error: why the connection ended, for CONNECTION_ENDED.
        stood: how long the connection carried calls before it ended, seconds.
        failure: why the model can't be brought up, for GIVEN_UP.
    """

    event: Event
    error: Exception | None = None
    stood: float = 0.0
    failure: BringUpError | None = None


class Steps:
    """Takes the steps of one model.

    Args:
        model: the model.
        supervisor: runs all models.
        attempts: says how long to wait before the next attempt to connect.
        wait_no_calls: waits until no call is made and none waits.

    Attributes:
        reason: why the model joins next time.
        node: the connection, as soon as there is one; None when `actor` has let go of it.
        keepalive_interval: seconds of silence before a PING; longer for a node that objects to PINGs.
    """

    def __init__(
        self,
        model: ModelRunner,
        supervisor: Supervisor,
        attempts: Attempts,
        wait_no_calls: Callable[[], Awaitable[None]],
        reason: JoinReason,
    ) -> None:
        self.reason = reason
        self.node: NodeConnection | None = None
        self.keepalive_interval = supervisor.config.keepalive.interval
        self._model = model
        self._supervisor = supervisor
        self._config = supervisor.config
        self._attempts = attempts
        self._wait_no_calls = wait_no_calls
        self._fresh = False

    @property
    def connected(self) -> NodeConnection:
        """The connection, in a step that has one."""
        assert self.node is not None
        return self.node

    async def take(self, step: Step, nursery: trio.Nursery) -> StepResult:
        """Take one step.

        Args:
            step: which.
            nursery: where a connection's tasks run.
        """
        try:
            if step is Step.SERVE:
                return await self._serve(self.connected)
            return StepResult(await self._take(step, nursery))
        except BringUpError as failure:
            return StepResult(Event.GIVEN_UP, failure=failure)
        except ProofFailed as error:
            outcome = outcome_of_distrust(error, answer=False)
            return StepResult(Event.GIVEN_UP, failure=BringUpError(outcome, str(error), error))
        except CallInterrupted as error:
            return StepResult(Event.CONNECTION_ENDED, await self._why_interrupted(error))
        except OSError as error:
            return StepResult(Event.CONNECTION_ENDED, error)

    async def _take(self, step: Step, nursery: trio.Nursery) -> Event:
        service, timeout = self._supervisor.service, self._config.setup_timeout
        match step:
            case Step.CONNECT:
                self.node = await connect(nursery, self._model, self._supervisor)
                return Event.UNPROVED if self.node.must_prove else Event.CONNECTED
            case Step.BACK_OFF:
                await trio.sleep(self._attempts.wait)
                return Event.WAITED
            case Step.PROVE:
                await prove(self.connected, service, timeout)
                return Event.PROVED
            case Step.SET_UP:
                self._fresh = await set_up(self.connected, service, timeout)
                must_join = self._fresh or self.reason is not JoinReason.RESTARTED
                return Event.MUST_JOIN if must_join else Event.SET_UP
            case Step.JOIN:
                await self._join(self.connected)
                return Event.JOINED
            case Step.DRAIN:
                await self._wait_no_calls()
                return Event.DRAINED
            case Step.WAIT_TO_RETRY:
                await trio.sleep(self._config.backoff.maximum)
                return Event.WAITED
            case _:  # only an event from outside ends this step
                await trio.sleep_forever()
                raise AssertionError

    async def _join(self, node: NodeConnection) -> None:
        try:
            await self._supervisor.join(self._model, self.reason, fresh=self._fresh)
        except Exception as error:  # the coordinator's code: any error keeps just this model out
            if not node.connection.accepts_calls:
                raise CallInterrupted(node.connection.loss or "it has ended") from error
            logger.error(
                "on_join raised, so model %s stays out", quoted(self._model.model_id), exc_info=error
            )
            outcome = outcome_of_fact(Fact.COORDINATORS_CODE_RAISED)
            raise BringUpError(outcome, f"on_join: {error!r}", error) from error

    async def _serve(self, node: NodeConnection) -> StepResult:
        """Carry calls until the connection takes no more."""
        connection, began = node.connection, trio.current_time()
        await connection.watch(self.keepalive_interval, self._config.keepalive.timeout)
        if connection.too_many_pings:
            self.keepalive_interval *= 2  # as gRPC's specification of keepalive says
        error = ConnectionError(str(connection.loss))
        return StepResult(Event.CONNECTION_ENDED, error, stood=trio.current_time() - began)

    async def _why_interrupted(self, error: CallInterrupted) -> CallInterrupted:
        """The same error, or a better one: a call can end a moment before the connection knows why it did."""
        if self.node is None or self.node.connection.accepts_calls:
            return error
        await self.node.connection.watch()  # which it knows at the next turn of its reader
        return CallInterrupted(self.node.connection.loss or str(error))
