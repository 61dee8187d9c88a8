"""The steps of a model's life: what is done in each, and what comes of it.

`lifecycle` says which step it is, and `actor` has it taken. A step changes no state. What comes of it is a
`StepResult`; if an event from outside was faster, nobody looks at that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from ..errors import ProofFailed
from ..rpc.reader import let_readers_catch_up
from ..rpc.receiver import CallInterrupted
from ..security.delegation import ProofLapsed
from ..signal import Signal
from ..text import quoted
from .bringing_up import BringUpError, connect, greet, prove, set_up
from .lifecycle import Event, JoinReason, Step
from .policy import Fact, outcome_of_distrust, outcome_of_fact
from .supervisor import JoinFailedElsewhere

if TYPE_CHECKING:
    from ..services.base import NodeService
    from .attempts import Attempts
    from .conduct import Conduct
    from .handle import ModelRunner
    from .node_connection import NodeConnection
    from .node_resources import NodeResources
    from .supervisor import Supervisor
    from .watch import Watch

__all__ = ["StepResult", "Steps"]

logger = logging.getLogger("trio_model_runner.model")


@attrs.frozen
class StepResult:
    """What came of a step.

    Attributes:
        event: the event that follows.
        error: why the connection ended, for CONNECTION_ENDED.
        peaceful: the node retired the connection in peace.
        failure: why the model can't be brought up, for GIVEN_UP.
    """

    event: Event
    error: Exception | None = None
    peaceful: bool = False
    failure: BringUpError | None = None


class SteppingActor(Protocol):
    """What the steps need of the model's actor.

    Attributes:
        runner: the model's handle.
        conduct: what counts for and against the model.
        watch: asks the node whether it is through.
        retired: the last connection that its node has retired, or None.
    """

    runner: ModelRunner
    conduct: Conduct
    watch: Watch
    retired: NodeConnection | None

    def note_late_setup(self, timeout: float) -> None:
        """A Setup was not answered within `timeout` seconds."""

    def note_lapse(self, node: NodeConnection) -> None:
        """What is not sent yet must not be sent on this connection, whose node is proved no longer."""


class Steps:
    """Takes the steps of one model.

    Args:
        actor: the model's actor.
        supervisor: runs all models.
        resources: what the actors of this process share.
        attempts: says how long to wait before the next attempt to connect.
        wait_no_calls: waits until no call is made and none waits.
        reason: why the model joins.

    Attributes:
        reason: why the model joins next time.
        node: the connection, as soon as there is one; None when `actor` has let go of it.
        began: when the present attempt to connect began.
        keepalive_interval: seconds of silence before a PING; longer for a node that objects to PINGs.
    """

    def __init__(
        self,
        actor: SteppingActor,
        supervisor: Supervisor,
        resources: NodeResources,
        attempts: Attempts,
        wait_no_calls: Callable[[], Awaitable[None]],
        reason: JoinReason,
    ) -> None:
        self.reason = reason
        self.node: NodeConnection | None = None
        self.began = 0.0
        self.keepalive_interval = resources.config.keepalive.interval
        self._actor = actor
        self._model = actor.runner
        self._supervisor = supervisor
        self._resources = resources
        self._config = resources.config
        self._attempts = attempts
        self._wait_no_calls = wait_no_calls
        self._fresh = False  # there is an instance that the coordinator was not told of
        self._behind = False  # the coordinator has not caught it up to the end
        self._seen = False  # an answer has said that there is an instance
        self._setup_unread = False  # a Setup may have made one, and its answer was not read
        self._retry_now = False
        self._asked_to_retry = Signal()

    @property
    def connected(self) -> NodeConnection:
        """The connection, in a step that has one."""
        assert self.node is not None
        return self.node

    @property
    def setup_timeout(self) -> float:
        """Seconds that one Setup may take."""
        return self._config.setup_timeout

    @property
    def _service(self) -> NodeService:
        """What the node speaks, in a step that needs to know."""
        service = self._resources.service
        assert service is not None
        return service

    def retry_now(self) -> None:
        """Make the next attempt of a model that was given up at once."""
        self._retry_now = True
        self._asked_to_retry.send()

    def forget_instance(self) -> None:
        """The node has no instance, or another one than was seen."""
        self._seen = False

    async def take(self, step: Step, nursery: trio.Nursery) -> StepResult:
        """Take one step.

        Args:
            step: which.
            nursery: where a connection's tasks run.
        """
        try:
            if step is Step.SERVE:
                return await self._serve(self.connected)
            if step is Step.OBSERVE:
                return await self._observe(self.connected)
            return StepResult(await self._take(step, nursery))
        except BringUpError as failure:
            return StepResult(Event.GIVEN_UP, failure=failure)
        except ProofLapsed as error:
            return StepResult(Event.CONNECTION_ENDED, error)  # the next one has another proof, or none
        except ProofFailed as error:
            outcome = outcome_of_distrust(error, answer=False)
            return StepResult(Event.GIVEN_UP, failure=BringUpError(outcome, str(error), error))
        except CallInterrupted as error:
            return StepResult(Event.CONNECTION_ENDED, await self._why_interrupted(error))
        except OSError as error:
            return StepResult(Event.CONNECTION_ENDED, error)

    async def _take(self, step: Step, nursery: trio.Nursery) -> Event:
        observed = self._resources.service is None
        match step:
            case Step.CONNECT:
                self.node = await self._connect(nursery)
                return Event.UNPROVED if observed or self.node.must_prove else Event.CONNECTED
            case Step.BACK_OFF:
                await trio.sleep(self._attempts.wait)
                return Event.WAITED
            case Step.PROVE if observed:
                await greet(self.connected, self._config.keepalive.timeout)
                self._actor.conduct.note_reached()
                return Event.REACHED
            case Step.PROVE:
                await prove(self.connected, self._service, self._config.setup_timeout)
                return Event.PROVED
            case Step.SET_UP:
                return await self._set_up(self.connected)
            case Step.REPLACE:
                return await self._replace(nursery)
            case Step.JOIN:
                await self._join(self.connected)
                return Event.JOINED
            case Step.DRAIN:
                await self._wait_no_calls()
                return Event.DRAINED
            case Step.WAIT_TO_RETRY:
                await self._wait_to_retry()
                return Event.WAITED
            case _:  # only an event from outside ends this step
                await trio.sleep_forever()
                raise AssertionError

    async def _connect(self, nursery: trio.Nursery) -> NodeConnection:
        self.began = trio.current_time()
        held, resources = self._attempts.held, self._resources
        limiter = resources.held_limiter if held else resources.connect_limiter
        node = await connect(nursery, self._model, resources, limiter)
        if node.has_proof:
            nursery.start_soon(node.watch_proof, self._actor.note_lapse)
        return node

    async def _set_up(self, node: NodeConnection) -> Event:
        watch = _BusyNode(self._actor, self)
        unread, self._setup_unread = self._setup_unread, False
        try:
            created = await set_up(node, self._service, self._config.setup_timeout, watch)
        except BaseException:
            self._setup_unread = unread or self._setup_unread
            raise
        unread, self._setup_unread = unread or self._setup_unread, False
        self._fresh = self._fresh or created or (unread and not self._seen)
        self._behind = self._behind or self._fresh or self.reason is not JoinReason.RESTARTED
        self._seen = True
        self._actor.conduct.note_setup(created=created)
        return Event.MUST_JOIN if self._behind else Event.SET_UP

    def note_setup_sent(self) -> None:
        """A Setup may have reached the node, and its answer was not read."""
        self._setup_unread = True

    async def _replace(self, nursery: trio.Nursery) -> Event:
        """Make the next connection, and set the model up there when the calls on the old one have ended."""
        old = self._actor.retired
        node = await self._connect(nursery)
        try:
            if node.must_prove:
                await prove(node, self._service, self._config.setup_timeout)
            if old is not None:
                await old.connection.wait_idle()
            event = await self._set_up(node)
        except BaseException:
            node.connection.abort("the model could not be set up on it")
            raise
        self.node = node  # without a checkpoint after this
        return event

    async def _join(self, node: NodeConnection) -> None:
        fresh, self._fresh = self._fresh, False
        try:
            await self._supervisor.join(self._model, self.reason, fresh=fresh)
            self._behind = False
        except Exception as error:  # the coordinator's code: any error keeps just this model out
            if not node.connection.accepts_calls:
                raise CallInterrupted(node.connection.loss or "it has ended") from error
            if not isinstance(error, JoinFailedElsewhere):
                name = quoted(self._model.model_id)
                logger.error("on_join raised, so model %s stays out", name, exc_info=error)
            outcome = outcome_of_fact(Fact.COORDINATORS_CODE_RAISED)
            raise BringUpError(outcome, f"on_join: {error!r}", error) from error

    async def _serve(self, node: NodeConnection) -> StepResult:
        """Carry calls until the connection takes no more."""
        connection = node.connection
        await connection.watch(self.keepalive_interval, self._config.keepalive.timeout)
        await let_readers_catch_up()  # a call that was answered in the same read notes that first
        if connection.too_many_pings:
            self.keepalive_interval *= 2  # as gRPC's specification of keepalive says
        error = ConnectionError(str(connection.loss))
        return StepResult(Event.CONNECTION_ENDED, error, peaceful=node.retired_in_peace)

    async def _observe(self, node: NodeConnection) -> StepResult:
        """Ask a node now and then whether it is there. Without calls, nothing else would find a dead one.

        What its node does with a connection that carries no call is not held against the next one.
        """
        keepalive = self._config.keepalive
        while True:
            with trio.move_on_after(keepalive.interval):
                await node.connection.watch()
                return StepResult(Event.CONNECTION_ENDED, ConnectionError(str(node.connection.loss)))
            await greet(node, keepalive.timeout)

    async def _wait_to_retry(self) -> None:
        with trio.move_on_after(self._attempts.retry_wait()):
            await self._asked_to_retry.wait_until(lambda: self._retry_now)
        self._retry_now = False
        await trio.lowlevel.checkpoint()

    async def _why_interrupted(self, error: CallInterrupted) -> CallInterrupted:
        """The same error, or a better one: a call can end a moment before the connection knows why it did."""
        if self.node is None or self.node.connection.accepts_calls:
            return error
        await self.node.connection.watch()  # which it knows at the next turn of its reader
        return CallInterrupted(self.node.connection.loss or str(error))


class _BusyNode:
    """What a Setup does while the node is busy; a `bringing_up.SetupWatch`."""

    def __init__(self, actor: SteppingActor, steps: Steps) -> None:
        self._actor = actor
        self._steps = steps

    async def wait_while_busy(self, node: NodeConnection) -> None:
        self._actor.watch.begin_for_others(node)
        await self._wait(node)

    async def wait_after_overrun(self, node: NodeConnection, began: float) -> None:
        self._actor.watch.begin_for_setup(node, began)
        self._actor.note_late_setup(self._steps.setup_timeout)
        await self._wait(node)

    def note_sent(self) -> None:
        self._steps.note_setup_sent()

    async def _wait(self, node: NodeConnection) -> None:
        await self._actor.watch.wait_through(node)
        await trio.lowlevel.checkpoint()
        if not node.connection.accepts_calls:
            raise CallInterrupted(node.connection.loss or "it has ended")
