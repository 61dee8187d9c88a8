"""One call on one model: from its place in the queue to its result.

A call has to end with exactly one result, whatever happens to the node, the connection, the deadline or the
task; and with the right one, since some results count against a person's model. So a call always knows
how far it has come (`Call.progress`): when the deadline cuts it off, that alone says whether the model
was too slow, or never got the chance.

A request that may have reached the model is never sent again: a `tick` changes it. It is sent again only
where nothing can have come of it: the node was busy with something else, the connection ended or refused it
before it was processed, or the node had no instance to call.
"""

from __future__ import annotations

import enum
import functools
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from ..errors import InvalidAnswer, ProofFailed
from ..rpc.receiver import CallInterrupted
from ..rpc.unary import Answer, UnaryCall
from ..security.delegation import UnknownIdentity
from ..services.base import AnswerCode, Request
from ..values.data import Encoded
from ..values.effort import LARGEST_AMONG_OTHERS
from ..values.results import PredictResult, Status
from ..workers import run_in_worker
from .call_spec import CallSpec, Value
from .node_connection import NodeBusyError, NodeConnection
from .policy import RULES, Outcome, outcome_of_answer, outcome_of_grpc_error
from .queueing import QueueFullError, Turn

if TYPE_CHECKING:
    from .runner import ModelRunner

__all__ = ["Call", "ModelUnavailableError"]

_FIRST_RETRY_AFTER: Final = 0.002
_LONGEST_RETRY_AFTER: Final = 0.05
"""Seconds until a request is sent again; they double in between."""


class ModelUnavailableError(Exception):
    """The model can't be called, and won't be so soon; the text says why."""


class Progress(enum.Enum):
    """How far a call has come."""

    WAITING = enum.auto()
    """In the queue, or for a connection: nothing that the model could be blamed for."""
    CALLING = enum.auto()
    CUT_OFF = enum.auto()
    """The request had reached the node, and nothing came back: the model may still be at it."""
    BUSY = enum.auto()
    """The node does something else; the request will be sent again."""
    READING = enum.auto()
    """The answer is there, and is being decoded."""


