"""One call on one model: from its place in the queue to its result.

A call has to end with exactly one result, whatever happens to the node, the connection, the deadline or the
task; and with the right one, since some results count against a person's model. So a call always knows
how far it has come (`policy.Progress`): when the deadline cuts it off, that alone says whether the model
was too slow, or never got the chance. What happened is told to `policy`, which says what it means.

A request that may have reached the model is never sent again: a `tick` changes it. It is sent again only
where nothing can have come of it: the node was busy with something else, the connection ended or refused it
before it was processed, or the node had no instance to call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import trio
from grpclib.exceptions import GRPCError

from ..backoff import growing_waits
from ..channel.deadline import SERVER_EARLY_SECONDS
from ..errors import InvalidAnswer, ProofFailed
from ..rpc.call import Answer, UnaryCall
from ..rpc.receiver import CallInterrupted
from ..services.base import AnswerCode, Request, ServiceAnswer
from ..text import named_error
from ..values.encoded import Encoded
from ..values.results import PredictResult, Status
from .actor import ModelActor, ModelUnavailableError
from .decoding import value_of_slow
from .node_connection import NodeBusyError, NodeConnection, status_text
from .policy import (
    NOT_SENT,
    OUTCOME_OF_A_VALUE,
    RULES,
    Fact,
    Outcome,
    Overrun,
    Progress,
    RoundEvidence,
    cut_off_text,
    is_coordinators,
    is_our_deadline,
    may_still_run,
    must_be_set_up_again,
    must_connect_anew,
    outcome_of_absence,
    outcome_of_answer,
    outcome_of_cut_off,
    outcome_of_distrust,
    outcome_of_fact,
    outcome_of_grpc_error,
    outcome_of_interruption,
    outcome_of_value,
)
from .queueing import QueueFullError, Turn
from .round_spec import FunctionRaised, Requests, RoundSpec, Value

__all__ = ["Call", "drop_traceback"]

_FIRST_RETRY_AFTER: Final = 0.0015
_LONGEST_RETRY_AFTER: Final = 0.0375
_RETRY_JITTER: Final = 1 / 3
"""A request is sent again after 1 to 2 ms, then after longer, up to 50 ms."""


# Looked up for each call, which an enum's member takes long for.
_WAITING: Final = Progress.WAITING
_CALLING: Final = Progress.CALLING
_SUCCESS: Final = AnswerCode.SUCCESS
_TIMEOUT: Final = Status.TIMEOUT


class Call:
    """One call on one model. Making it takes its place in the model's queue, without a checkpoint.

    It is made by `begin` and `conclude`, which never wait; or where something has to be waited for (its turn,
    a connection, a node that is busy, a large answer to be decoded), by `perform`, in a task of its own.

    Args:
        actor: runs the model.
        spec: what is asked.
        requests: what is sent.
        on_result: told the result.
        may_be_joining: a model that `on_join` is catching up is called, too.

    Attributes:
        result: the result; None as long as there is none.
        deadline: when its own time is up, on Trio's clock, seconds.
    """

    __slots__ = (
        "_actor",
        "_behind",
        "_evidence",
        "_first_handed_over_at",
        "_handed_over_at",
        "_joining",
        "_node",
        "_on_result",
        "_overrun",
        "_progress",
        "_renewed",
        "_request",
        "_request_for",
        "_requests",
        "_spec",
        "_turn",
        "_unary",
        "_undecoded",
        "_waits",
        "_was_behind",
        "deadline",
        "result",
    )

    def __init__(
        self,
        actor: ModelActor,
        spec: RoundSpec,
        requests: Requests,
        *,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
    ) -> None:
        self.result: PredictResult[Any] | None = None
        self.deadline = spec.deadline
        self._actor = actor
        self._spec = spec
        self._requests = requests
        self._on_result = on_result
        self._joining = may_be_joining and actor.joining
        self._evidence: RoundEvidence = requests.evidence
        self._overrun: Overrun | None = None
        self._progress = _WAITING
        self._renewed = False
        self._waits: Iterator[float] | None = None
        self._first_handed_over_at: float | None = None
        self._handed_over_at = 0.0
        self._request: Request | None = None
        self._request_for: NodeConnection | None = None
        self._node: NodeConnection | None = None
        self._unary: UnaryCall | None = None
        self._undecoded: Encoded | None = None
        self._turn: Turn | None = None
        self._was_behind = False
        self._behind = 0
        overrun = actor.conduct.record.overrun
        if overrun is not None:
            overrun.open_window(trio.current_time(), self.deadline)
        standing = actor.conduct.record.standings.get(spec.method)
        in_trouble = overrun is not None or (standing is not None and standing.sitting_out)
        if not (self._joining or actor.ready):
            outcome = outcome_of_absence(actor.state, ours=actor.kept_by_us)
            self._end(outcome, actor.condition, error=actor.our_error)
        elif in_trouble and spec.sit_out and self._is_skipped(overrun):
            pass
        else:
            try:
                self._turn = actor.take_turn(joining=self._joining)
                self._behind = self._turn.behind
            except QueueFullError as error:
                self._end(outcome_of_fact(Fact.QUEUE_FULL), str(error))

    def _is_skipped(self, overrun: Overrun | None) -> bool:
        """Skip the call if the node has been busy for too long, or the model sits out this method."""
        now, method, record = trio.current_time(), self._spec.method, self._actor.conduct.record
        if overrun is not None and overrun.outlasts(self._spec.timeout, now):
            if overrun.ours:
                text = f"still busy with {overrun.name}, sent {now - overrun.sent_at:.1f} s ago"
                self._end(outcome_of_fact(Fact.OVERRUN_GOES_ON), text)
            else:
                text = f"busy with another coordinator for {now - overrun.sent_at:.1f} s"
                self._end(outcome_of_fact(Fact.BUSY_GOES_ON), text)
        elif record.sit_out(method, now):
            timeouts = record.standing(method).timeouts
            text = f"sits out {method} after {timeouts} timeout{'s' * (timeouts != 1)} in a row"
            self._end(outcome_of_fact(Fact.SITS_OUT), text)
        return self.result is not None

    def begin(self, on_end: Callable[[Call], None]) -> bool:
        """Send the request right now, if there is nothing to wait for.

        A task for each call, with all that belongs to one, would be a quarter of what a small call costs.

        Args:
            on_end: told when it is time for `conclude`, by whichever task reads from the connection.

        Returns:
            False if nothing was sent: the call must `perform`.
        """
        self._request = self._requests.same
        node = self._actor.usable(joining=self._joining)
        if self._request is None or node is None or self._turn is None or not self._turn.first:
            return False
        if self._actor.conduct.record.overrun is not None:
            return False
        unary = node.new_call_now(self._request)
        if unary is None:
            return False
        unary.begin(self._hand_over(node, unary), on_end, self)
        return True

    def conclude(self) -> bool:
        """Make the result of what came back on `begin`.

        Returns:
            False if there is none yet: the call must `perform`.
        """
        assert self._unary is not None
        self._unary.leave()
        self._settle()
        if self.result is None or self._turn is None:
            return False
        self._turn.leave()
        self._turn = self._unary = None  # three objects less, until the round ends, for the garbage collector
        return True

    async def perform(self) -> None:
        """Make the call, or what is left of it; whoever cancels this asks `expire` for the result."""
        if self._turn is None:
            return
        try:
            await self._turn.wait()
            while self.result is None:
                if self._undecoded is not None:
                    readers, sender = self._actor.frame_readers, self._actor.runner.model_id
                    self._end_with(await value_of_slow(self._spec, self._undecoded, readers, sender))
                else:
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
                self._watch_overrun()
            self._unary.leave()
        if self.result is None:
            self._was_behind = not self._turn.first
        self._turn.leave()
        self._turn = None

    def _watch_overrun(self) -> None:
        """The request has reached the node, and this call ends before its answer: the model may run on."""
        # A call that was cut short overruns only from its own deadline on, since the model knows that one.
        since = trio.current_time() if math.isinf(self.deadline) else self.deadline
        self._overrun = Overrun(
            self._spec.method, self._handed_over_at, since, self._spec.timeout, counts_from=since
        )
        self._actor.watch.begin(self._overrun, self._node)

    def expire(self, *, seconds_late: float = 0.0, cut_short: str = "") -> None:
        """Make the result of a call that was cut off; nothing happens to one that has its result.

        Args:
            seconds_late: how long after the deadline that was.
            cut_short: what cut it off before its own deadline, in words; empty if that is what did.
        """
        if self.result is not None:
            return
        progress = self._progress
        text = cut_short or cut_off_text(progress, seconds_late=seconds_late)
        if progress is Progress.WAITING and not cut_short:
            text = f"{text}: {self._waited_for()}"
        elif progress is Progress.BUSY and not cut_short and self._node is not None:
            self._actor.watch.begin_for_others(self._node)
        outcome = outcome_of_cut_off(progress, seconds_late=seconds_late, cut_short=bool(cut_short))
        self._end(outcome, text, error=TimeoutError(text))

    def _waited_for(self) -> str:
        """What this call waited for, whose turn did not come, or came too late."""
        overrun = self._actor.conduct.record.overrun
        busy = f"still busy with {overrun.name}" if overrun is not None else self._actor.condition
        if not self._behind:
            return busy
        behind = "another call" if self._behind == 1 else f"{self._behind} other calls"
        text = f"behind {behind} of this model, within a timeout of {self._spec.timeout:g} s"
        return text if self._was_behind else f"{text}; {busy}"

    async def _make_request(self) -> bool:
        """Make the request; False if that fails."""
        try:
            self._request, self._evidence = await self._requests.for_model(self._actor.runner)
        except FunctionRaised as raised:  # the coordinator's code: any error is this model's result
            error = raised.error
            self._end_by_mistake(f"the function raised {named_error(error)}", error, raised=error)
            return False
        except Exception as error:
            self._end_by_mistake(str(error), error)
            return False
        return True

    def _end_by_mistake(self, text: str, error: Exception, *, raised: Exception | None = None) -> None:
        """The arguments for this model can't be had, or can't be sent."""
        text = f"arguments: {text}"
        self._requests.mistakes.note(text, raised)
        self._end(outcome_of_fact(Fact.COORDINATORS_CODE_RAISED), text, error=error)

    async def _attempt(self) -> None:
        """Send the request, once more if it was sent before, and wait for what comes of it."""
        if self._waits is not None:
            await trio.sleep(next(self._waits))
        try:
            node = await self._wait_usable()
            while (
                self._request_for is not node
            ):  # `on_join` may change what the coordinator's function returns
                if not await self._make_request():
                    return
                self._request_for = node
                node = await self._wait_usable()
            assert self._request is not None
            unary = await node.new_call(self._request)
        except ModelUnavailableError as error:
            self._end(outcome_of_fact(Fact.MODEL_LEFT), str(error))
        except ProofFailed as error:
            self._distrust(error)
        else:
            await unary.run(self._hand_over(node, unary))
            self._settle()

    async def _wait_usable(self) -> NodeConnection:
        """Wait for a connection whose node is through with what was cut off. Mostly no checkpoint."""
        actor = self._actor
        while True:
            if actor.usable(joining=self._joining) is None and self._progress is Progress.WAITING:
                self._progress = Progress.CONNECTING
            node = await actor.wait_usable(joining=self._joining)
            overrun = actor.conduct.record.overrun
            if overrun is None:
                return node
            self._progress = Progress.WAITING if overrun.ours else Progress.WAITING_FOR_OTHERS
            await actor.watch.wait_through(node)

    def _try_again(self, progress: Progress) -> None:
        """Nothing can have come of the request: it will be sent again, after a short wait."""
        self._progress = progress
        if self._waits is None:
            self._waits = growing_waits(
                _FIRST_RETRY_AFTER, maximum=_LONGEST_RETRY_AFTER, jitter=_RETRY_JITTER
            )

    def _hand_over(self, node: NodeConnection, unary: UnaryCall) -> float:
        """Note that the request goes out now; the seconds that are left for it."""
        self._node, self._unary = node, unary
        self._progress = _CALLING
        now = self._handed_over_at = node.connection.now()
        if self._first_handed_over_at is None:
            self._first_handed_over_at = now
        # In whole milliseconds, which a round's calls have in common, and the headers made of them.
        left = max(0.0, self.deadline - now)
        milliseconds = left * 1000
        return left if math.isinf(milliseconds) else math.ceil(milliseconds) / 1000

    def _settle(self) -> None:
        """Make the result of what came back, unless something has to be done for it first."""
        assert self._node is not None
        assert self._unary is not None
        try:
            answer = self._node.answer(self._unary, asked_at=self._handed_over_at)
        except ProofFailed as error:
            self._distrust(error)
        except GRPCError as error:
            self._settle_error(error)
        except NodeBusyError:
            self._actor.conduct.note_stranger()
            self._try_again(Progress.BUSY)
        except CallInterrupted as error:
            if error.unprocessed:
                self._try_again(Progress.REFUSED)
            else:
                if error.connection_lost and self._unary.handed_over:
                    self._watch_overrun()  # the model may still run it, when it is connected again
                outcome = outcome_of_interruption(connection_lost=error.connection_lost)
                self._end(outcome, str(error), error=error)
        else:
            self._read(answer)

    def _settle_error(self, error: GRPCError) -> None:
        assert self._node is not None
        deadline_passed = trio.current_time() >= self.deadline - SERVER_EARLY_SECONDS
        if may_still_run(error):
            self._watch_overrun()
        elif must_connect_anew(error):
            self._actor.retire_connection(self._node, status_text(error))
        if is_our_deadline(error, deadline_passed=deadline_passed):
            self._progress = Progress.CUT_OFF
            self.expire()
        else:
            self._end(outcome_of_grpc_error(error), status_text(error), error=error)

    def _distrust(self, error: ProofFailed) -> None:
        self._end(outcome_of_distrust(error, answer=True), str(error), error=error)
        self._actor.distrust(error)

    def _read(self, answer: Answer) -> None:
        """Make the result of an answer; none, if the model must be set up first, or the value is large."""
        try:
            read = self._spec.read(answer.message)
        except ValueError as error:
            invalid = InvalidAnswer(str(error))
            text = f"the answer can't be read: {error}"
            self._end(outcome_of_value(invalid, misfits_count=True), text, error=invalid)
            return
        if read.code is _SUCCESS:
            assert read.value is not None
            self._take(read.value)
        else:
            self._read_failure(read)

    def _read_failure(self, read: ServiceAnswer) -> None:
        must_be_set_up = must_be_set_up_again(read.code)
        if must_be_set_up:
            self._progress = Progress.WAITING
        if must_be_set_up and not (self._renewed or self._joining):
            self._renewed = True
            self._actor.renew(f"the node has no instance: {read.message}")
        else:
            outcome = outcome_of_answer(read.code, optional=self._spec.optional)
            self._end(outcome, f"{read.code}: {read.message}")

    def _take(self, encoded: Encoded) -> None:
        """Make the result of a value; none, if that takes long."""
        if not self._spec.decode:
            self._end_with(Value(encoded))
        elif self._spec.takes_long_to_decode(encoded):
            self._progress = Progress.READING
            self._undecoded = encoded
        else:
            self._end_with(self._spec.value_of(encoded))

    def _end_with(self, value: Value) -> None:
        if value.error is None:
            self._end(OUTCOME_OF_A_VALUE, value=value.value)
        else:
            outcome = outcome_of_value(value.error, misfits_count=value.misfits_count)
            if is_coordinators(outcome):
                self._requests.mistakes.note(value.detail, value.error if value.raised else None)
            self._end(outcome, value.detail, error=value.error)

    def _may_have_reached_the_model(self) -> bool:
        if self._unary is None or self._progress in NOT_SENT:
            return False  # never written, or certainly not processed
        return self._unary.handed_over

    def _end(
        self, outcome: Outcome, detail: str = "", *, value: Any = None, error: Exception | None = None
    ) -> None:
        status = RULES[outcome].status
        elapsed = 0.0
        if status is _TIMEOUT and self._first_handed_over_at is not None:
            elapsed = trio.current_time() - self._first_handed_over_at
        elif self._unary is not None and self._unary.ended_at is not None:
            elapsed = self._unary.ended_at - self._handed_over_at
        if error is not None and error is not self._actor.error and not is_coordinators(outcome):
            drop_traceback(error)
        if detail:
            detail = self._actor.shorten(detail)
        self.result = PredictResult(
            model=self._actor.runner,
            status=status,
            value=value,
            elapsed=elapsed,
            detail=detail,
            error=error,
            sent=self._may_have_reached_the_model(),
        )
        self._actor.note(self._evidence, outcome, detail, self._overrun)
        if self._on_result is not None:
            self._on_result(self.result)


def drop_traceback(error: BaseException | None) -> None:
    """Let go of the frames that an error came through, and with them of all that belongs to the round.

    Results are kept, and their texts tell what a model did. (A coordinator's own error is to be debugged.)
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
