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
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import trio
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from ..errors import InvalidAnswer
from ..groups import one_by_itself
from ..rpc.receiver import CallInterrupted
from ..rpc.unary import Answer, UnaryCall
from ..services.base import AnswerCode, Request, ServiceAnswer
from ..values.data import DataType, Encoded, decode_data
from ..values.results import PredictResult, Status
from ..workers import INLINE_BYTES, run_in_worker
from .policy import RULES, Outcome, is_busy, outcome_of_answer, outcome_of_grpc_error
from .queueing import QueueFullError, Turn
from .requests import Requests

if TYPE_CHECKING:
    from .runner import ModelRunner

__all__ = ["Call", "CallSpec", "ModelUnavailableError", "perform_all"]

_RETRY_AFTER: Final = (0.002, 0.05)
"""The shortest and the longest wait before a request is sent again, seconds; it doubles in between."""

_READERS_PASSES: Final = 3
"""Checkpoints after the deadline in which readers deliver what the kernel holds: read, decrypt, wake."""

_OVERSLEPT: Final = 0.25
"""Seconds after the deadline from which on it was this process that had no time, not the models."""


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


@attrs.frozen
class CallSpec:
    """What the calls of one round have in common.

    Attributes:
        method: the method's name.
        requests: what each model is sent.
        read: reads a node's answer; raises ValueError for a malformed one.
        deadline: on Trio's clock, seconds.
        max_message_bytes: the largest answer taken, bytes.
        optional: a model that lacks the method is not to blame.
        decode: a value is decoded; else it is given as the `Encoded` that came.
        frames: what data frames are given as.
        returns: turns a decoded answer into the value, or raises; None leaves it as it is.
        misfit: what it is when `returns` raises `InvalidAnswer`.
        resets: the call takes the model's instance away, so that it must be set up again.
    """

    method: str
    requests: Requests
    read: Callable[[bytes], ServiceAnswer]
    deadline: float
    max_message_bytes: int
    optional: bool = False
    decode: bool = True
    frames: Literal["arrow", "pandas"] = "arrow"
    returns: Callable[[Any], Any] | None = None
    misfit: Outcome = Outcome.INVALID_ANSWER
    resets: bool = False


