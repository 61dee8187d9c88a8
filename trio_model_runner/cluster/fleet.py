"""All models of a cluster: which are announced, which are ready, and what follows from what they do.

The parts of the cluster are joined here. What the orchestrator says goes into `membership`, which starts and
stops models. What the models' actors say goes out as changes, and to `reporting`. When a successor is ready,
`_take_in` has `membership` swap the deployments. These parts don't know each other, and none of them knows
rounds.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Unpack, cast

import attrs
import trio

from ..model.handle import ModelRunner, operator_of
from ..model.lifecycle import TAKING_PART, UP, JoinReason
from ..orchestrator import Disconnected, Entry, FeedEvent, Init, RunState, Update
from ..signal import Signal
from ..text import is_utf8, quoted, shown
from ..values.failure_codes import FailureCode
from ..values.results import ModelError, ModelState
from .actors import A
from .changes import Broadcast, Change, ChangeKind
from .losses import Losses
from .membership import Membership
from .reporting import Reporting

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from ..model.policy import PendingReport
    from ..model.round_spec import CallOptions
    from ..values.data import Arguments
    from ..values.results import Model, PredictResult
    from .actors import Actors, Calls
    from .feed import Feed
    from .hooks import Hooks

__all__ = ["Fleet"]

_OUT: Final = frozenset({ModelState.FAILED, ModelState.RECOVERING})
"""The states of a model that is announced, but given up or recovering."""

_AGAIN: Final = frozenset({ModelState.LOST, ModelState.CONNECTING})
"""The connection is gone, and will be made again."""


_LEFT_BLOCK: Final = "this cluster's block was left"

logger = logging.getLogger("trio_model_runner.cluster")


class Starter(Protocol):
    """What runs the actors: the nursery of the cluster's block."""

    def start_soon(self, part: Callable[[], Awaitable[object]], /) -> None:
        """Run a part of the cluster."""


