"""Rounds: the same call on many models at once, and one result from each by the deadline.

A round takes its members and their places in the queues before its first checkpoint. So a model that has just
joined is either in it or not, and never half; that is what makes a catch-up in `on_join` exact.

Most calls need nothing but to be sent, and an answer. They are sent one after the other, at once; then the
round's own task waits for answers, for all of them together. Only a call that must wait for something else
gets a task, in a nursery that ends with the round. An answer is concluded in the round's task, not where it
is read: whatever the coordinator's code does with it then, no connection's reader is in the way, and the
context is the caller's.
"""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import one_by_itself
from ..model.actor import ModelActor
from ..model.call import Call
from ..model.reset import ResetCall
from ..model.round_spec import Requests, RoundSpec
from ..rpc.reader import let_readers_catch_up
from ..signal import Signal
from ..text import quoted
from ..values.prediction_round import PredictionRound
from ..values.results import PredictResult
from .actors import A
from .instrument import RoundStart

if TYPE_CHECKING:
    from ..model.policy import Judge
    from ..rpc.headers import RawFields

__all__ = ["OrdinaryRound", "Round"]

logger = logging.getLogger("trio_model_runner.cluster")

_DRAIN: Final = "drain() ended its round"
_ENCLOSING: Final = "its round ended just before the deadline of an enclosing cancel scope"
_ENCODING: Final = "the deadline passed while the arguments were encoded"


class Round(ABC, Generic[A]):
    """One round. Making it takes the members and their places, without a checkpoint.

    After that comes `prepare`, and if that raised nothing, `play`. Here is what a round is wherever its
    models' actors are: its members, its times, and what ends it sooner.

    Args:
        round_id: the round's id.
        spec: what is asked.
        requests: what is sent.
        members: whom, each once.
        missing: ids that were asked for and never announced.
        scope_margin: seconds before the deadline of an enclosing scope at which the round ends.
        judge: told at the end what is known of requests that something still waits for.
    """

    def __init__(
        self,
        round_id: str,
        spec: RoundSpec,
        requests: Requests,
        members: Sequence[A],
        missing: Sequence[str] = (),
        *,
        scope_margin: float,
        judge: Judge,
    ) -> None:
        self._id = round_id
        self._judge = judge
        self._spec = spec
        self._requests = requests
        self._members = members
        self._missing = missing
        self._started_at = time.time()
        self._began = trio.current_time()
        # An enclosing deadline that is nearer would turn the answers into a `Cancelled`.
        enclosing = trio.current_effective_deadline() - scope_margin
        self._cutoff = trio.CancelScope(deadline=min(spec.deadline, enclosing))
        self._cut_by = "" if enclosing >= spec.deadline else _ENCLOSING
        self._preparation = trio.CancelScope(deadline=self._cutoff.deadline)

    @property
    def id(self) -> str:
        """The round's id."""
        return self._id

    @property
    def missing(self) -> Sequence[str]:
        """Ids that were asked for and never announced."""
        return self._missing

    def end_by(self, deadline: float, reason: str = _DRAIN) -> None:
        """Cut the round off at this time on Trio's clock, in seconds, if that is sooner.

        Args:
            deadline: the time.
            reason: why, in words.
        """
        if deadline < self._cutoff.deadline:
            self._cut_by = reason
        for scope in (self._preparation, self._cutoff):
            scope.deadline = min(scope.deadline, deadline)

    def start(self) -> RoundStart:
        """The same for those who are told that it begins."""
        return RoundStart(
            self._id,
            self._spec.method,
            self._started_at,
            self._spec.timeout,
            tuple(actor.runner for actor in self._members),
        )

    def add_metadata(self, metadata: RawFields) -> None:
        """Send these header fields with all requests; before `prepare`."""
        self._requests.metadata = metadata

    async def prepare(self) -> None:
        """Encode what is the same for all models, before anything is sent. No checkpoint if that is little.

        Raises:
            TypeError: an argument has no encoding, or the service can't carry it.
            ValueError: an argument is out of range, or the request is too large.
        """
        try:
            with self._preparation:
                await self._requests.prepare()
        except BaseException:
            self._leave()
            raise

    async def play(self) -> PredictionRound[Any]:
        """Make the calls and return their results, by the deadline.

        Raises:
            RuntimeError: a result is missing, which is a bug.
        """
        try:
            if self._preparation.cancelled_caught:
                self._leave()
                self._call_off(self._cut_short() or _ENCODING)
                await trio.lowlevel.checkpoint()
            else:
                await self._make_calls()
        finally:
            for evidence in self._requests.waiting():
                self._judge.close(evidence)
            self._say_mistakes()
        if (count := self._count()) != len(self._members):
            raise RuntimeError(f"round {self._id} has {count} results of {len(self._members)} members")
        return self._played(
            id=self._id,
            method=self._spec.method,
            started_at=self._started_at,
            elapsed=trio.current_time() - self._began,
            timeout=self._spec.timeout,
            missing=self._missing,
        )

    @abstractmethod
    def _leave(self) -> None:
        """Give up the places: no call is made."""

    @abstractmethod
    def _call_off(self, reason: str) -> None:
        """Make the results of calls that will not be made."""

    @abstractmethod
    async def _make_calls(self) -> None:
        """Make the calls, until there is a result of each, or `_cutoff` ends them."""

    @abstractmethod
    def _count(self) -> int:
        """How many members have a result."""

    @abstractmethod
    def _played(self, **settings: Any) -> PredictionRound[Any]:
        """The results, all of them."""

    def _say_mistakes(self) -> None:
        """Log the coordinator's own mistakes, once for all models, with the traceback of its own code."""
        mistakes = self._requests.mistakes
        if mistakes.count:
            logger.error(
                "round %s: %s failed for %s by no fault of theirs: %s",
                self._id,
                quoted(self._spec.method.lstrip("/")),
                "1 model" if mistakes.count == 1 else f"{mistakes.count} models",
                quoted(mistakes.text),
                exc_info=mistakes.raised,
            )

    def _cut_short(self) -> str:
        """What cut the round off before its own deadline, in words; empty if nothing did."""
        if not self._cut_by:
            return ""
        elapsed, timeout = trio.current_time() - self._began, self._spec.timeout
        whole = "" if math.isinf(timeout) else f" of {timeout:g}"
        return f"cut off after {elapsed:.3g}{whole} s: {self._cut_by}"