class Call:
    """One call on one model. Making it takes its place in the model's queue, without a checkpoint.

    Attributes:
        model: the model.
        result: the result; None as long as there is none.
    """

    __slots__ = (
        "_behind_ours",
        "_first_handed_over_at",
        "_handed_over_at",
        "_on_result",
        "_progress",
        "_spec",
        "_turn",
        "_unary",
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
        self._first_handed_over_at: float | None = None
        self._handed_over_at: float | None = None
        self._unary: UnaryCall | None = None
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

    @enable_ki_protection
    async def perform(self) -> None:
        """Make the call, unless it has its result already; whoever cancels this asks `expire` for one."""
        if self.result is not None or self._turn is None:
            return  # noqa: ASYNC910 - a task of its own ends with this
        try:
            await self._turn.wait()
            try:
                requests = self._spec.requests
                request = requests.same or await requests.for_model(self.model)
            except Exception as error:  # the coordinator's code: any error is this model's result
                self._end(Outcome.COORDINATOR_RAISED, f"arguments: {error!r}", error=error)
                return
            await self._send_until_processed(request)
        finally:
            sent = self._unary is not None and self._unary.sent
            if self.result is None and self._progress is Progress.CALLING and sent:
                self._progress = Progress.CUT_OFF
                self.model.overrunning = True
            self._turn.leave()

    def abandon(self) -> None:
        """Give up the place in the queue: this call will not be performed."""
        if self._turn is not None:
            self._turn.leave()
            self._turn = None

    async def _send_until_processed(self, request: Request) -> None:
        """Send the request, and again as long as nothing can have come of it."""
        delay, longest = _RETRY_AFTER
        renewed = False
        while True:
            try:
                answer = await self._send(request)
            except ModelUnavailableError as error:
                self._end(Outcome.CONNECTION_LOST, str(error))
                return  # noqa: ASYNC910 - a task of its own ends with this
            except GRPCError as error:
                if not (is_busy(error) and self._unary is not None and self._unary.trailers_only):
                    outcome = outcome_of_grpc_error(error)
                    self.model.overrunning = self.model.overrunning or outcome is Outcome.OVERRAN
                    text = f"gRPC status {error.status.name}: {error.message or 'no message'}"
                    self._end(outcome, text, error=error)
                    return  # noqa: ASYNC910 - a task of its own ends with this
                self._progress = Progress.BUSY
                self._behind_ours = self._behind_ours or self.model.overrunning
            except CallInterrupted as error:
                if not error.unprocessed:
                    outcome = Outcome.CONNECTION_LOST if error.connection_lost else Outcome.MODEL_FAILED
                    self._end(outcome, str(error), error=error)
                    return  # noqa: ASYNC910 - a task of its own ends with this
                self._progress = Progress.WAITING
            else:
                if await self._read(answer, may_renew=not renewed and not self.joining):
                    return
                renewed = True
                self._progress = Progress.WAITING
                continue
            await trio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, longest)

    async def _send(self, request: Request) -> Answer:
        connection = await self.model.wait_usable(joining=self.joining)
        self._unary = UnaryCall(
            connection,
            self.model.request_fields(request.path),
            request.message,
            max_message_bytes=self._spec.max_message_bytes,
        )
        self._progress = Progress.CALLING
        now = self._handed_over_at = trio.current_time()
        if self._first_handed_over_at is None:
            self._first_handed_over_at = now
        return await self._unary.perform(max(0.0, self._spec.deadline - now))

    async def _read(self, answer: Answer, *, may_renew: bool) -> bool:  # noqa: ASYNC910 - see `_decode`
        """Make the result of an answer; False if the model must be set up first, and called again."""
        self.model.overrunning = False
        try:
            read = self._spec.read(answer.message)
        except ValueError as error:
            self._end(
                Outcome.MODEL_FAILED, f"the answer can't be read: {error}", error=InvalidAnswer(str(error))
            )
            return True
        if read.code is AnswerCode.FAILED_PRECONDITION and may_renew:
            self.model.renew(f"the node has no instance: {read.message}")
            return False
        if read.code is not AnswerCode.SUCCESS:
            outcome = outcome_of_answer(read.code)
            if outcome is Outcome.BAD_IMPLEMENTATION and self._spec.optional:
                outcome = Outcome.NOT_ITS_FAULT
            self._end(outcome, f"{read.code}: {read.message}")
            return True
        if self._spec.resets:
            self.model.renew("it was reset")
        assert read.value is not None
        self._progress = Progress.READING
        await self._decode(read.value)
        return True

    async def _decode(self, encoded: Encoded) -> None:  # noqa: ASYNC910 - no checkpoint where it is small
        """Make the result of an answer with a value."""
        value: Any = None
        try:
            if not self._spec.decode:
                value = encoded
            elif len(encoded.data) > INLINE_BYTES:
                value = await run_in_worker(_decode, encoded, self._spec.frames)
            elif encoded.data_type is not DataType.NONE:
                value = _decode(encoded, self._spec.frames)
        except InvalidAnswer as error:
            self._end(Outcome.MODEL_FAILED, str(error), error=error)
        except ImportError as error:  # a data frame, and nothing here to read it with
            self._end(Outcome.COORDINATOR_RAISED, str(error), error=error)
        else:
            self._structure(value)

    def _structure(self, decoded: Any) -> None:
        if self._spec.returns is None:
            self._end(Outcome.SUCCEEDED, value=decoded)
            return
        try:
            value = self._spec.returns(decoded)
        except InvalidAnswer as error:
            self._end(self._spec.misfit, str(error), error=error)
        except Exception as error:  # the coordinator's code: any error is this model's result
            self._end(Outcome.COORDINATOR_RAISED, f"returns: {error!r}", error=error)
        else:
            self._end(Outcome.SUCCEEDED, value=value)

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
        elif (
            self._unary is not None and self._unary.ended_at is not None and self._handed_over_at is not None
        ):
            elapsed = self._unary.ended_at - self._handed_over_at
        detail = self.model.shorten(detail)
        self.result = PredictResult(
            model=self.model, status=status, value=value, elapsed=elapsed, detail=detail, error=error
        )
        self.model.note(outcome, self._spec.method, detail)
        if self._on_result is not None:
            self._on_result(self.result)


def _decode(encoded: Encoded, frames: Literal["arrow", "pandas"]) -> Any:
    return decode_data(encoded.data, encoded.data_type, frames=frames)


async def perform_all(calls: Sequence[Call], cutoff: trio.CancelScope) -> None:
    """Make calls side by side; when this returns, each has its result.

    What the kernel holds when they are cut off is still read, since it may be an answer that only our
    own event loop was late for.

    Args:
        calls: new calls, of the same round.
        cutoff: a new cancel scope whose deadline cuts them off. Moved before the calls' own deadline, it
            cuts them off without blaming anybody.
    """
    open_calls = [call for call in calls if call.result is None]
    if not open_calls:
        await trio.lowlevel.checkpoint()
        return
    with one_by_itself():
        await _perform_until(open_calls, cutoff)
    late = trio.current_time() - cutoff.deadline > _OVERSLEPT
    for call in open_calls:
        call.expire(excused=late or cutoff.deadline < call.deadline)


async def _perform_until(open_calls: Sequence[Call], cutoff: trio.CancelScope) -> None:
    async with trio.open_nursery() as nursery:
        remaining = len(open_calls)
        all_ended = trio.Event()

        @enable_ki_protection
        async def perform(call: Call) -> None:
            nonlocal remaining
            await call.perform()
            remaining -= 1
            if not remaining:
                all_ended.set()

        for call in open_calls:
            nursery.start_soon(perform, call)
        with cutoff:
            await all_ended.wait()
        if cutoff.cancelled_caught:
            # What is left takes no time. A deadline around us that passes meanwhile may not cost the results.
            nursery.cancel_scope.shield = True
            for _ in range(_READERS_PASSES):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