class Fleet(Generic[A]):
    """The models of one cluster. For their actors, it is the `model.supervisor.Supervisor`.

    Args:
        config: the settings.
        feed: the orchestrator's feed.
        actors: makes the models' actors.
        join: lets the coordinator catch a model up. It gets the model, why it joins, and whether its instance
            is new.
        hooks: tells instruments what happens; None if there are none.
        instance_name: see `Reporting`.

    Attributes:
        actors: the same.
        calls: makes calls on single models. It must be set before a model runs.
        changes: the listeners.
        judge: decides what counts against the models.
        reporting: where reports are kept back.
        losses: lost connections that the log does not have yet.
        initialised: set when the orchestrator's first list has come.
        changed: sent whenever the state of a model or the membership changes.
        members: the announced models, by model id; it changes with them.
        only: the ids of the models that there are, whatever the orchestrator says; None for all.
    """

    calls: Calls[A]

    def __init__(
        self,
        config: ClusterConfig,
        feed: Feed,
        actors: Actors[A],
        *,
        join: Callable[[ModelRunner, JoinReason, bool], Awaitable[None]],
        hooks: Hooks | None = None,
        instance_name: str = "",
    ) -> None:
        self.actors = actors
        self.changes = Broadcast()
        self.reporting = Reporting(config, feed, self, hooks, instance_name)
        self.judge = self.reporting.judge
        self.losses = Losses()
        self.initialised = trio.Event()
        self.changed = Signal()
        self.only: Collection[str] | None = None
        self._max_models = config.orchestrator.max_models
        self._feed = feed
        self._join = join
        self._hooks = hooks
        self._membership: Membership[A] = Membership(self._start, max_models=self._max_models)
        self.members: Mapping[str, A] = self._membership.current
        self._ready: dict[str, ModelRunner] = {}
        self._crowded = False
        self._living: dict[ModelRunner, A] = {}
        self._told_out: dict[ModelRunner, tuple[ModelState, int]] = {}
        self._nursery: Starter | None = None

    def open(self, nursery: Starter) -> None:
        """Run models in this nursery from now on."""
        self._nursery = nursery

    def close(self) -> None:
        """Stop all models, and end the changes."""
        self._nursery = None
        self._ready.clear()
        for actor in list(self._living.values()):  # also those that were replaced, and finish their calls
            actor.stop(_LEFT_BLOCK)
        self.changes.end()
        self.changed.send()

    # What a coordinator sees.

    @property
    def ready(self) -> Mapping[str, ModelRunner]:
        """The models that are ready, or reachable if they are only observed, as of now, by model id."""
        return MappingProxyType(self._ready.copy())

    @property
    def announced(self) -> Mapping[str, ModelRunner]:
        """All models that the orchestrator says run or recover, as of now, by model id."""
        return MappingProxyType({model_id: actor.runner for model_id, actor in self.members.items()})

    @property
    def settled(self) -> bool:
        """Whether no announced model is being connected, proved, set up or caught up."""
        return all(actor.ready or actor.state in _OUT for actor in self.members.values())

    def count_ready(self) -> int:
        """How many models are ready."""
        return len(self._ready)

    def count_states(self) -> dict[str, int]:
        """How many announced models are in each state, by its value."""
        return dict(Counter(actor.state.value for actor in self.members.values()))

    def picture(self) -> list[Change]:
        """The present state, as the changes that would lead to it."""
        announced = self.announced.values()
        return [
            *(Change(ChangeKind.ANNOUNCED, model) for model in announced),
            *(Change(ChangeKind.JOINED, model) for model in self._ready.values()),
            *(
                Change(ChangeKind.FAILED, model, error=model.error)
                for model in announced
                if model.state in _OUT
            ),
        ]

    def choose(self, models: Iterable[Model | str]) -> tuple[list[A], list[str]]:
        """The models that a round calls, each once, and the ids among `models` that are not announced.

        Args:
            models: models or ids.

        Raises:
            TypeError: `models` is something else.
            ValueError: one of them is another cluster's.
        """
        if isinstance(models, str) or not isinstance(models, Iterable):
            rule = "models: must be several ModelRunners or ids"
            raise TypeError(f"{rule}, got one {type(models).__name__}: put it in a list")
        members: dict[A, None] = {}
        missing: dict[str, None] = {}
        for model in models:
            if not isinstance(model, str):
                members[self.actor_of(model, "models: must be ModelRunners or ids")] = None
            elif model in self.members:
                members[self.members[model]] = None
            else:
                missing[model] = None
        return list(members), list(missing)

    def report(self, model: Model, code: FailureCode | str, reason: str | None) -> None:
        """Report a model for the coordinator; see `Cluster.report_failure`."""
        actor = self.actor_of(model, "model: must be a ModelRunner")
        code = FailureCode(code)
        if not isinstance(reason, str | None):
            raise TypeError(f"reason: must be a str or None, got {type(reason).__name__}")
        if reason is not None and not is_utf8(reason):
            raise ValueError("reason: has a lone surrogate, which can't be sent")
        self.reporting.send(actor.runner, code, reason)

    def actor_of(self, model: object, otherwise: str) -> A:
        """The actor of a model of this cluster. The model may have left.

        Args:
            model: the model's handle.
            otherwise: the text of the TypeError.

        Raises:
            TypeError: `model` is no handle.
            ValueError: the model is another cluster's.
        """
        if not isinstance(model, ModelRunner):
            if isinstance(model, str):
                raise TypeError(f"{otherwise}, got the text {shown(model)}: cluster.announced has them by id")
            raise TypeError(f"{otherwise}, got {type(model).__name__}")
        operator = operator_of(model)
        if not operator.belongs_to(self):
            name = otherwise.partition(":")[0]
            raise ValueError(f"{name}: {quoted(model.model_id)} is another cluster's model")
        return cast("A", operator)

    # What the orchestrator says.

    def deliver(self, event: FeedEvent) -> None:
        """Take an event from the orchestrator's feed."""
        if self._nursery is None:
            return
        if self._hooks is not None:
            self._hooks.orchestrator_said(event)
        if isinstance(event, Disconnected):
            logger.warning("the orchestrator is away: %s", event.error)
            return
        if self.only is not None:
            entries = tuple(entry for entry in event.entries if entry.model_id in self.only)
            event = attrs.evolve(event, entries=entries)
        self._membership.apply(event)
        self._complain_of_crowds(event)
        if isinstance(event, Init):
            self.initialised.set()
        self.reporting.look_again()
        self.changed.send()

    def _complain_of_crowds(self, event: Init | Update) -> None:
        """Log that models are left out: once, and again only after there was room for all."""
        left_out = self._membership.left_out
        if left_out and not self._crowded:
            text = "orchestrator.max_models is %d: models beyond that are left out: %d"
            logger.error(text, self._max_models, left_out)
        if left_out or isinstance(event, Init):
            self._crowded = left_out > 0

    def _start(self, entry: Entry, reason: JoinReason) -> A:
        assert self._nursery is not None
        actor = self.actors.make(self, entry, reason)
        self._living[actor.runner] = actor
        self._tell(Change(ChangeKind.ANNOUNCED, actor.runner))
        if entry.state is RunState.RECOVERING:
            actor.recover()
        self._nursery.start_soon(actor.live)
        return actor

    # What the models' actors say: see `model.supervisor.Supervisor`.

    async def join(self, model: ModelRunner, reason: JoinReason, *, fresh: bool) -> None:
        """See `Supervisor.join`."""
        await self._join(model, reason, fresh)

    def state_changed(self, model: ModelRunner, previous: ModelState) -> None:
        """See `Supervisor.state_changed`."""
        if self._nursery is None:
            return
        actor, state = self._living[model], model.state
        if previous is ModelState.REPLACING and state is ModelState.READY:
            pass  # it took part in rounds all the time
        elif state in UP:
            self._take_in(actor)
        elif state is not ModelState.REPLACING and self._ready.get(model.model_id) is model:
            del self._ready[model.model_id]
        if previous in TAKING_PART and state in _AGAIN:
            self.losses.note_loss(model)
            self._tell(Change(ChangeKind.LOST, model, error=model.error))
        elif state in _OUT:
            self._tell_out(model, state)
        elif state is ModelState.GONE:
            self._see_off(actor)
        self.changed.send()

    def _tell_out(self, model: ModelRunner, state: ModelState) -> None:
        """Tell that a model is given up or recovers, but not each time when it was tried again in vain."""
        told = state, self._living[model].conduct.record.beginnings
        if self._told_out.get(model) == told:
            return
        self._told_out[model] = told
        logger.warning("model %s is %s: %s", quoted(model.model_id), state.value, quoted(str(model.error)))
        self._tell(Change(ChangeKind.FAILED, model, error=model.error))

    def _take_in(self, actor: A) -> None:
        """A model is ready, or reachable. If it is a successor, it replaces another deployment now."""
        model = actor.runner
        self._told_out.pop(model, None)
        self.losses.note_ready(model)
        replaced = self._membership.promote(model.model_id, actor)
        self._ready[model.model_id] = model
        if replaced is None:
            self._tell(Change(ChangeKind.JOINED, model))
        else:
            self.judge.dismiss(replaced.conduct.record)
            self._feed.withdraw(model.model_id)  # the new one may be at the same host
            self._tell(Change(ChangeKind.REDEPLOYED, model, previous=replaced.runner))

    def _see_off(self, actor: A) -> None:
        """A model is gone: forget it, and queue the change."""
        model = actor.runner
        del self._living[model]
        self.losses.forget(model)
        self._told_out.pop(model, None)
        self.judge.dismiss(actor.conduct.record)
        if model.model_id not in self._membership:
            self._feed.withdraw(model.model_id)
        if not actor.replaced:
            self._tell(Change(ChangeKind.LEFT, model))

    def infos_changed(self, model: ModelRunner) -> None:
        """See `Supervisor.infos_changed`."""
        self._tell(Change(ChangeKind.UPDATED, model))

    async def call_model(
        self, model: ModelRunner, method: str | None, arguments: Arguments, **options: Unpack[CallOptions]
    ) -> PredictResult[Any]:
        """See `Supervisor.call_model`."""
        return await self.calls.call_model(self._actor(model), method, arguments, **options)

    async def reset_model(self, model: ModelRunner, timeout: float | None) -> PredictResult[None]:
        """See `Supervisor.reset_model`."""
        return await self.calls.reset_model(self._actor(model), timeout)

    def _actor(self, model: ModelRunner) -> A:
        return self.actor_of(model, "model: must be a ModelRunner")

    # What reports need: see `reporting.Reportable`.

    def count(self) -> int:
        """See `Reportable.count`."""
        return len(self._membership)

    def is_moving(self, model: ModelRunner) -> bool:
        """See `Reportable.is_moving`."""
        return self._membership.is_moving(model.model_id, self._actor(model))

    def let_go(self, model: ModelRunner, reason: str) -> None:
        """See `Reportable.let_go`."""
        actor = self._actor(model)
        self.judge.reports.note_report(actor.conduct.record)
        actor.let_go(reason)

    def tell_held(self, model: ModelRunner, report: PendingReport) -> None:
        """See `Reportable.tell_held`."""
        error = ModelError(f"{report.code} is not reported, since others have the trouble: {report.reason}")
        self._tell(Change(ChangeKind.HELD, model, error=error))

    def try_later(self, model: ModelRunner) -> None:
        """See `Reportable.try_later`."""
        self._actor(model).try_later()

    def try_now(self, model: ModelRunner) -> None:
        """See `Reportable.try_now`."""
        self._actor(model).try_now()

    async def ping_all(self, timeout: float) -> None:
        """See `Reportable.ping_all`."""
        await self.actors.ping_all(self.members.values(), timeout)

    async def bring_up_to_date(self) -> None:
        """See `Reportable.bring_up_to_date`."""
        await self.actors.bring_up_to_date()

    def _tell(self, change: Change) -> None:
        self.changes.tell(change)
        if self._hooks is not None:
            self._hooks.model_changed(change)