class OrdinaryRound(Round[ModelActor]):
    """A round of models whose actors are in this process.

    Args:
        *arguments: see `Round`, as all other settings.
        reset: these are no calls of a method, but requests to forget what was learnt.
        call_type: what makes the calls, unless it is a reset.
        on_result: told each result, as it comes.
        may_be_joining: a model that `on_join` is catching up is called, too.
        **settings: the others.
    """

    def __init__(
        self,
        *arguments: Any,
        reset: bool = False,
        call_type: type[Call] = Call,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        make = ResetCall if reset else call_type
        self._calls = [
            make(actor, self._spec, self._requests, on_result=on_result, may_be_joining=may_be_joining)
            for actor in self._members
        ]

    def _leave(self) -> None:
        for call in self._calls:
            call.leave()

    def _call_off(self, reason: str) -> None:
        for call in self._calls:
            call.expire(cut_short=reason)

    async def _make_calls(self) -> None:
        await _fan_out(self._calls, self._cutoff, self._cut_short)

    def _count(self) -> int:
        return sum(call.result is not None for call in self._calls)

    def _played(self, **settings: Any) -> PredictionRound[Any]:
        results = {call.result.model: call.result for call in self._calls if call.result is not None}
        return PredictionRound(results, **settings)


async def _fan_out(calls: Sequence[Call], cutoff: trio.CancelScope, cut_short: Callable[[], str]) -> None:
    """Make calls side by side; when this returns, each has its result.

    What the kernel holds when they are cut off is still read, since it may be an answer that only our
    own event loop was late for.

    Args:
        calls: new calls, of the same round.
        cutoff: a new cancel scope whose deadline cuts them off.
        cut_short: says what cut them off before their own deadline; empty if it was that deadline.
    """
    open_calls = [call for call in calls if call.result is None]
    if not open_calls:
        await trio.lowlevel.checkpoint()
        return
    try:
        async with trio.open_nursery() as nursery:
            await _FanOut(open_calls, nursery).run(cutoff)
    except BaseExceptionGroup:
        with one_by_itself():
            raise
    seconds_late, reason = trio.current_time() - cutoff.deadline, cut_short()
    for call in open_calls:
        if call.result is None:
            call.expire(seconds_late=seconds_late, cut_short=reason)


class _FanOut:
    """The calls of one round while they are made.

    Args:
        calls: new calls.
        nursery: where those run that need a task.
    """

    def __init__(self, calls: Sequence[Call], nursery: trio.Nursery) -> None:
        self._calls = calls
        self._nursery = nursery
        self._remaining = len(calls)
        self._without_task = set(calls)
        self._answered: list[Call] = []
        self._broken = False
        self._news = Signal()

    async def run(self, cutoff: trio.CancelScope) -> None:
        """Make all calls, until they have their results or are cut off."""
        try:
            with cutoff:
                await trio.lowlevel.checkpoint_if_cancelled()  # or requests would be sent only to be reset
                note_answer = self._note_answer  # one object for all calls
                for call in self._calls:
                    if not call.begin(note_answer):
                        self._give_task(call)
                while self._remaining and trio.current_time() < cutoff.deadline:
                    await self._news.wait_until(self._has_news)
                    self._conclude()
            if self._remaining:
                # What is left takes no time. A deadline around us that passes meanwhile may cost no results.
                self._nursery.cancel_scope.shield = True
                await let_readers_catch_up()
                self._conclude()
                self._nursery.cancel_scope.cancel()
        finally:
            for call in self._without_task:
                call.leave()

    def _has_news(self) -> bool:
        return bool(self._answered) or not self._remaining

    def _note_answer(self, call: Call) -> None:
        self._answered.append(call)
        if len(self._answered) == 1:  # else it was sent already
            self._news.send()

    def _conclude(self) -> None:
        """Make the results of the answers that have come."""
        answered, self._answered = self._answered, []
        for call in answered:
            if call.conclude():
                self._remaining -= 1
            else:
                self._give_task(call)

    def _give_task(self, call: Call) -> None:
        self._without_task.remove(call)
        self._nursery.start_soon(self._perform, call)

    @enable_ki_protection
    async def _perform(self, call: Call) -> None:
        if self._broken:  # the coordinator's code ends the program, which it should do once
            call.leave()
            return
        try:
            await call.perform()
        except trio.Cancelled:
            raise
        except BaseException:
            self._broken = True
            raise
        self._remaining -= 1
        if not self._remaining:
            self._news.send()
