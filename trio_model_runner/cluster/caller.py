"""Plays rounds: of all models, of some, of one. Knows which rounds are under way, and ends them in a drain.

What a coordinator may ask for is spelt out in `cluster`; here it is checked and made a `RoundSpec`, and the
round is played. `rounds` is one round; which models there are is `fleet`'s affair.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, Unpack

import trio
from trio.lowlevel import current_trio_token, enable_ki_protection

from ..errors import ClusterDraining
from ..given import seconds_given
from ..groups import open_nursery_for_body
from ..model.handle import ModelRunner
from ..model.policy import RoundEvidence
from ..model.reset import wait_ready_again
from ..model.round_spec import CallOptions, Requests, RoundSpec
from ..signal import Signal
from ..trio_needed import trio_needed
from ..values.data import Arguments
from ..values.prediction_round import PredictionRound
from ..values.results import Model, PredictResult
from .actors import A
from .as_completed import ResultsAsCompleted
from .rounds import Round

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..model.policy import Judge
    from ..services.base import NodeService, Request
    from .fleet import Fleet
    from .hooks import Hooks, RoundTold

__all__ = ["ArgumentsFor", "Caller", "MakeRound", "Models"]

ArgumentsFor = Callable[[ModelRunner], Arguments]
Models = Iterable[Model | str]


class MakeRound(Protocol[A]):
    """Makes a round, without a checkpoint: see `Round`, and `OrdinaryRound` for the last three."""

    def __call__(
        self,
        round_id: str,
        spec: RoundSpec,
        requests: Requests,
        members: Sequence[A],
        missing: Sequence[str] = (),
        *,
        scope_margin: float,
        judge: Judge,
        on_result: Callable[[PredictResult[Any]], None] | None = None,
        may_be_joining: bool = False,
        reset: bool = False,
    ) -> Round[A]:
        """Take the members and their places."""


class Caller(Generic[A]):
    """Calls the models of one cluster.

    Args:
        config: the settings.
        service: what the nodes speak; None if nothing is called, since the cluster only observes.
        fleet: the models.
        make_round: makes rounds; the models' actors are its affair.
        hooks: tells instruments of rounds and calls; None if there are none.

    Attributes:
        open: calls are taken; only the cluster's block changes that, and the next two.
        run: the Trio run in which the block was entered; None before that.
        ended_by: the error of ours that has ended the block; None if there is none.
        draining: no new calls are taken, and those under way end.
        last_round: what came of the last round; None before the first.
    """

    def __init__(
        self,
        config: ClusterConfig,
        service: NodeService | None,
        fleet: Fleet[A],
        make_round: MakeRound[A],
        hooks: Hooks | None = None,
    ) -> None:
        self.open = False
        self.run: trio.lowlevel.TrioToken | None = None
        self.ended_by: BaseException | None = None
        self.draining = False
        self.last_round: PredictionRound[Any] | None = None
        self._config = config
        self._service = service
        self._fleet = fleet
        self._new_round_of = make_round
        self._hooks = hooks
        self._rounds: dict[Round[A], RoundTold | None] = {}
        self._round_ids = itertools.count(1)
        self._round_ended = Signal()

    def check_open(self) -> None:
        """Refuse what needs an open cluster.

        Raises:
            RuntimeError: this is no task of the Trio run in which the block was entered.
            trio.ClosedResourceError: the block was not entered, or was left; an error of ours that has ended
                it is the cause.
        """
        if not (self.open and trio.lowlevel.in_trio_task() and self.run is current_trio_token()):
            self._refuse()

    def _refuse(self) -> None:
        """Say why there is no open cluster here."""
        error = trio_needed("a Cluster")
        if error is not None:
            raise error
        if self.run is not None and self.run is not current_trio_token():
            text = "this Cluster belongs to another Trio run: call it there, by trio.from_thread.run"
            raise RuntimeError(text)
        if self.run is None:
            text = "this cluster's block was not entered: use it in `async with Cluster(...) as cluster:`"
        elif self.ended_by is None:
            text = "this cluster's block was left"
        else:
            text = (
                f"this cluster's block was ended by an error, {type(self.ended_by).__name__}: see the cause"
            )
        raise trio.ClosedResourceError(text) from self.ended_by

    @property
    def observes(self) -> bool:
        """Whether nothing is called, since nobody said what the nodes speak."""
        return self._service is None

    def check_calls(self) -> NodeService:
        """Refuse what a cluster can't do that only observes; return what the nodes speak.

        Raises:
            RuntimeError: nobody said what they speak.
        """
        if self._service is None:
            raise RuntimeError(
                "this Cluster only observes, since it was made without a service: "
                "it calls and reports no models"
            )
        return self._service

    async def call(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor,
        models: Models | None = None,
        **options: Unpack[CallOptions],
    ) -> PredictionRound[Any]:
        """Play a round; see `Cluster.call`."""
        new_round = self._new_round(method, arguments, models, options)
        await self._prepare(new_round, self._tell_start(new_round))
        return await self._play(new_round)

    async def predict(
        self, values: tuple[Any, ...], models: Models | None, **options: Unpack[CallOptions]
    ) -> PredictionRound[Any]:
        """Play a round of predictions; see `Cluster.predict`."""
        return await self.call(self.check_calls().predict_method(), Arguments(*values), models, **options)

    @contextlib.asynccontextmanager
    @enable_ki_protection
    async def as_completed(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor,
        models: Models | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[ResultsAsCompleted[Any]]:
        """Play a round, and give each result as it comes; see `Cluster.as_completed`."""
        results = ResultsAsCompleted[Any]()
        new_round = self._new_round(method, arguments, models, options, on_result=results.deliver)
        results.id, results.missing = new_round.id, tuple(new_round.missing)
        await self._prepare(new_round, self._tell_start(new_round))

        @enable_ki_protection
        async def play() -> None:
            ended = None
            try:
                ended = await self._play(new_round)
            finally:
                results.note_end(ended)

        async with open_nursery_for_body() as nursery:
            nursery.start_soon(play)
            try:
                yield results
            finally:
                results.close()
                nursery.cancel_scope.cancel()

    async def call_model(
        self, actor: A, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """Make one call on one model, which may be joining; no method is the one that predicts."""
        method = self.check_calls().predict_method() if method is None else method
        new_round = self._new_round(method, arguments, [actor.runner], options, may_be_joining=True)
        called = await self._prepare_and_play_alone(new_round)
        if self._hooks is not None:
            self._hooks.call_ended(called)
        return called[actor.runner]

    async def reset_model(self, actor: A, timeout: float | None) -> PredictResult[None]:
        """Have one model forget what it has learnt, and wait until it has joined again."""
        service = self.check_calls()
        self._check_taking_calls()
        request = service.reset_request()
        now = trio.current_time()
        spec = RoundSpec.make(self._config, request.path, service.read_reset, now, timeout=timeout)
        requests = self._requests(lambda _: request, Arguments(), request.path, now)
        enclosing = trio.current_effective_deadline() - self._config.scope_margin
        new_round = self._make_round(spec, requests, [actor], reset=True)
        result = (await self._prepare_and_play_alone(new_round))[actor.runner]
        return await wait_ready_again(actor, result, min(spec.deadline, enclosing))

    async def drain(self, timeout: float) -> None:
        """Take no new calls, and wait until those under way have ended; see `Cluster.drain`."""
        seconds = seconds_given(timeout, zero=True)
        self.check_open()
        deadline = trio.current_time() + seconds
        self.draining = True
        for each in self._rounds:
            each.end_by(deadline)
        await trio.lowlevel.checkpoint()
        await self._round_ended.wait_until(lambda: not self._rounds)

    def _check_taking_calls(self) -> None:
        self.check_open()
        if self.draining:
            raise ClusterDraining("this cluster takes no new calls: drain() was called")

    def _new_round(
        self,
        method: str,
        arguments: Arguments | ArgumentsFor,
        models: Models | None,
        options: CallOptions,
        **more: Any,
    ) -> Round[A]:
        self._check_taking_calls()
        now, service = trio.current_time(), self.check_calls()
        spec = RoundSpec.make(self._config, method, service.read_call, now, **options)
        make = functools.partial(service.call_request, method)
        requests = self._requests(make, arguments, method, now)
        if models is None:
            return self._make_round(spec, requests, list(self._fleet.members.values()), **more)
        return self._make_round(spec, requests, *self._fleet.choose(models), **more)

    def _requests(
        self,
        make: Callable[[Arguments], Request],
        arguments: Arguments | ArgumentsFor,
        method: str,
        now: float,
    ) -> Requests:
        judge = self._fleet.judge

        def new_evidence(shape: Hashable) -> RoundEvidence:
            return RoundEvidence(judge.forms.get((method, shape)) or judge.new_form(method, shape), now)

        return Requests(make, arguments, self._config.limits.max_message_bytes, new_evidence)

    def _make_round(self, *arguments: Any, **more: Any) -> Round[A]:
        round_id = str(next(self._round_ids))
        margin, judge = self._config.scope_margin, self._fleet.judge
        return self._new_round_of(round_id, *arguments, scope_margin=margin, judge=judge, **more)

    async def _prepare_and_play_alone(self, new_round: Round[A]) -> PredictionRound[Any]:
        """Make a call of one model, at once: a Ctrl-C in between would leave its place taken.

        It is under way like a round, but it is none: nobody is told of it, and it is not the last one.
        """
        await self._prepare(new_round, None)
        try:
            return await new_round.play()
        finally:
            self._note_end(new_round, None)

    def _tell_start(self, new_round: Round[A]) -> RoundTold | None:
        """Tell instruments that a round begins."""
        if self._hooks is None:
            return None
        told = self._hooks.round_started(new_round.start())
        new_round.add_metadata(told.metadata)
        return told

    async def _prepare(self, new_round: Round[A], told: RoundTold | None) -> None:
        """Prepare a round, which is under way from here on: `drain` ends it, and waits for it."""
        self._rounds[new_round] = told
        try:
            await new_round.prepare()
        except BaseException:
            self._note_end(new_round, None)
            raise

    async def _play(self, new_round: Round[A]) -> PredictionRound[Any]:
        """Play a round that is prepared."""
        played = None
        try:
            played = self.last_round = await new_round.play()
            return played
        finally:
            self._note_end(new_round, played)

    def _note_end(self, new_round: Round[A], played: PredictionRound[Any] | None) -> None:
        told = self._rounds.pop(new_round)
        if told is not None:
            told.end(played)
        if self.draining:
            self._round_ended.send()
