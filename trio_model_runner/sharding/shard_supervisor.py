"""The models of one shard: ordinary `ModelActor`s, which the driver names by numbers.

To the actors, this is the `model.supervisor.Supervisor`; what they say goes to the driver. Nothing is decided
here: which models there are, who replaces whom, and what on_join does is the driver's affair. Rounds are
`shard_rounds`' affair.

A model that has moved away and back has its old number, and an actor anew. The old one may still be saying
goodbye; what it says has the old epoch, and nobody finds it by its number any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Unpack

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..model.actor import ModelActor
from ..model.lifecycle import JoinReason
from ..model.policy import Limits
from ..model.supervisor import JoinFailedElsewhere
from ..security import GatewayCredentials
from ..signal import Signal
from ..values.results import ModelState
from .messages import (
    AskMembers,
    AskStandings,
    Command,
    FromShard,
    JoinEnded,
    JoinWanted,
    MembersAsked,
    StandingCorrected,
    Standings,
    Start,
    State,
    Verb,
)
from .shard_judge import ForwardingJudge
from .told_errors import name_of, text_of

if TYPE_CHECKING:
    from ..model.handle import ModelRunner
    from ..model.node_resources import NodeResources
    from ..model.round_spec import CallOptions
    from ..values.data import Arguments
    from ..values.results import PredictResult

__all__ = ["ShardSupervisor", "Starter"]


_COMMANDS: Final[Mapping[Verb, Callable[[ModelActor, Command], None]]] = {
    Verb.UPDATE: lambda actor, command: actor.update(command.infos),
    Verb.RECOVER: lambda actor, command: actor.recover(),
    Verb.REVIVE: lambda actor, command: actor.revive(),
    Verb.MOVE: lambda actor, command: actor.move(command.host, command.port),
    Verb.RETIRE: lambda actor, command: actor.retire(),
    Verb.STOP: lambda actor, command: actor.stop(command.text) if command.text else actor.stop(),
    Verb.LET_GO: lambda actor, command: actor.let_go(command.text),
    Verb.TRY_LATER: lambda actor, command: actor.try_later(),
    Verb.TRY_NOW: lambda actor, command: actor.try_now(),
}


_ANSWERED: Final = frozenset({Verb.RECOVER, Verb.REVIVE, Verb.MOVE, Verb.LET_GO})
"""The driver changes the state at once where it says these, and waits for what the actor says after that."""


class Starter(Protocol):
    """What runs the parts of a shard. An exception of one ends the shard."""

    def start_soon(self, part: Callable[[], Awaitable[object]], /) -> None:
        """Run a part."""


@attrs.define(eq=False)
class _Member:
    """An actor, and what the driver has been told of it.

    Attributes:
        actor: the actor.
        number: the driver's number of it.
        epoch: how many shards have had it before, plus one.
        heard: how many commands have come for it.
        told: the last that was said.
        moved: the shard that had it before may have left a call to its node that is not over.
    """

    actor: ModelActor
    number: int
    epoch: int
    heard: int = 0
    told: State | None = None
    moved: bool = False


@attrs.define(eq=False)
class _Join:
    """An on_join that runs at the driver.

    Attributes:
        actor: whose.
        ended: set when it has ended.
        error: what it raised, in words; None if it ended well.
    """

    actor: ModelActor
    ended: trio.Event = attrs.field(factory=trio.Event)
    error: str | None = None


class ShardSupervisor:
    """The models of one shard.

    Args:
        resources: what the actors share.
        starter: runs the actors.
        say: says something to the driver, in order. It must neither raise nor wait.
        has_on_join: see `Hello`.
        may_call: waited for by new actors, before they connect.

    Attributes:
        judge: counts what the models do, for the actors here and for the driver.
    """

    def __init__(
        self,
        resources: NodeResources,
        starter: Starter,
        say: Callable[[FromShard], None],
        *,
        has_on_join: bool,
        may_call: Callable[[], Awaitable[None]],
    ) -> None:
        config = resources.config
        self.judge = ForwardingJudge(
            limits=Limits(config.max_consecutive_failures, config.max_consecutive_timeouts),
            health=config.health,
            gateway=isinstance(config.credentials, GatewayCredentials),
            number_of=self._number_of,
            forward=say,
        )
        self._resources = resources
        self._starter = starter
        self._say = say
        self._has_on_join = has_on_join
        self._may_call = may_call
        self._members: dict[int, _Member] = {}
        self._living: dict[Hashable, _Member] = {}  # by handle
        self._unready: dict[_Member, None] = {}
        self._join_ids = itertools.count(1)
        self._joins: dict[int, _Join] = {}
        self._changed = Signal()
        self._closed_because: str | None = None

    # What the driver says.

    def actor(self, number: int) -> ModelActor | None:
        """The actor with a number; None if there is none here, or none any more."""
        member = self._members.get(number)
        return None if member is None else member.actor

    def start(self, start: Start) -> None:
        """Bring up a deployment."""
        if self._closed_because is not None:
            return
        former = self._members.get(start.number)
        if former is not None:
            former.actor.stop("it has moved away, and back")
        actor = ModelActor(
            self,
            self._resources,
            model_id=start.model_id,
            deployment_id=start.deployment_id,
            host=start.host,
            port=start.port,
            infos=start.infos,
            reason=JoinReason.RESTARTED if start.known else start.reason,
        )
        member = _Member(actor, start.number, start.epoch, moved=start.epoch > 1)
        # A node that is busy now is with a call of ours, and not with one of another coordinator.
        actor.conduct.record.strangers_told = member.moved
        self._members[start.number] = self._living[actor.runner] = member
        self._unready[member] = None
        if start.recovering:
            actor.recover()
        self._starter.start_soon(lambda: self._live(member))

    @enable_ki_protection
    async def _live(self, member: _Member) -> None:
        try:
            await self._may_call()
            await member.actor.live()
        finally:
            self._forget(member)

    def _forget(self, member: _Member) -> None:
        self._living.pop(member.actor.runner, None)
        self._unready.pop(member, None)
        self.judge.dismiss(member.actor.conduct.record)
        if self._members.get(member.number) is member:
            del self._members[member.number]

    def command(self, command: Command) -> None:
        """Tell an actor something."""
        member = self._members.get(command.number)
        if member is None:
            return
        member.heard += 1
        _COMMANDS[command.verb](member.actor, command)
        if command.verb in _ANSWERED:
            self._tell(member, again=True)

    async def end_join(self, ended: JoinEnded) -> None:
        """Note that `on_join` has ended, and wait until its model is where that leads to.

        So a round that is read after this finds the model ready.
        """
        join = self._joins.pop(ended.join, None)
        if join is None:
            return
        join.error = ended.error
        join.ended.set()
        await self._changed.wait_until(lambda: join.actor.state is not ModelState.JOINING)

    async def ask_members(self, question: AskMembers) -> None:
        """Ask all models for a sign of life."""
        async with trio.open_nursery() as nursery:
            for member in self._living.values():
                nursery.start_soon(member.actor.answers_ping, question.timeout)
        self._say(MembersAsked(question.question))

    def answer_standings(self, question: AskStandings) -> None:
        """Say when each model was called, and succeeded."""
        self._say(Standings(question.question, tuple(self.judge.times(trio.current_time()))))

    def correct_standing(self, correction: StandingCorrected) -> None:
        """Take over how many timeouts the driver counts."""
        actor = self.actor(correction.number)
        if actor is not None:
            self.judge.correct(actor.conduct.record, correction, trio.current_time())

    # The shard's own life.

    def tell_quiet_changes(self) -> None:
        """Say of models that are not ready what has changed without a change of their state."""
        for member in list(self._unready):
            self._tell(member, again=False)

    def close(self, reason: str) -> None:
        """Stop all models."""
        if self._closed_because is None:
            self._closed_because = reason
            for member in list(self._living.values()):
                member.actor.stop(reason)

    def _number_of(self, model: Hashable) -> int | None:
        member = self._living.get(model)
        return None if member is None or self._members.get(member.number) is not member else member.number

    # What the actors say; see `model.supervisor.Supervisor`.

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """See `Supervisor.join`: `on_join` is the driver's."""
        if not self._has_on_join:
            return
        member = self._living[model]
        join_id = next(self._join_ids)
        join = self._joins[join_id] = _Join(member.actor)
        self._say(JoinWanted(join_id, member.number, reason, fresh))
        try:
            await join.ended.wait()
        finally:
            self._joins.pop(join_id, None)
        if join.error is not None:
            raise JoinFailedElsewhere(join.error)

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """See `Supervisor.state_changed`."""
        member = self._living[model]
        if member.actor.ready:
            self._unready.pop(member, None)
            if member.moved:
                member.moved = member.actor.conduct.record.strangers_told = False
        else:
            self._unready[member] = None
        self._tell(member, again=True)
        self._changed.send()

    def _tell(self, member: _Member, *, again: bool) -> None:
        if self._closed_because is not None:
            return  # it is the shard that ends, and not its models
        actor, error = member.actor, member.actor.error
        state = State(
            member.number,
            member.epoch,
            actor.state,
            actor.ready,
            member.heard,
            error=None if error is None else text_of(error) or repr(error),
            error_kind="" if error is None else name_of(error),
            condition=actor.condition,
            ours=actor.our_error is not None,
        )
        told = member.told
        if again or told is None or attrs.evolve(state, condition=told.condition, heard=told.heard) != told:
            member.told = state
            self._say(state)

    def infos_changed(self, model: ModelRunner) -> None:
        """See `Supervisor.infos_changed`: the driver knows."""

    async def call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """See `Supervisor.call_model`."""
        self._refuse()

    async def reset_model(self, model: ModelRunner, timeout: float | None) -> PredictResult[None]:
        """See `Supervisor.reset_model`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("in a shard, nobody calls models but the driver")
