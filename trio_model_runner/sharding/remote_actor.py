"""Stands in the driver for one deployment of one model, whose actor is in a shard.

The parts of the cluster (`Fleet`, `Membership`, `Reporting`) use it as they use a `ModelActor`. What they
tell it changes its state at once, by the same table, and goes to the shard as a command. What the shard's
actor says of its own state is taken over here, in order. So there is one truth about each model's place in
rounds: the driver's. This module knows no bytes, and not which shard is the right one; `catching_up` knows
what a join needs of the past.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, Unpack

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import describe, one_by_itself
from ..model.actor import ModelUnavailableError
from ..model.conduct import Conduct
from ..model.handle import ModelRunner
from ..model.lifecycle import CONNECTED, TABLE, TAKING_PART, UNAVAILABLE, Event
from ..model.policy import tried_again_when_held
from ..signal import Signal
from ..text import quoted, readable
from ..values.results import ModelError, ModelState
from .catching_up import CatchingUp
from .messages import Command, FromDriver, JoinEnded, JoinWanted, Start, State, Verb
from .told_errors import error_named, text_of

if TYPE_CHECKING:
    import grpclib.client

    from ..model.lifecycle import JoinReason
    from ..model.round_spec import CallOptions
    from ..model.supervisor import Supervisor
    from ..orchestrator import Entry
    from ..values.data import Arguments
    from ..values.results import PredictResult

__all__ = ["RemoteActor", "Way"]

logger = logging.getLogger("trio_model_runner.sharding")

_STOPPED: Final = "the orchestrator stopped the model"
_CRASHED: Final = "it crashed, and is being restarted"
_NO_CHANNEL: Final = (
    "model.channel: the connection to this model is in another process, since its cluster is a"
    " ShardedCluster; model.call works everywhere, and a Cluster has channels"
)


class Way(Protocol):
    """The way to the shard that has an actor.

    Attributes:
        index: the shard's number.
    """

    index: int

    def say(self, message: FromDriver) -> None:
        """Send a message, after those before it."""


class RemoteActor:
    """One deployment of one model. Only `live` and the methods for calls wait; the others never do.

    Args:
        supervisor: runs all models.
        entry: what the orchestrator says of it.
        reason: why it joins.
        number: its number in messages.
        longest_text: how long a text from outside may be, characters.
        find_way: called in `live`: has it brought up on a shard, by `assign`.
        lose_way: called when it is gone.

    Attributes:
        number: the same.
        epoch: how many shards have had it.
        way: the way to the shard that has it; None if none has, at this moment.
        runner: the handle that coordinators hold.
        deployment_id: see `ModelActor`, as the next ones.
        infos: see there.
        host: see there.
        port: see there.
        error: see there.
        our_error: see there.
        conduct: what counts for and against it, in the driver's judge.
        replaced: another deployment has taken its place.
        connected_at: when its connection was made, as far as is known here; None without one.
        condition: its state in words.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        entry: Entry,
        reason: JoinReason,
        *,
        number: int,
        longest_text: int,
        find_way: Callable[[RemoteActor], None],
        lose_way: Callable[[RemoteActor], None],
    ) -> None:
        self.number = number
        self.epoch = 0
        self.way: Way | None = None
        self.deployment_id = entry.deployment_id
        self.infos = entry.infos
        self.host = entry.host
        self.port = entry.port
        self.error: BaseException | None = None
        self.our_error: Exception | None = None
        self.replaced = False
        self.connected_at: float | None = None
        self.runner = ModelRunner(
            self, model_id=entry.model_id, deployment_id=entry.deployment_id, longest_text=longest_text
        )
        self.conduct = Conduct(self.runner, entry.host, supervisor.judge)
        self._supervisor = supervisor
        self._reason = reason
        self._longest_text = longest_text
        self._find_way = find_way
        self._lose_way = lose_way
        self._state = ModelState.ANNOUNCED
        self._ready = False
        self._told_condition = ""
        self._commands = 0  # so many were sent in this epoch
        self._expected = 0  # what was said before so many were read is out of date
        self._held = False
        self._catching_up = CatchingUp(supervisor, self.runner)
        self._changed = Signal()
        self._nursery: trio.Nursery | None = None

    @property
    def state(self) -> ModelState:
        """Where it is in its life."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether it takes part in rounds, or is reachable where the cluster only observes."""
        return self._state in TAKING_PART and self._ready

    @property
    def condition(self) -> str:
        """Its state in words, for people, with the reason if it is not ready."""
        if self.replaced:
            return "replaced by another deployment"
        if self._told_condition:
            return self._told_condition
        return self._state.value if self.error is None else f"{self._state.value}: {describe(self.error)}"

    @property
    def channel(self) -> grpclib.client.Channel:
        """There is none.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(_NO_CHANNEL)

    def belongs_to(self, supervisor: object) -> bool:
        """Whether this is its supervisor."""
        return self._supervisor is supervisor

    async def call(
        self, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """See `ModelRunner.call`."""
        return await self._supervisor.call_model(self.runner, method, arguments, **options)

    async def reset(self, timeout: float | None) -> PredictResult[None]:
        """See `ModelRunner.reset`."""
        return await self._supervisor.reset_model(self.runner, timeout)

    def shorten(self, text: str) -> str:
        """Make a text from outside fit to be kept and shown; see `text.readable`."""
        return readable(text, self._longest_text)

    @enable_ki_protection
    async def live(self) -> None:
        """Be there until it is gone. This is shielded: only `stop` and `retire` end it."""
        with trio.CancelScope(shield=True), one_by_itself():
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if self._state is not ModelState.GONE:
                    self._find_way(self)
                await self._changed.wait_until(lambda: self._state is ModelState.GONE)
                nursery.cancel_scope.cancel()

    async def wait_usable(self, *, joining: bool) -> RemoteActor:
        """Wait until it carries calls.

        Raises:
            ModelUnavailableError: it will not, before something else happens.
        """
        while not self.ready:
            if joining or self._state in UNAVAILABLE:
                raise ModelUnavailableError(self.condition)
            await self._changed.wait()
        return self

    # Events from the orchestrator and the coordinator; see `ModelActor`.

    def update(self, infos: Mapping[str, Any]) -> None:
        """Take new infos from the orchestrator."""
        if infos == self.infos:
            return
        self.infos = infos
        self._supervisor.infos_changed(self.runner)
        self._command(Verb.UPDATE, infos=infos)

    def recover(self) -> None:
        """It crashed and is being restarted: let go of it until it is announced again."""
        if self._heeds(Event.CRASHED):
            self.conduct.begin_anew()
            self._catching_up.note_crash()
            self.error = ModelError(_CRASHED)
            self._command(Verb.RECOVER)
            self._happened(Event.CRASHED)

    def revive(self) -> None:
        """It is announced again: try it again if it was given up or recovering, and count attempts anew."""
        self._command(Verb.REVIVE)
        self._held = False
        if self._heeds(Event.ANNOUNCED_AGAIN):
            self.conduct.begin_anew()
            self._happened(Event.ANNOUNCED_AGAIN)

    def move(self, host: str, port: int) -> None:
        """It is announced at another address."""
        if self._heeds(Event.MOVED):
            self.host, self.port = host, port
            self.conduct.record.host = host
            self.conduct.begin_anew()
            self._command(Verb.MOVE, host=host, port=port)
            self._happened(Event.MOVED)

    def retire(self) -> None:
        """Another deployment has taken its place: let it finish its calls and go."""
        self.replaced = True
        self._command(Verb.RETIRE)
        self._happened(Event.REPLACED)

    def stop(self, reason: str = _STOPPED) -> None:
        """Let go of it at once; its calls are cut off."""
        self._command(Verb.STOP, text=reason)
        if self._heeds(Event.STOPPED):
            self._told_condition = f"{ModelState.GONE.value}: {reason}"
            self._happened(Event.STOPPED)

    def let_go(self, reason: str) -> None:
        """It was reported: let go of it until it is announced again."""
        if self._heeds(Event.REPORTED):
            if self.error is None or self._state is not ModelState.FAILED:
                self.error = ModelError(self.shorten(reason))
            self._command(Verb.LET_GO, text=reason)
            self._happened(Event.REPORTED)

    def try_later(self) -> None:
        """A report about it is held: if it was given up, try it again, with waits that grow."""
        if tried_again_when_held(self.error):
            self._held = True
            self._command(Verb.TRY_LATER)

    def try_now(self) -> None:
        """If it was given up, make the next attempt at once."""
        self._command(Verb.TRY_NOW)

    # What happens to its shard.

    def assign(self, way: Way) -> None:
        """Have it brought up on a shard."""
        self.way = way
        self.epoch += 1
        self._commands = self._expected = 0
        self._ready = False
        out = self._state in (ModelState.FAILED, ModelState.RECOVERING)
        way.say(
            Start(
                number=self.number,
                epoch=self.epoch,
                model_id=self.runner.model_id,
                deployment_id=self.deployment_id,
                host=self.host,
                port=self.port,
                infos=self.infos,
                reason=self._reason,
                recovering=out,
                known=self._catching_up.done,
            )
        )
        self.conduct.record.group = way.index
        if self._state is ModelState.FAILED:  # it stays so, and waits for the same
            self._command(Verb.LET_GO, text=str(self.error))
            if self._held:
                self._command(Verb.TRY_LATER)
            self._expected = self._commands

    def lose_shard(self, error: Exception) -> None:
        """Its shard is lost: nothing is known of it until another one has it."""
        self.way = None
        self._catching_up.note_loss(self._state)
        self._ready = False
        self._told_condition = ""
        self.connected_at = None
        if self._state is ModelState.RETIRING:
            self._become(ModelState.GONE)
        elif self._state in TAKING_PART:
            self.error = error
            self._become(ModelState.LOST)
        elif self._state not in UNAVAILABLE:
            self.error = error
            self._become(ModelState.CONNECTING)

    # What its shard says.

    def take_state(self, said: State) -> None:
        """Take over what the shard's actor says of itself."""
        if said.epoch != self.epoch or said.heard < self._expected:
            return
        if said.state is ModelState.JOINING and self._state is ModelState.READY:
            return  # `on_join` has ended meanwhile
        self._ready = said.ready
        self._told_condition = said.condition
        if said.state is not ModelState.FAILED:
            self.our_error = None
        self._take_error(said)
        self._become(said.state)

    def begin_join(self, wanted: JoinWanted) -> None:
        """The shard's actor has set it up: have the coordinator catch it up."""
        if self._state is ModelState.JOINING and self._nursery is not None and self.way is not None:
            self._nursery.start_soon(self._join, wanted, self.way)
        elif wanted.fresh:  # the shard does not say so once more
            self._catching_up.note_untold()

    @enable_ki_protection
    async def _join(self, wanted: JoinWanted, way: Way) -> None:
        joined = await self._catching_up.run(wanted.reason, fresh=wanted.fresh)
        if not joined or way is not self.way:
            return
        # No checkpoint since the end of `on_join`, or the model would miss a round.
        error = self._catching_up.error
        if error is None:
            self._ready = True
            self._happened(Event.JOINED)
            way.say(JoinEnded(wanted.join))
        else:
            name = quoted(self.runner.model_id)
            logger.error("on_join raised, so model %s stays out", name, exc_info=error)
            way.say(JoinEnded(wanted.join, error=describe(error)))

    def _take_error(self, said: State) -> None:
        if said.error is None:
            self.error = None
        elif said.ours and self._catching_up.error is not None:
            self.error = self.our_error = self._catching_up.error
        elif self.error is None or said.error != text_of(self.error):
            self.error = error_named(said.error_kind, said.error)
            if said.ours:
                self.our_error = self.error

    # What follows.

    def _heeds(self, event: Event) -> bool:
        return event in TABLE[self._state]

    def _happened(self, event: Event) -> None:
        """Something has happened here, and the shard is told, or has told: change the state at once."""
        transition = TABLE[self._state].get(event)
        if transition is not None:
            self._expected = self._commands
            self._become(transition[0])

    def _become(self, state: ModelState) -> None:
        previous = self._state
        if state is previous or previous is ModelState.GONE:
            self._changed.send()
            return
        self._state = state
        self._catching_up.note_state(previous, state)
        if state is ModelState.READY:
            self.error = None
        if state in CONNECTED and previous not in CONNECTED:
            self.connected_at = trio.current_time()
        elif state not in CONNECTED and state is not ModelState.REPLACING:
            self.connected_at = None
        self._changed.send()
        self._supervisor.state_changed(self.runner, previous)
        if state is ModelState.GONE:
            self._lose_way(self)

    def _command(self, verb: Verb, **more: Any) -> None:
        if self.way is not None and self._state is not ModelState.GONE:
            self._commands += 1
            self.way.say(Command(self.number, verb, **more))
