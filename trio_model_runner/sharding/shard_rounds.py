"""The rounds of one shard: each is an ordinary `Round`, whose results go to the driver in batches.

The driver has asked for it and checked that, and knows what an answer must look like. Here an answer is only
decoded to see whether it can be; what is sent is what came.

Whatever happens, each member gets exactly one row, and after the last row of a round comes nothing more of
it. A batch goes out when the event loop has nothing more to do, when its round is complete, or after a few
milliseconds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..cluster.rounds import OrdinaryRound
from ..model.call import Call
from ..model.policy import Outcome, RoundEvidence, is_coordinators
from ..model.reset import wait_ready_again
from ..model.round_spec import Mistakes, Requests, RoundSpec, Value
from ..text import named_error
from ..values.data import Arguments
from ..values.results import PredictResult, Status
from .messages import ArgumentsGiven, ArgumentsWanted, FromShard, RoundBegin, RoundCut
from .shard_judge import ForwardedEvidence
from .shard_results import Batches, Collected
from .wire_values import arguments_from_wire

if TYPE_CHECKING:
    from ..model.actor import ModelActor
    from ..model.node_resources import NodeResources
    from ..model.round_spec import CallOptions
    from ..services.base import Request
    from ..values.encoded import Encoded
    from ..values.results import Model
    from .shard_supervisor import ShardSupervisor, Starter

__all__ = ["ShardRounds"]

_LEFT: Final = "it has left this shard"

logger = logging.getLogger("trio_model_runner.sharding")


class ShardRounds:
    """Plays what the driver asks for.

    Args:
        resources: the settings, and the service.
        supervisor: has the models.
        starter: runs the rounds.
        batches: takes the results.
        say: says something to the driver. It must neither raise nor wait.
    """

    def __init__(
        self,
        resources: NodeResources,
        supervisor: ShardSupervisor,
        starter: Starter,
        batches: Batches,
        say: Callable[[FromShard], None],
    ) -> None:
        self._resources = resources
        self._supervisor = supervisor
        self._starter = starter
        self._batches = batches
        self._say = say
        self._rounds: dict[int, _Playing] = {}
        self._muted_because: str | None = None

    def begin(self, begin: RoundBegin) -> None:
        """Begin a round. Its places in the queues are taken when this returns."""
        found = [(number, self._supervisor.actor(number)) for number in begin.members]
        actors = {actor: number for number, actor in found if actor is not None}
        collected = self._batches.collect(begin, {actor.runner: number for actor, number in actors.items()})
        for number, actor in found:
            if actor is None:
                collected.add_plain(number, Status.ABSENT, _LEFT)
        try:
            playing = self._make(begin, list(actors), collected)
        except Exception as error:
            _fail(collected, begin, error)
            return
        self._rounds[begin.round] = playing
        if self._muted_because is not None:
            playing.cut(trio.current_time(), self._muted_because)
        self._starter.start_soon(functools.partial(self._play, begin, playing, list(actors)))

    def cut(self, cut: RoundCut) -> None:
        """End a round sooner."""
        playing = self._rounds.get(cut.round)
        if playing is not None:
            playing.cut(trio.current_time() + cut.seconds, cut.reason)

    def give(self, given: ArgumentsGiven) -> None:
        """Take the arguments that a call waits for."""
        playing = self._rounds.get(given.round)
        if playing is not None:
            playing.requests.give(given)

    def mute(self, reason: str) -> None:
        """Cut all rounds, and those that begin from now on."""
        self._muted_because = reason
        for playing in self._rounds.values():
            playing.cut(trio.current_time(), reason)

    def unmute(self) -> None:
        """Play rounds again."""
        self._muted_because = None

    def _make(self, begin: RoundBegin, actors: list[ModelActor], collected: Collected) -> _Playing:
        """Make a round: the same as `cluster.caller` does."""
        config, service = self._resources.config, self._resources.service
        if service is None:
            raise RuntimeError("no service was named, so nothing is called")
        now, judge = trio.current_time(), self._supervisor.judge
        make: Callable[[Arguments], Request]
        if begin.reset:
            request = service.reset_request()
            method, read, make = request.path, service.read_reset, lambda _: request
        else:
            method, read = begin.method, service.read_call
            make = functools.partial(service.call_request, method)
        options: CallOptions = {"optional": begin.optional, "sit_out": begin.sit_out, "decode": begin.decode}
        spec = RoundSpec.make(config, method, read, now, **options)
        spec = attrs.evolve(spec, timeout=begin.timeout, deadline=now + begin.seconds)

        def new_evidence(shape: Hashable) -> RoundEvidence:
            text = shape if isinstance(shape, str) else ""
            return judge.evidence(
                method, shape, shape_text=text, round_number=begin.round, began=now, judged=begin.judged
            )

        requests = _ShardRequests(self, begin, make, config.limits.max_message_bytes, new_evidence, collected)
        new_round = OrdinaryRound(
            str(begin.round),
            spec,
            requests,
            actors,
            scope_margin=config.scope_margin,
            judge=judge,
            reset=begin.reset,
            call_type=_ForwardingCall,
            may_be_joining=begin.joining,
        )
        new_round.add_metadata(begin.metadata)
        return _Playing(new_round, spec, requests)

    def want_arguments(self, round_number: int, model: Model, collected: Collected) -> int:
        """Ask the driver for a model's arguments; return the model's number."""
        number = collected.numbers[model]
        self._say(ArgumentsWanted(round_number, number))
        return number

    @enable_ki_protection
    async def _play(self, begin: RoundBegin, playing: _Playing, actors: list[ModelActor]) -> None:
        """Play a round. An exception in it costs its own members their results, and nothing else."""
        try:
            await playing.round.prepare()
            played = await playing.round.play()
            if begin.reset:
                for actor in actors:
                    await self._await_reset(playing, actor, played[actor.runner])
        except Exception as error:
            _fail(playing.requests.collected, begin, error)
        finally:
            del self._rounds[begin.round]
            playing.requests.collected.complete("its shard ended")

    async def _await_reset(self, playing: _Playing, actor: ModelActor, result: PredictResult[Any]) -> None:
        """Wait until a model that was reset is ready again."""
        deadline = playing.spec.deadline
        with playing.waiting as scope:
            result = await wait_ready_again(actor, result, deadline)
        if scope.cancelled_caught:
            result = attrs.evolve(result, status=Status.TIMEOUT, detail=playing.cut_because)
        playing.requests.collected.add(result)


def _fail(collected: Collected, begin: RoundBegin, error: Exception) -> None:
    logger.error("round %d of %r failed in its shard", begin.round, begin.method, exc_info=error)
    collected.complete(f"the round failed in its shard: {named_error(error)}", error)


@attrs.define(eq=False)
class _Playing:
    """A round that is played.

    Attributes:
        round: the ordinary round.
        spec: what is asked.
        requests: what is sent.
        waiting: the wait for a model that was reset.
        cut_because: why it was cut, in words.
    """

    round: OrdinaryRound
    spec: RoundSpec
    requests: _ShardRequests
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    cut_because: str = ""

    def cut(self, deadline: float, reason: str) -> None:
        """End it at this time on Trio's clock, seconds, if that is sooner."""
        self.round.end_by(deadline, reason)
        if deadline < self.waiting.deadline:
            self.waiting.deadline, self.cut_because = deadline, reason