class Call:
    """One call on one model. Making it takes its place in the model's queue, without a checkpoint.

    It is made by `begin` and `conclude`, which never wait; or where something has to be waited for (its turn,
    a connection, a node that is busy, a large answer to be decoded), by `perform`, in a task of its own.

    Attributes:
        model: the model.
        result: the result; None as long as there is none.
    """

    __slots__ = (
        "_behind_ours",
        "_first_handed_over_at",
        "_handed_over_at",
        "_node",
        "_on_result",
        "_progress",
        "_renewed",
        "_request",
        "_retries",
        "_spec",
        "_turn",
        "_unary",
        "_undecoded",
        "joining",
        "model",
        "result",
    )

    def __init__(
        self,
        model: ModelRunner,
        spec: CallSpec,
        *,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
    ) -> None:
        self.model = model
        self.result: PredictResult[Any] | None = None
        self.joining = may_be_joining and model.joining
        self._spec = spec
        self._on_result = on_result
        self._progress = Progress.WAITING
        self._behind_ours = False
        self._renewed = False
        self._retries = 0
        self._first_handed_over_at: float | None = None
        self._handed_over_at = 0.0
        self._request: Request | None = None
        self._node: NodeConnection | None = None
        self._unary: UnaryCall | None = None
        self._undecoded: Encoded | None = None
        self._turn: Turn | None = None
        try:
            if not (model.ready or self.joining):
                self._end(Outcome.NOT_READY, model.condition)
            elif not self.joining and model.record.sit_out():
                self._end(Outcome.SITTING_OUT, f"sits out after {model.record.timeouts} timeouts in a row")
            else:
                self._turn = model.take_turn(joining=self.joining)
        except QueueFullError as error:
            self._end(Outcome.QUEUE_FULL, str(error))

    @property
    def deadline(self) -> float:
        """When its own time is up, on Trio's clock, seconds."""
        return self._spec.deadline

    def begin(self, on_end: Callable[[Call], None]) -> bool:
        """Send the request right now, if there is nothing to wait for.

        A task for each call, with all that belongs to one, would be a quarter of what a small call costs.

        Args:
            on_end: told when it is time for `conclude`, by whichever task reads from the connection.

        Returns:
            False if nothing was sent: the call must `perform`.
        """
        self._request = self._spec.requests.same
        node = self.model.usable(joining=self.joining)
        if self._request is None or node is None or self._turn is None or not self._turn.first:
            return False
        unary = node.new_call_now(self._request)
        if unary is None:
            return False
        unary.begin(self._hand_over(node, unary), functools.partial(on_end, self))
        return True

    def conclude(self) -> bool:
        """Make the result of what came back on `begin`.

        Returns:
            False if there is none yet: the call must `perform`.
        """
        assert self._unary is not None
        self._unary.leave()
        self._settle()
        if self.result is None:
            return False
        self.leave()
        return True

    @enable_ki_protection
    async def perform(self) -> None:
        """Make the call, or what is left of it; whoever cancels this asks `expire` for the result."""
        if self._turn is None:
            return  # noqa: ASYNC910 - a task of its own ends with this
        try:
            await self._turn.wait()
            while self.result is None:
                if self._undecoded is not None:
                    await self._decode_in_worker(self._undecoded)
                elif await self._make_request():
                    await self._attempt()
        finally:
            self.leave()

    def leave(self) -> None:
        """Give up the place in the queue, and the call itself if it is under way. Idempotent."""
        if self._turn is None:
            return
        if self._unary is not None and self.result is None and self._progress is Progress.CALLING:
            if self._unary.sent:
                self._progress = Progress.CUT_OFF
                self.model.overrunning = True
            self._unary.leave()
        self._turn.leave()
        self._turn = None

    async def _make_request(self) -> bool:
        """Make the request, once; False if that fails."""
        if self._request is None:
            try:
                self._request = await self._spec.requests.for_model(self.model)
            except Exception as error:  # the coordinator's code: any error is this model's result
                self._end(Outcome.COORDINATOR_RAISED, f"arguments: {error!r}", error=error)
                return False  # noqa: ASYNC910 - no checkpoint where it is small
        return True  # noqa: ASYNC910

    async def _attempt(self) -> None:  # noqa: ASYNC910 - a model that is out ends this
        """Send the request, once more if it was sent before, and wait for what comes of it."""
        assert self._request is not None
        if self._retries:
            delay = min(_FIRST_RETRY_AFTER * 2 ** min(self._retries - 1, 10), _LONGEST_RETRY_AFTER)
            await trio.sleep(delay * random.uniform(0.5, 1.0))
        try:
            node = await self.model.wait_usable(joining=self.joining)
            unary = await node.new_call(self._request)
        except ModelUnavailableError as error:
            self._end(Outcome.CONNECTION_LOST, str(error))
        except ProofFailed as error:
            self._distrust(error)
        else:
            await unary.run(self._hand_over(node, unary))
            self._settle()

    def _hand_over(self, node: NodeConnection, unary: UnaryCall) -> float:
        """Note that the request goes out now; the seconds that are left for it."""
        self._node, self._unary = node, unary
        self._progress = Progress.CALLING
        now = self._handed_over_at = trio.current_time()
        if self._first_handed_over_at is None:
            self._first_handed_over_at = now
        # In whole milliseconds, which a round's calls have in common, and the headers made of them.
        left = max(0.0, self._spec.deadline - now)
        return left if math.isinf(left) else math.ceil(left * 1000) / 1000

    def _settle(self) -> None:
        """Make the result of what came back, unless something has to be done for it first."""
        assert self._node is not None
        assert self._unary is not None
        try:
            answer = self._node.answer(self._unary)
        except ProofFailed as error:
            self._distrust(error)
        except GRPCError as error:
            outcome = outcome_of_grpc_error(error)
            self.model.overrunning = self.model.overrunning or outcome is Outcome.OVERRAN
            our_own = self._behind_ours or trio.current_time() >= self._spec.deadline
            if outcome is Outcome.OVERRAN and our_own:  # it keeps the deadline that we told it
                self._progress = Progress.CUT_OFF
                self.expire()
                return
            text = f"gRPC status {error.status.name}: {error.message or 'no message'}"
            self._end(outcome, text, error=error)
        except NodeBusyError:
            self._retries += 1
            self._progress = Progress.BUSY
            self._behind_ours = self._behind_ours or self.model.overrunning
        except CallInterrupted as error:
            if error.unprocessed:
                self._retries += 1
                self._progress = Progress.WAITING
            else:
                outcome = Outcome.CONNECTION_LOST if error.connection_lost else Outcome.MODEL_FAILED
                self._end(outcome, str(error), error=error)
        else:
            self._read(answer)

    def _distrust(self, error: ProofFailed) -> None:
        unknown = isinstance(error, UnknownIdentity)
        outcome = Outcome.NOT_ITS_FAULT if unknown else Outcome.ANSWER_UNPROVED
        self._end(outcome, str(error), error=error)
        self.model.distrust(error)

    def _read(self, answer: Answer) -> None:
        """Make the result of an answer; none, if the model must be set up first, or the value is large."""
        self.model.overrunning = False
        try:
            read = self._spec.read(answer.message)
        except ValueError as error:
            text = f"the answer can't be read: {error}"
            self._end(Outcome.MODEL_FAILED, text, error=InvalidAnswer(str(error)))
            return
        if read.code is AnswerCode.FAILED_PRECONDITION and not (self._renewed or self.joining):
            self._renewed = True
            self._progress = Progress.WAITING
            self.model.renew(f"the node has no instance: {read.message}")
            return
        if read.code is not AnswerCode.SUCCESS:
            outcome = outcome_of_answer(read.code)
            if outcome is Outcome.BAD_IMPLEMENTATION and self._spec.optional:
                outcome = Outcome.NOT_ITS_FAULT
            self._end(outcome, f"{read.code}: {read.message}")
            return
        if self._spec.resets:
            self.model.renew("it was reset")
        encoded = read.value
        assert encoded is not None
        if not self._spec.decode:
            self._end(Outcome.SUCCEEDED, value=encoded)
        elif self._spec.takes_long_to_decode(encoded):
            self._progress = Progress.READING
            self._undecoded = encoded
        else:
            self._end_as(self._spec.value_of(encoded))

    async def _decode_in_worker(self, encoded: Encoded) -> None:
        apart = len(encoded.data) > LARGEST_AMONG_OTHERS
        decoded = await run_in_worker(self._spec.decoded, encoded, apart=apart)
        if self._spec.structures_in_any_thread:
            self._end_as(await run_in_worker(self._spec.structured, decoded, apart=apart))
        else:
            self._end_as(self._spec.structured(decoded))

    def _end_as(self, value: Value) -> None:
        self._end(value.outcome, value.detail, value=value.value, error=value.error)

    def expire(self, *, excused: bool = False) -> None:
        """Make the result of a call that was cut off; nothing happens to one that has its result.

        Args:
            excused: it was not cut off by its own deadline, in time, so nobody is to blame.
        """
        if self.result is not None:
            return
        if self._progress is Progress.WAITING:
            outcome, text = Outcome.NOT_REACHED, f"the deadline passed while waiting: {self.model.condition}"
        elif self._progress is Progress.BUSY or self._behind_ours:
            outcome = Outcome.NOT_REACHED if self._behind_ours else Outcome.BUSY
            text = "the node was busy until the deadline"
        elif self._progress is Progress.READING:
            outcome, text = (
                Outcome.NOT_REACHED,
                "the answer came, and was not decoded by the deadline",
            )
        elif self._progress is Progress.CUT_OFF:
            outcome, text = Outcome.OVERRAN, "no answer before the deadline"
        else:
            outcome, text = Outcome.NOT_REACHED, "the deadline passed before the request was sent"
        self._end(Outcome.NOT_REACHED if excused else outcome, text, error=TimeoutError(text))

    def _end(
        self, outcome: Outcome, detail: str = "", *, value: Any = None, error: Exception | None = None
    ) -> None:
        status = RULES[outcome].status
        elapsed = 0.0
        if status is Status.TIMEOUT and self._first_handed_over_at is not None:
            elapsed = trio.current_time() - self._first_handed_over_at
        elif self._unary is not None and self._unary.ended_at is not None:
            elapsed = self._unary.ended_at - self._handed_over_at
        if error is not None and outcome is not Outcome.COORDINATOR_RAISED:
            _drop_traceback(error)
        detail = self.model.shorten(detail)
        self.result = PredictResult(
            model=self.model, status=status, value=value, elapsed=elapsed, detail=detail, error=error
        )
        self.model.note(outcome, self._spec.method, detail)
        if self._on_result is not None:
            self._on_result(self.result)


def _drop_traceback(error: BaseException | None) -> None:
    """Let go of the frames that an error came through, and with them of all that belongs to the round.

    Results are kept, and their texts tell what a model did. (A coordinator's own error is to be debugged.)
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
