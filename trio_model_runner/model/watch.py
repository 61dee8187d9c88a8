"""The watch over a node that may still be busy with a call that was cut off.

`policy.overrun` says why nodes are asked, and what their answers mean. Here they are asked: a PING and an
empty Setup in one write, one such pair at a time, again and again, until the node is through or its
connection is gone. The gap between two questions grows with the overrun. While a call waits, it is at most
0.1 s, so that the call begins soon after the node is through; otherwise at most 1 s.

If a node holds the interpreter, the empty Setup is not answered, but the PING is: gRPC's own threads do that.
Then the Setup stays open, and PINGs are sent only where their answer can decide something: nodes close a
connection at the fifth PING in a row that they have no other answer to.

The services that infer have no such question. Their calls wait in a queue on the node, so one PING is enough.
A health check goes with it, whose answer is data: else the PINGs of several timeouts would be too many.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import trio
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from ..errors import ProofFailed
from ..rpc.ending import EndCause
from ..rpc.receiver import CallInterrupted
from ..signal import Signal
from .bringing_up import HEALTH_CHECK
from .node_connection import NodeBusyError
from .policy import SETUP, Answer, Fact, Overrun, answer_of_code, answer_of_error, outcome_of_fact

if TYPE_CHECKING:
    from ..rpc.call import UnaryCall
    from ..services.base import NodeService, Request
    from .conduct import Conduct
    from .node_connection import NodeConnection
    from .node_resources import NodeResources

__all__ = ["Watch", "Watched"]

_GAP_FACTOR: Final = 0.05
_SHORTEST_GAP: Final = 0.001
_LONGEST_GAP: Final = 1.0
_LONGEST_GAP_WITH_CALLS: Final = 0.1


class Watched(Protocol):
    """What a watch needs of the model's actor.

    Attributes:
        conduct: what counts for and against the model; it has the overrun.
    """

    conduct: Conduct

    def distrust(self, error: ProofFailed) -> None:
        """Let go of a node that did not prove that it belongs to the model."""

    def renew(self, reason: str) -> None:
        """Its node has no instance: go through setup again at once."""


class Watch:
    """Asks one model's node whether it is through.

    Args:
        actor: the model's actor.
        resources: has the settings, and the service that has the question.

    Attributes:
        nursery: the questions are asked in it; None until the actor runs.
    """

    def __init__(self, actor: Watched, resources: NodeResources) -> None:
        self.nursery: trio.Nursery | None = None
        self._actor = actor
        self._conduct = actor.conduct
        self._resources = resources
        self._timeout = resources.config.health.timeout
        self._setup_timeout = resources.config.setup_timeout
        self._calls_waiting = 0
        self._hurry = Signal()
        self._ended = Signal()
        self._node: NodeConnection | None = None

    @property
    def _service(self) -> NodeService:
        service = self._resources.service
        assert service is not None  # only calls overrun, and none is made without a service
        return service

    @property
    def overrun(self) -> Overrun | None:
        """What the node may not be through with."""
        return self._conduct.record.overrun

    def begin(self, overrun: Overrun, node: NodeConnection | None) -> None:
        """A call was cut off, and its node may still be at it: ask it until it is through.

        Args:
            overrun: what was cut off.
            node: the connection that the call was made on.
        """
        self._conduct.record.overrun = overrun
        if node is not None and node.connection.accepts_calls:
            self.go_on(node)
        else:
            self._conduct.note_way(overrun, good=False)  # it ended with its connection

    def begin_for_others(self, node: NodeConnection) -> None:
        """A node is busy. If it is not with a call of ours that was cut off, somebody else calls it."""
        if self.overrun is None:
            now = trio.current_time()
            self._conduct.note_stranger()
            self._conduct.record.overrun = Overrun("", now, now, math.inf)
        self.go_on(node)

    def begin_for_setup(self, node: NodeConnection, began: float) -> None:
        """A Setup that was sent at `began` was not answered in time."""
        overrun = Overrun(SETUP, began, trio.current_time(), self._setup_timeout, began + self._setup_timeout)
        self.begin(overrun, node)
        text = f"Setup was not answered within {self._setup_timeout:g} s"
        outcome = outcome_of_fact(Fact.SETUP_OVERRAN)
        self._conduct.note_setup_failure(outcome, text, began=began, overrun=overrun)

    def go_on(self, node: NodeConnection) -> None:
        """Ask on this connection, if there is something to ask and nothing asks there already."""
        if self.overrun is not None and self._node is not node and self.nursery is not None:
            self._node = node
            self.nursery.start_soon(self._run, node)

    async def wait_through(self, node: NodeConnection) -> None:
        """Wait until a node is through, or its connection takes no more calls."""
        self._calls_waiting += 1
        self._hurry.send()
        try:
            await self._ended.wait_until(lambda: self.overrun is None or not node.connection.accepts_calls)
        finally:
            self._calls_waiting -= 1

    @enable_ki_protection
    async def _run(self, node: NodeConnection) -> None:
        try:
            while (overrun := self.overrun) is not None and node.connection.accepts_calls:
                if await self._ask(node, overrun):
                    await self._wait_gap(overrun)
        finally:
            if self._node is node:
                self._node = None
            self._ended.send()

    async def _ask(self, node: NodeConnection, overrun: Overrun) -> bool:
        """Ask once. Whether there is more to ask."""
        question = self._service.empty_setup_request()
        try:
            answer = await self._answer(node, overrun, question)
        except ProofFailed as error:
            self._actor.distrust(error)
            return False
        except CallInterrupted:  # a node that only resets the question can be asked by a call as well
            answer = Answer.THROUGH if node.connection.accepts_calls else None
        if answer is Answer.WAY_BROKEN:
            node.connection.abort("the way to the node is broken", cause=EndCause.BROKEN)
        elif answer is Answer.THROUGH or answer is Answer.NO_INSTANCE:
            self._conduct.note_through()
            if answer is Answer.NO_INSTANCE:
                self._actor.renew("the node has no instance: it was restarted, or reset")
        return answer is Answer.BUSY

    async def _answer(
        self, node: NodeConnection, overrun: Overrun, question: Request | None
    ) -> Answer | None:
        """What the node says; None if its connection is dead."""
        if question is None and not node.connection.may_ping:
            self._conduct.note_way(overrun, good=False)  # nobody can say
            return Answer.THROUGH
        call = await node.new_call(question or HEALTH_CHECK, unproved=True)
        ended = trio.Event()
        asked_at = trio.current_time()
        try:
            alive = await self._is_alive(node, call, ended)
            if not alive:
                return None
            answered_at = trio.current_time()
            self._conduct.note_way(overrun, good=answered_at - asked_at <= overrun.timeout / 2)
            if question is None:
                with trio.move_on_after(self._timeout):
                    await ended.wait()
                return Answer.THROUGH
            if not await self._wait_ended(node, overrun, call, ended):
                return None
            return self._read(node, overrun, call, asked_at)
        finally:
            call.leave()

    async def _is_alive(self, node: NodeConnection, call: UnaryCall, ended: trio.Event) -> bool:
        """Ask, and wait for a sign of life; without one, the connection is given up."""
        connection = node.connection

        def send_question() -> None:
            call.begin(math.inf, trio.Event.set, ended)

        if connection.may_ping:
            alive = await connection.ping(self._timeout, send_question)
        else:
            send_question()
            with node.time_limit(self._timeout):
                await ended.wait()
            alive = ended.is_set()
        if not alive:
            node.connection.abort_silent(self._timeout)
        return alive

    async def _wait_ended(
        self, node: NodeConnection, overrun: Overrun, call: UnaryCall, ended: trio.Event
    ) -> bool:
        """Wait for the answer; False if the connection turns out to be dead meanwhile."""
        connection = node.connection
        while not ended.is_set():
            with trio.move_on_after(_LONGEST_GAP):
                await ended.wait()
            if ended.is_set() or node.holds_back(call):
                continue
            if connection.may_ping and self._conduct.would_be_due(overrun):
                asked_at = trio.current_time()
                if not await connection.ping(self._timeout):
                    node.connection.abort_silent(self._timeout)
                    return False
                if not ended.is_set():
                    self._conduct.note_still_busy(overrun, asked_at)
        return True

    def _read(self, node: NodeConnection, overrun: Overrun, call: UnaryCall, asked_at: float) -> Answer:
        try:
            code = self._service.read_setup(node.answer(call, asked_at=asked_at).message).code
        except NodeBusyError:
            self._conduct.note_still_busy(overrun, asked_at)
            return Answer.BUSY
        except GRPCError as error:
            return answer_of_error(error)
        except ValueError:
            return Answer.THROUGH
        return answer_of_code(code)

    async def _wait_gap(self, overrun: Overrun) -> None:
        begin = trio.current_time()
        gap = min(max((begin - overrun.sent_at) * _GAP_FACTOR, _SHORTEST_GAP), _LONGEST_GAP)
        with trio.move_on_after(gap):
            await self._hurry.wait_until(lambda: self._calls_waiting > 0)
            await trio.sleep_until(begin + min(gap, _LONGEST_GAP_WITH_CALLS))