class _Unsaid(Mistakes):
    """Mistakes that the driver says: once for all shards, and it has the exception."""

    def note(self, text: str, raised: Exception | None = None) -> None:
        """See `Mistakes.note`."""


class _ShardRequests(Requests):
    """The requests of one round in a shard. Where a function makes the arguments, the driver is asked."""

    __slots__ = ("_begin", "_given", "_rounds", "collected")

    def __init__(
        self,
        rounds: ShardRounds,
        begin: RoundBegin,
        make: Callable[[Arguments], Request],
        max_message_bytes: int,
        new_evidence: Callable[[Hashable], RoundEvidence],
        collected: Collected,
    ) -> None:
        arguments: Arguments | Callable[[Model], Arguments]
        if begin.reset:
            arguments = Arguments()
        elif begin.arguments is None:
            arguments = _never_called
        else:
            arguments = arguments_from_wire(begin.arguments)
        super().__init__(make, arguments, max_message_bytes, new_evidence)
        self.mistakes = _Unsaid()
        self.collected = collected
        self._begin = begin
        self._rounds = rounds
        self._given: dict[int, _Given] = {}

    def give(self, given: ArgumentsGiven) -> None:
        """Take what a call waits for."""
        waiting = self._given.get(given.number)
        if waiting is not None:
            waiting.arguments = given
            waiting.came.set()

    async def arguments_for(self, model: Model) -> Arguments:
        """See `Requests.arguments_for`: the function is the driver's, and so are its exceptions."""
        number = self._rounds.want_arguments(self._begin.round, model, self.collected)
        waiting = self._given[number] = _Given()
        try:
            await waiting.came.wait()
        finally:
            del self._given[number]
        given = waiting.arguments
        assert given is not None
        if given.arguments is None:
            raise ValueError(given.mistake)
        return arguments_from_wire(given.arguments)


def _never_called(model: Model) -> Arguments:
    """Stands for the function, which is at the driver."""
    raise AssertionError


@attrs.define(eq=False)
class _Given:
    came: trio.Event = attrs.field(factory=trio.Event)
    arguments: ArgumentsGiven | None = None


class _ForwardingCall(Call):
    """A call whose answer goes on as it came."""

    __slots__ = ("_came",)

    def _take(self, encoded: Encoded) -> None:
        """Keep what came: it is decoded only to see whether it can be."""
        self._came = encoded
        super()._take(encoded)

    def _end_with(self, value: Value) -> None:
        super()._end_with(Value(self._came) if value.error is None else value)

    def _end(
        self, outcome: Outcome, detail: str = "", *, value: Any = None, error: Exception | None = None
    ) -> None:
        super()._end(outcome, detail, value=value, error=error)
        assert self.result is not None
        assert isinstance(self._requests, _ShardRequests)
        assert isinstance(self._evidence, ForwardedEvidence)
        shape = None if self._evidence.elsewhere else self._evidence.shape
        self._requests.collected.add(self.result, outcome, mistake=is_coordinators(outcome), shape=shape)
